"""The influence methods, for torch models.

Each is the method of the same name in `upweight.models` on a `TorchObjective`. What they have in
common:

    model: The trained model; what does not require gradients is a constant. It is copied in
        evaluation mode and not touched.
    loss: Called as `loss(output, y)`, the mean over the samples of a batch.
    measurement: Called as `measurement(output, y)` with a batch of one test sample, instead of the
        loss: a margin, a logit, any number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from upweight import BlockMode, SecondOrderMode, models
from upweight_torch.objective import Loss, TorchObjective

Blocks = BlockMode | str | Mapping[str, Sequence[str]]


class DirectInfluence(models.DirectInfluence[torch.Tensor]):
    """`upweight.models.DirectInfluence` for a torch model: the dense curvature, inverted exactly."""

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *,
        regularization: float | Mapping[str, float] = 0.0,
        block_structure: Blocks = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Loss | None = None,
        max_memory: int | None = None,
    ) -> None:
        objective = TorchObjective(model, loss)
        super().__init__(
            objective,
            regularization=regularization,
            block_structure=block_structure,
            second_order_mode=second_order_mode,
            measurement=_measuring(objective, measurement),
            max_memory=max_memory,
        )


class CgInfluence(models.CgInfluence[torch.Tensor]):
    """`upweight.models.CgInfluence` for a torch model: solves by conjugate gradients."""

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *,
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
        objective = TorchObjective(model, loss)
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


class ArnoldiInfluence(models.ArnoldiInfluence[torch.Tensor]):
    """`upweight.models.ArnoldiInfluence` for a torch model: the largest eigenvalues, by Lanczos."""

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *,
        regularization: float | Mapping[str, float],
        rank: int = 50,
        krylov_dimension: int | None = None,
        outside: Literal["damped", "dropped"] = "damped",
        seed: int = 0,
        block_structure: Blocks = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Loss | None = None,
    ) -> None:
        objective = TorchObjective(model, loss)
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


class NystroemSketchInfluence(models.NystroemSketchInfluence[torch.Tensor]):
    """`upweight.models.NystroemSketchInfluence` for a torch model: low rank, from one pass."""

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *,
        regularization: float | Mapping[str, float],
        rank: int,
        seed: int = 0,
        indefinite: Literal["refuse", "shift"] = "refuse",
        block_structure: Blocks = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Loss | None = None,
    ) -> None:
        objective = TorchObjective(model, loss)
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


class LissaInfluence(models.LissaInfluence[torch.Tensor]):
    """`upweight.models.LissaInfluence` for a torch model: the Neumann series, batch by batch."""

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *,
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
        objective = TorchObjective(model, loss)
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


class GramInfluence(models.GramInfluence[torch.Tensor]):
    """`upweight.models.GramInfluence` for a torch model: Gauss-Newton, solved in the dual."""

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *,
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
        objective = TorchObjective(model, loss)
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


class InverseHarmonicMeanInfluence(models.InverseHarmonicMeanInfluence[torch.Tensor]):
    """`upweight.models.InverseHarmonicMeanInfluence` for a torch model: the closed form of DataInf."""

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *,
        regularization: float | Mapping[str, float],
        block_structure: Blocks = BlockMode.LAYER_WISE,
        measurement: Loss | None = None,
    ) -> None:
        objective = TorchObjective(model, loss)
        super().__init__(
            objective,
            regularization=regularization,
            block_structure=block_structure,
            measurement=_measuring(objective, measurement),
        )


class GradientInfluence(models.GradientInfluence[torch.Tensor]):
    """`upweight.models.GradientInfluence` for a torch model: products or cosines of gradients."""

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *,
        normalize: bool = False,
        block_structure: Blocks = BlockMode.FULL,
        measurement: Loss | None = None,
    ) -> None:
        objective = TorchObjective(model, loss)
        super().__init__(
            objective,
            normalize=normalize,
            block_structure=block_structure,
            measurement=_measuring(objective, measurement),
        )


class EkfacInfluence(models.EkfacInfluence[torch.Tensor]):
    """`upweight.models.EkfacInfluence` for a torch model: Kronecker-factored curvature of layers.

    Covered are `Linear`, `Conv1d` and `Conv2d` without groups, also if used several times. Labels
    are drawn for `F.cross_entropy`, `F.mse_loss`, `F.binary_cross_entropy_with_logits` and their
    modules; other losses take the exact form.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *,
        regularization: float | Mapping[str, float] = 0.1,
        damping: Literal["relative", "absolute"] = "relative",
        fisher: Literal["sampled", "exact", "empirical"] = "sampled",
        corrected: bool = True,
        uncovered: Literal["diagonal", "refuse"] = "diagonal",
        draws: int = 1,
        seed: int = 0,
        measurement: Loss | None = None,
    ) -> None:
        objective = TorchObjective(model, loss)
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


def _measuring(objective: TorchObjective, measurement: Loss | None) -> TorchObjective | None:
    return None if measurement is None else objective.measuring(measurement)
