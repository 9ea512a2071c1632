"""Which framework a model was written in, without importing any."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Literal

Kind = Literal["plain", "equinox", "nnx", "linen"]


def kind_of(model: object) -> Kind | None:
    """Return what a model is, or None.

    "plain" is a `JaxModel`, "equinox" and "nnx" are modules, and "linen" is a pair of a module and
    its variables. A framework that nobody has imported has made no model.
    """
    if _is(model, "upweight_jax.model", "JaxModel"):
        return "plain"
    if _is(model, "equinox", "Module"):
        return "equinox"
    if _is(model, "flax.nnx", "Module"):
        return "nnx"
    if isinstance(model, tuple) and len(model) == 2:
        module, variables = model
        if _is(module, "flax.linen", "Module") and isinstance(variables, Mapping):
            return "linen"
    return None


def _is(model: object, module: str, name: str) -> bool:
    known = getattr(sys.modules.get(module), name, None)
    return isinstance(known, type) and isinstance(model, known)
