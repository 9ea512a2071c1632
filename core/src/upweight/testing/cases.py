"""The methods of core, each with options in which it has a closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upweight import models
from upweight.testing.problem import Problem

#: The damping of most methods: more than the Hessian of the reference is negative.
DAMPING = 0.5

#: Options and needs that several cases share.
GAUSS_NEWTON: dict[str, Any] = {"second_order_mode": "gauss_newton"}
FISHER: dict[str, Any] = {"second_order_mode": "empirical_fisher"}
TIGHT: dict[str, Any] = {"rtol": 1e-11}
DUAL: dict[str, Any] = {"damping": "absolute", "directions": None}
PRODUCTS = ("SupportsGaussNewton",)
LAYERS = ("SupportsLayers",)

#: The methods of core by the name under which backends register them.
METHODS: Mapping[str, type[Any]] = {
    "direct": models.DirectInfluence,
    "cg": models.CgInfluence,
    "lissa": models.LissaInfluence,
    "arnoldi": models.ArnoldiInfluence,
    "nystroem_sketch": models.NystroemSketchInfluence,
    "ekfac": models.EkfacInfluence,
    "gram": models.GramInfluence,
    "inverse_harmonic_mean": models.InverseHarmonicMeanInfluence,
    "gradient": models.GradientInfluence,
}


@dataclass(frozen=True)
class Case:
    """A method with options, and what it then computes.

    Attributes:
        name: What tests and reports call it.
        method: Its registered name.
        exact: Which curvature it inverts: "hessian", "gauss_newton", "empirical_fisher", "identity"
            or the "harmonic_mean" of those of single samples.
        options: How the method is made, besides its damping.
        damping: What the method adds to the diagonal of the curvature.
        by_layer: Whether each layer has a curvature of its own.
        needs: Capabilities without which it cannot be used.
        n: Number of training samples for which the closed form holds, None for any.
    """

    name: str
    method: str
    exact: str
    options: Mapping[str, Any] = field(default_factory=dict)
    damping: float = DAMPING
    by_layer: bool = False
    needs: tuple[str, ...] = ()
    n: int | None = None

    def made(self, problem: Problem, factory: Any = None) -> Any:
        """Return the method, not fitted: on the objective, or by a factory for model and loss."""
        options = dict(self.options)
        if self.method != "gradient":
            options["regularization"] = self.damping
        if self.by_layer and self.method != "ekfac":
            options["block_structure"] = problem.blocks
        if "rtol" in options and problem.dtype == "float32":
            options["rtol"] = 1e-5
        if factory is not None:
            return factory(problem.model, problem.loss, **options)
        return METHODS[self.method](problem.objective, **options)


CASES = (
    Case("gradient", "gradient", "identity"),
    Case("inverse harmonic mean", "inverse_harmonic_mean", "harmonic_mean", by_layer=True),
    Case("direct, Hessian", "direct", "hessian"),
    Case("direct, Hessian of each layer", "direct", "hessian", by_layer=True),
    Case("direct, Gauss-Newton", "direct", "gauss_newton", GAUSS_NEWTON, needs=PRODUCTS),
    Case("direct, empirical Fisher", "direct", "empirical_fisher", FISHER),
    Case("conjugate gradients, Hessian", "cg", "hessian", TIGHT),
    Case(
        "conjugate gradients, Gauss-Newton",
        "cg",
        "gauss_newton",
        TIGHT | GAUSS_NEWTON,
        needs=PRODUCTS,
    ),
    Case("conjugate gradients, empirical Fisher", "cg", "empirical_fisher", TIGHT | FISHER),
    Case(
        "conjugate gradients, Jacobi preconditioner",
        "cg",
        "hessian",
        TIGHT | {"preconditioner": models.JacobiPreconditioner()},
    ),
    Case(
        "conjugate gradients, Nyström preconditioner",
        "cg",
        "empirical_fisher",
        TIGHT | FISHER | {"preconditioner": models.NystroemPreconditioner(rank=10)},
    ),
    Case(
        "conjugate gradients, EK-FAC preconditioner",
        "cg",
        "hessian",
        TIGHT | {"preconditioner": models.EkfacPreconditioner()},
        needs=LAYERS,
    ),
    # Its steps shrink the error by the damping's part of the largest eigenvalue.
    Case("LiSSA, Hessian", "lissa", "hessian", TIGHT, damping=4.0),
    # The matrix has the rank of the samples; one step more is for the start, which is outside.
    Case(
        "Arnoldi, empirical Fisher",
        "arnoldi",
        "empirical_fisher",
        {"rank": 12, "krylov_dimension": 13} | FISHER,
    ),
    Case(
        "Nyström sketch, Gauss-Newton",
        "nystroem_sketch",
        "gauss_newton",
        {"rank": 40} | GAUSS_NEWTON,
        needs=PRODUCTS,
    ),
    Case(
        "Nyström sketch, empirical Fisher",
        "nystroem_sketch",
        "empirical_fisher",
        {"rank": 40} | FISHER,
    ),
    # One sample has one input of each layer, so that its curvature is a Kronecker product.
    Case(
        "EK-FAC",
        "ekfac",
        "gauss_newton",
        {"fisher": "exact", "damping": "absolute"},
        by_layer=True,
        needs=LAYERS,
        n=1,
    ),
    Case("Gram matrix, Gauss-Newton", "gram", "gauss_newton", DUAL | GAUSS_NEWTON, needs=LAYERS),
    Case("Gram matrix, empirical Fisher", "gram", "empirical_fisher", DUAL | FISHER),
)
