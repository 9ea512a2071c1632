"""Parameters as vectors and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from upweight.errors import ModelError

Parameters = Mapping[str, torch.Tensor]


def flatten(rows: Parameters) -> torch.Tensor:
    """Return k parameter-shaped dictionaries, each value (k, *shape), as rows (k, p)."""
    return torch.cat([value.flatten(1) for value in rows.values()], dim=1)


def unflatten(rows: torch.Tensor, like: Parameters) -> dict[str, torch.Tensor]:
    """Return rows (k, p) as values (k, *shape), one for each parameter in `like`."""
    pieces = rows.split([value.numel() for value in like.values()], dim=1)
    return {
        name: piece.reshape(-1, *value.shape)
        for piece, (name, value) in zip(pieces, like.items(), strict=True)
    }


def places(parameters: Parameters) -> dict[str, slice]:
    """Return where each parameter is in the vector of all."""
    found, start = {}, 0
    for name, value in parameters.items():
        found[name] = slice(start, start + value.numel())
        start += value.numel()
    return found


def check_parameters(parameters: Parameters) -> None:
    """Check that parameters can be joined to one vector, and that NumPy knows their type.

    Raises:
        ModelError: there is none, they have several types or devices, or another type than
            float32 or float64.
    """
    if not parameters:
        raise ModelError(
            "The model has no trainable parameter, so there is nothing to take influences over. "
            "Unfreeze the parameters that matter (`requires_grad_()`)."
        )
    kinds = {(value.dtype, value.device) for value in parameters.values()}
    if len(kinds) > 1:
        raise ModelError(
            "All trainable parameters must have one type and be on one device; got "
            f"{sorted(f'{dtype} on {device}' for dtype, device in kinds)}."
        )
    ((dtype, _),) = kinds
    if dtype not in (torch.float32, torch.float64):
        raise ModelError(
            f"Trainable parameters must be float32 or float64; got {dtype}. "
            "Convert the model, for example with `model.float()`."
        )
