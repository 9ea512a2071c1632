"""Aggregators that concatenate tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class TorchCatAggregator:
    """Concatenate the chunks of a sequence along the samples."""

    def __call__(self, chunks: Iterable[torch.Tensor]) -> torch.Tensor:
        """Return one tensor.

        Raises:
            ValueError: there is no chunk.
        """
        tensors = list(chunks)
        if not tensors:
            raise ValueError("There are no chunks to concatenate.")
        return torch.cat(tensors)


class NestedTorchCatAggregator:
    """Concatenate rows of chunks into the full matrix of influences."""

    def __call__(self, rows: Iterable[Iterable[torch.Tensor]]) -> torch.Tensor:
        """Return one tensor: chunks joined along the second axis, rows along the first.

        Raises:
            ValueError: there is no chunk.
        """
        lists = [list(row) for row in rows]
        if not lists or not all(lists):
            raise ValueError("There are no chunks to concatenate.")
        return torch.cat([torch.cat(row, dim=1) for row in lists])
