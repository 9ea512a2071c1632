"""Entry point of the JAX backend; light, because it is imported to ask what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upweight import hookimpl
from upweight_jax.kinds import kind_of

if TYPE_CHECKING:
    from upweight import Backend


@hookimpl
def upweight_backend(name: str) -> Backend | None:
    """Return the JAX backend; JAX is imported here."""
    if name != "jax":
        return None
    from upweight_jax.backend import jax_backend

    return jax_backend


@hookimpl
def upweight_owner(model: object) -> str | None:
    """Say whether a model is a `JaxModel`, an Equinox or Flax module, or a pair with variables."""
    return None if kind_of(model) is None else "jax"
