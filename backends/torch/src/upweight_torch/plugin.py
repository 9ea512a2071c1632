"""Entry point of the torch backend; light, because it is imported to ask what there is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from upweight import hookimpl

if TYPE_CHECKING:
    from upweight import Backend


@hookimpl
def upweight_backend(name: str) -> Backend | None:
    """Return the torch backend; torch is imported here."""
    if name != "torch":
        return None
    from upweight_torch.backend import torch_backend

    return torch_backend


@hookimpl
def upweight_owner(model: object) -> str | None:
    """Say whether a model is a torch module."""
    torch = sys.modules.get("torch")
    return "torch" if torch is not None and isinstance(model, torch.nn.Module) else None
