"""Random numbers for training samples that do not depend on how these fall into batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RowStreams:
    """Random numbers of which each sample has its own.

    A function draws for n consecutive samples at once; its numbers for a sample depend on the seed,
    the place of the sample among all, and how often functions were called before.

    Args:
        seed: Integers.
        first: Place of the first of the samples.
    """

    def __init__(self, seed: Sequence[int], first: int) -> None:
        self._seed = seed
        self._first = first
        self._calls = 0

    def random(self, size: tuple[int, ...]) -> NDArray[Any]:
        """Return uniform numbers in [0, 1), (n, *).

        Args:
            size: Their shape.
        """
        source = np.random.PCG64([*self._seed, self._calls])
        self._calls += 1
        source.advance(self._first * math.prod(size[1:]))  # one step is one number
        return np.random.Generator(source).random(size)

    def standard_normal(self, size: tuple[int, ...]) -> NDArray[Any]:
        """Return standard normal numbers, (n, *).

        They are made of two uniform ones each (Box and Muller), since how many NumPy's own takes is
        not known before.

        Args:
            size: Their shape.
        """
        uniform = self.random((*size, 2))
        radius = np.sqrt(-2 * np.log1p(-uniform[..., 0]))
        return np.asarray(radius * np.cos(2 * np.pi * uniform[..., 1]))
