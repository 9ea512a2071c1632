"""The influence methods, for JAX models.

Each is the method of the same name in `upweight.models` on a `JaxObjective`. All of them take:

    model: `JaxModel(apply, params)`, an Equinox module, a Flax nnx module, or a pair of a Flax linen
        module and its variables. Its present parameters are taken.
    loss: Called as `loss(output, y)`, the mean over the samples of a batch.
    trainable: Names of parameters or layers that influences are taken over, or a function that says
        so of a name; by default all parameters. The others are constants.
    measurement: Called as `measurement(output, y)` with one test sample instead of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax

from upweight import BlockMode, SecondOrderMode, models
from upweight_jax.batches import Loss
from upweight_jax.model import Trainable
from upweight_jax.objective import JaxObjective

Blocks = BlockMode | str | Mapping[str, Sequence[str]]


class DirectInfluence(models.DirectInfluence[jax.Array]):
    """`upweight.models.DirectInfluence` for a JAX model: the dense curvature, inverted exactly."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        *,
        trainable: Trainable | None = None,
        regularization: float | Mapping[str, float] = 0.0,
        block_structure: Blocks = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Loss | None = None,
        max_memory: int | None = None,
    ) -> None:
        objective = JaxObjective(model, loss, trainable=trainable)
        super().__init__(
            objective,
            regularization=regularization,
            block_structure=block_structure,
            second_order_mode=second_order_mode,
            measurement=_measuring(objective, measurement),
            max_memory=max_memory,
        )


class CgInfluence(models.CgInfluence[jax.Array]):
    """`upweight.models.CgInfluence` for a JAX model: solves by conjugate gradients."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        *,
        trainable: Trainable | None = None,
        regularization: float | Mapping[str, float] = 0.0,
        rtol: float = 1e-4,
        atol: float = 0.0,
        maxiter: int = 1000,
        solver: Literal["lockstep", "block"] = "lockstep",
        preconditioner: models.Preconditioner | None = None,
        block_structure: Blocks = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Loss | None = None,
    ) -> None:
        objective = JaxObjective(model, loss, trainable=trainable)
        super().__init__(
            objective,
            regularization=regularization,
            rtol=rtol,
            atol=atol,
            maxiter=maxiter,
            solver=solver,
            preconditioner=preconditioner,
            block_structure=block_structure,
            second_order_mode=second_order_mode,
            measurement=_measuring(objective, measurement),
        )


class ArnoldiInfluence(models.ArnoldiInfluence[jax.Array]):
    """`upweight.models.ArnoldiInfluence` for a JAX model: the largest eigenvalues, by Lanczos."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        *,
        trainable: Trainable | None = None,
        regularization: float | Mapping[str, float],
        rank: int = 50,
        krylov_dimension: int | None = None,
        outside: Literal["damped", "dropped"] = "damped",
        seed: int = 0,
        block_structure: Blocks = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Loss | None = None,
    ) -> None:
        objective = JaxObjective(model, loss, trainable=trainable)
        super().__init__(
            objective,
            regularization=regularization,
            rank=rank,
            krylov_dimension=krylov_dimension,
            outside=outside,
            seed=seed,
            block_structure=block_structure,
            second_order_mode=second_order_mode,
            measurement=_measuring(objective, measurement),
        )


class NystroemSketchInfluence(models.NystroemSketchInfluence[jax.Array]):
    """`upweight.models.NystroemSketchInfluence` for a JAX model: low rank, from one pass."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        *,
        trainable: Trainable | None = None,
        regularization: float | Mapping[str, float],
        rank: int,
        seed: int = 0,
        indefinite: Literal["refuse", "shift"] = "refuse",
        block_structure: Blocks = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Loss | None = None,
    ) -> None:
        objective = JaxObjective(model, loss, trainable=trainable)
        super().__init__(
            objective,
            regularization=regularization,
            rank=rank,
            seed=seed,
            indefinite=indefinite,
            block_structure=block_structure,
            second_order_mode=second_order_mode,
            measurement=_measuring(objective, measurement),
        )


class LissaInfluence(models.LissaInfluence[jax.Array]):
    """`upweight.models.LissaInfluence` for a JAX model: the Neumann series, batch by batch."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        *,
        trainable: Trainable | None = None,
        regularization: float | Mapping[str, float] = 0.0,
        rtol: float = 1e-4,
        maxiter: int = 5000,
        scale: float | None = None,
        repeats: int = 1,
        seed: int = 0,
        block_structure: Blocks = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Loss | None = None,
    ) -> None:
        objective = JaxObjective(model, loss, trainable=trainable)
        super().__init__(
            objective,
            regularization=regularization,
            rtol=rtol,
            maxiter=maxiter,
            scale=scale,
            repeats=repeats,
            seed=seed,
            block_structure=block_structure,
            second_order_mode=second_order_mode,
            measurement=_measuring(objective, measurement),
        )


