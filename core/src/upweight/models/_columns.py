"""Columns of factors, for one layer after the other."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from array_api_compat import is_jax_array


class Columns:
    """Cuts arrays into columns, and remembers those of the last one while it is there.

    The same factors meet one training batch after the other. Slices of other arrays are views; those
    of JAX arrays are copies, and, since these never change, need not be taken again.
    """

    def __init__(self) -> None:
        self._last: tuple[Any, list[Any]] = None, []

    def __call__(self, rows: Any, widths: Sequence[int]) -> list[Any]:
        """Return the columns of rows (k, p) in pieces of these widths, and what is left of them."""
        known, pieces = self._last
        if known is not None and known() is rows:
            return pieces
        ends = [*accumulate(widths, initial=0), rows.shape[1]]
        pieces = [rows[:, start:stop] for start, stop in pairwise(ends)]
        if is_jax_array(rows):
            self._last = weakref.ref(rows, self._forget), pieces
        return pieces

    def _forget(self, gone: Any) -> None:
        if self._last[0] is gone:
            self._last = None, []

    def __reduce__(self) -> tuple[type[Columns], tuple[()]]:
        return Columns, ()
