"""Aggregators that concatenate JAX arrays."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp


class JaxCatAggregator:
    """Concatenate the chunks of a sequence along the samples."""

    def __call__(self, chunks: Iterable[jax.Array]) -> jax.Array:
        """Return one array.

        Raises:
            ValueError: there is no chunk.
        """
        arrays = list(chunks)
        if not arrays:
            raise ValueError("There are no chunks to concatenate.")
        return jnp.concatenate(arrays)


class NestedJaxCatAggregator:
    """Concatenate rows of chunks into the full matrix of influences."""

    def __call__(self, rows: Iterable[Iterable[jax.Array]]) -> jax.Array:
        """Return one array: chunks joined along the second axis, rows along the first.

        Raises:
            ValueError: there is no chunk.
        """
        lists = [list(row) for row in rows]
        if not lists or not all(lists):
            raise ValueError("There are no chunks to concatenate.")
        return jnp.concatenate([jnp.concatenate(row, axis=1) for row in lists])
