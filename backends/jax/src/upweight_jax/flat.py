"""Parameters as vectors and back.

They are in ordered dictionaries: of plain ones, JAX sorts the keys.
"""

from __future__ import annotations

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np

from upweight.errors import ModelError

Parameters = OrderedDict[str, jax.Array]


def flatten(vector: Parameters) -> jax.Array:
    """Return values in the shapes of the parameters as one vector, (p,)."""
    return jnp.concatenate([value.ravel() for value in vector.values()])


def unflatten(vector: jax.Array, like: Parameters) -> Parameters:
    """Return a vector (p,) as values in the shapes of the parameters."""
    ends = np.cumsum([value.size for value in like.values()])[:-1]
    pieces = jnp.split(vector, ends)
    return OrderedDict(
        (name, piece.reshape(value.shape))
        for piece, (name, value) in zip(pieces, like.items(), strict=True)
    )


def check_parameters(parameters: Parameters) -> None:
    """Check that parameters can be joined to one vector, and that NumPy knows their type.

    Raises:
        ModelError: there is none, they have several types or devices, or another type than
            float32 or float64.
    """
    if not parameters:
        raise ModelError(
            "The model has no trainable parameter, so there is nothing to take influences over. "
            "Its floating-point arrays are its parameters, of which `trainable` selects some."
        )
    kinds = {
        (str(value.dtype), *sorted(map(str, value.devices()))) for value in parameters.values()
    }
    if len(kinds) > 1 or len(next(iter(kinds))) > 2:
        raise ModelError(
            "All trainable parameters must have one type and be on one device; got "
            f"{sorted(' on '.join(kind) for kind in kinds)}."
        )
    ((dtype, _),) = kinds
    if dtype not in ("float32", "float64"):
        raise ModelError(
            f"Trainable parameters must be float32 or float64; got {dtype}. "
            "Convert them, for example with `jax.tree.map(lambda p: p.astype('float32'), params)`."
        )
