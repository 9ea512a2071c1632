"""How much one call may work on, and how many rows are compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from upweight.trees import Batch, map_leaves
from upweight_jax.model import FunctionalModel

#: Bytes of activations that one call may work on: what stays in the cache of a processor, and what
#: keeps an accelerator busy.
WORKING_BYTES = {"cpu": 16 * 2**20, "other": 2**30}

#: Rows that are pushed through a linear map at once.
ROWS_AT_ONCE = 32

#: Rows of one call; more are split.
MOST_ROWS = 1024


def capacity(sample_bytes: int, platform: str) -> int:
    """Return how many samples have activations that fit the working memory."""
    kind = "cpu" if platform == "cpu" else "other"
    return max(1, WORKING_BYTES[kind] // max(1, sample_bytes))


def compiled_rows(k: int) -> int:
    """Return the number of rows that k are padded to: a power of two, so that few are compiled."""
    return 1 << max(0, k - 1).bit_length()


def rows_at_once(k: int, samples: int) -> int:
    """Return how many of k rows, a power of two, to push at once.

    Args:
        k: Number of rows.
        samples: How many times the batch fits the working memory.
    """
    most = min(k, ROWS_AT_ONCE, max(1, samples))
    return 1 << (most.bit_length() - 1)


def bytes_of_sample(
    model: FunctionalModel, values: Mapping[str, jax.Array], batch: Batch[jax.Array]
) -> int:
    """Return the bytes of what the model computes for one sample more."""

    def total(n: int) -> int:
        x = map_leaves(
            lambda leaf: jax.ShapeDtypeStruct((n, *leaf.shape[1:]), leaf.dtype), batch[0]
        )
        return _bytes(jax.make_jaxpr(model)(dict(values), x).jaxpr)

    return max(1, total(2) - total(1))


def _bytes(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        total += sum(_size(var.aval) for var in equation.outvars)
        inner = [getattr(value, "jaxpr", None) for value in equation.params.values()]
        repeats = equation.params.get("length", 1)  # of a scan
        total += repeats * sum(_bytes(each) for each in inner if hasattr(each, "eqns"))
    return total


def _size(aval: Any) -> int:
    shape = getattr(aval, "shape", ())
    return int(np.prod(shape)) * int(getattr(aval.dtype, "itemsize", 4))
