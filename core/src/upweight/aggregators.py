"""Aggregators that need no framework."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

A = TypeVar("A")


class ListAggregator:
    """Collect the chunks of a sequence in a list."""

    def __call__(self, chunks: Iterable[A]) -> list[A]:
        """Return the chunks in order."""
        return list(chunks)


class NestedListAggregator:
    """Collect rows of chunks in a list of lists."""

    def __call__(self, rows: Iterable[Iterable[A]]) -> list[list[A]]:
        """Return the rows in order, each as a list of its chunks."""
        return [list(row) for row in rows]
