"""The influence methods, for torch models.

Each is the method of the same name in `upweight.models` on a `TorchObjective`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from upweight import models
from upweight_torch.objective import TorchObjective


class DirectInfluence(models.DirectInfluence[torch.Tensor]):
    r"""Influence with the Hessian H of the mean training loss, built in full and inverted exactly.

    Factors are \((H + \lambda I)^{-1} \nabla_\theta \ell(z)\). For models of up to some thousands
    of trainable parameters; see `upweight.models.DirectInfluence`.

    Args:
        model: The trained model; what does not require gradients is a constant. It is copied in
            evaluation mode and not touched.
        loss: Called as `loss(output, y)`, the mean over the samples of a batch.
        regularization: \(\lambda\), in units of the curvature.
        max_memory: Most bytes that `fit` may need; by default what is free on the device.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Callable[[Any, Any], torch.Tensor],
        *,
        regularization: float = 0.0,
        max_memory: int | None = None,
    ) -> None:
        super().__init__(
            TorchObjective(model, loss), regularization=regularization, max_memory=max_memory
        )


class CgInfluence(models.CgInfluence[torch.Tensor]):
    r"""Influence with the Hessian H of the mean training loss, solved by conjugate gradients.

    Factors are \((H + \lambda I)^{-1} \nabla_\theta \ell(z)\), each found with one pass over the
    training data a step for all test samples of a batch; see `upweight.models.CgInfluence`.

    Args:
        model: The trained model; what does not require gradients is a constant. It is copied in
            evaluation mode and not touched.
        loss: Called as `loss(output, y)`, the mean over the samples of a batch.
        regularization: \(\lambda\), in units of the curvature.
        rtol: A row is solved when the norm of its residual is at most `rtol` times its own norm,
        atol: or at most `atol`.
        maxiter: Most steps of a row.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Callable[[Any, Any], torch.Tensor],
        *,
        regularization: float = 0.0,
        rtol: float = 1e-4,
        atol: float = 0.0,
        maxiter: int = 1000,
    ) -> None:
        super().__init__(
            TorchObjective(model, loss),
            regularization=regularization,
            rtol=rtol,
            atol=atol,
            maxiter=maxiter,
        )
