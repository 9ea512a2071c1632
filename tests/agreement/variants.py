"""Every method in every variant whose numbers are its own, none decided by rounding.

Iterations stop far below the tolerance of the comparison, so that where one framework takes a step
more than another it does not show.
"""

from dataclasses import dataclass, field
from typing import Any

from upweight import models
from upweight.testing.cases import METHODS

TIGHT = {"rtol": 1e-10}
GAUSS_NEWTON = {"second_order_mode": "gauss_newton"}
FISHER = {"second_order_mode": "empirical_fisher"}


@dataclass(frozen=True)
class Variant:
    """A method with options, and whether only backends that know layers have it."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    layers: bool = False

    def frameworks(self):
        """Return the names of the frameworks that have it."""
        return ("torch", "jax") if self.layers else ("torch", "jax", "autograd")

    def made(self, problem):
        """Return the method of core on the one objective, whose functions are compiled once."""
        return METHODS[self.method](problem.objective, **self.options)


def cg(damping=1.0, *, layers=False, **options):
    return Variant("cg", {"regularization": damping} | TIGHT | options, layers)


def damped(method, damping, *, layers=False, **options):
    return Variant(method, {"regularization": damping} | options, layers)


VARIANTS = {
    "direct": damped("direct", 0.5),
    "direct, Gauss-Newton": damped("direct", 0.1, **GAUSS_NEWTON),
    "direct, Fisher": damped("direct", 0.1, **FISHER),
    "CG": cg(),
    "CG, Gauss-Newton": cg(0.1, **GAUSS_NEWTON),
    "CG, Fisher": cg(0.1, **FISHER),
    "CG, Jacobi": cg(preconditioner=models.JacobiPreconditioner(probes=20)),
    "CG, Nyström": cg(0.1, **FISHER, preconditioner=models.NystroemPreconditioner(rank=5)),
    "CG, EK-FAC": cg(layers=True, preconditioner=models.EkfacPreconditioner()),
    "block CG": cg(solver="block"),
    "block CG, Nyström": cg(
        0.1, **FISHER, solver="block", preconditioner=models.NystroemPreconditioner(rank=5)
    ),
    "LiSSA": damped("lissa", 10.0, rtol=1e-10, repeats=2),
    "Arnoldi": damped("arnoldi", 0.5, rank=3, krylov_dimension=5),
    "Arnoldi, dropped": damped(
        "arnoldi", 0.1, rank=3, krylov_dimension=5, outside="dropped", **GAUSS_NEWTON
    ),
    "Nyström": damped("nystroem_sketch", 0.1, rank=7, **GAUSS_NEWTON),
    "Nyström, shifted": damped("nystroem_sketch", 0.5, rank=7, indefinite="shift"),
    "EK-FAC, sampled": damped("ekfac", 0.1, layers=True, draws=2),
    "EK-FAC, exact": damped("ekfac", 0.1, layers=True, fisher="exact"),
    "EK-FAC, empirical": damped("ekfac", 0.1, layers=True, fisher="empirical", corrected=False),
    "Gram, Gauss-Newton": damped("gram", 1.0, layers=True),
    "Gram, Fisher": damped("gram", 1.0, layers=True, directions=None, **FISHER),
    "Gram, landmarks": damped("gram", 1.0, layers=True, landmarks=7),
    "harmonic mean": damped("inverse_harmonic_mean", 0.1),
    "gradient": Variant("gradient"),
    "cosine": Variant("gradient", {"normalize": True}),
}