class GramInfluence(models.GramInfluence[jax.Array]):
    """`upweight.models.GramInfluence` for a JAX model: Gauss-Newton, solved in the dual."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        *,
        trainable: Trainable | None = None,
        regularization: float = 1.0,
        damping: Literal["relative", "absolute"] = "relative",
        directions: int | None = 2,
        landmarks: int | None = None,
        second_order_mode: SecondOrderMode
        | Literal["gauss_newton", "empirical_fisher"] = SecondOrderMode.GAUSS_NEWTON,
        measurement: Loss | None = None,
        max_memory: int | None = None,
        seed: int = 0,
    ) -> None:
        objective = JaxObjective(model, loss, trainable=trainable)
        super().__init__(
            objective,
            regularization=regularization,
            damping=damping,
            directions=directions,
            landmarks=landmarks,
            second_order_mode=second_order_mode,
            measurement=_measuring(objective, measurement),
            max_memory=max_memory,
            seed=seed,
        )


class InverseHarmonicMeanInfluence(models.InverseHarmonicMeanInfluence[jax.Array]):
    """`upweight.models.InverseHarmonicMeanInfluence` for a JAX model: the closed form of DataInf."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        *,
        trainable: Trainable | None = None,
        regularization: float | Mapping[str, float],
        block_structure: Blocks = BlockMode.LAYER_WISE,
        measurement: Loss | None = None,
    ) -> None:
        objective = JaxObjective(model, loss, trainable=trainable)
        super().__init__(
            objective,
            regularization=regularization,
            block_structure=block_structure,
            measurement=_measuring(objective, measurement),
        )


class GradientInfluence(models.GradientInfluence[jax.Array]):
    """`upweight.models.GradientInfluence` for a JAX model: products or cosines of gradients."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        *,
        trainable: Trainable | None = None,
        normalize: bool = False,
        block_structure: Blocks = BlockMode.FULL,
        measurement: Loss | None = None,
    ) -> None:
        objective = JaxObjective(model, loss, trainable=trainable)
        super().__init__(
            objective,
            normalize=normalize,
            block_structure=block_structure,
            measurement=_measuring(objective, measurement),
        )


class EkfacInfluence(models.EkfacInfluence[jax.Array]):
    """`upweight.models.EkfacInfluence` for a JAX model: Kronecker-factored curvature of layers.

    Covered are weights that the model multiplies with, or convolves with in one group, however it
    is written, also if it does so several times; not those used inside a loop (`scan`), or in other
    ways besides. Labels are drawn for `upweight_jax.cross_entropy`, `squared_error` and
    `binary_cross_entropy`; other losses take the exact form.
    """

    def __init__(
        self,
        model: Any,
        loss: Loss,
        *,
        trainable: Trainable | None = None,
        regularization: float | Mapping[str, float] = 0.1,
        damping: Literal["relative", "absolute"] = "relative",
        fisher: Literal["sampled", "exact", "empirical"] = "sampled",
        corrected: bool = True,
        uncovered: Literal["diagonal", "refuse"] = "diagonal",
        draws: int = 1,
        seed: int = 0,
        measurement: Loss | None = None,
    ) -> None:
        objective = JaxObjective(model, loss, trainable=trainable)
        super().__init__(
            objective,
            regularization=regularization,
            damping=damping,
            fisher=fisher,
            corrected=corrected,
            uncovered=uncovered,
            draws=draws,
            seed=seed,
            measurement=_measuring(objective, measurement),
        )


def _measuring(objective: JaxObjective, measurement: Loss | None) -> JaxObjective | None:
    return None if measurement is None else objective.measuring(measurement)
