r"""Vectors drawn in proportion to their squared norm, in one pass and without replacement.

References:
    Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing
    Letters 97 (2006), section 3: the m largest of \(u^{1/w}\) are such a sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from upweight.models._vectors import FactoredVectors


def drawn_vectors(
    pieces: Iterable[FactoredVectors], count: int, *, directions: int, rng: np.random.Generator
) -> tuple[FactoredVectors, float]:
    """Return some vectors, and the sum of the squared norms of all.

    How the samples fall into pieces does not matter.

    Args:
        pieces: All vectors.
        count: How many to draw.
        directions: Number of vectors of a sample.
        rng: Where randomness comes from.
    """
    kept: FactoredVectors | None = None
    best: Any = None
    total = 0.0
    for vectors in pieces:
        norms = vectors.squared_norms()
        xp = array_namespace(norms)
        total += float(xp.sum(norms))
        uniform = rng.random((len(vectors) // directions, directions)).T.ravel()
        logs = xp.asarray(np.log(uniform), dtype=norms.dtype, device=device(norms))
        never = xp.full_like(norms, -float("inf"))
        keys = xp.where(norms > 0, logs / xp.where(norms > 0, norms, xp.ones_like(norms)), never)
        some = xp.argsort(keys, descending=True)[:count]
        candidates, keys = vectors.take(some), xp.take(keys, some)
        if kept is not None:
            candidates = FactoredVectors.joined([kept, candidates])
            keys = xp.concat([best, keys])
            some = xp.argsort(keys, descending=True)[:count]
            candidates, keys = candidates.take(some), xp.take(keys, some)
        kept, best = candidates, keys
    assert kept is not None  # training data without a batch is refused when it is read
    return kept, total
