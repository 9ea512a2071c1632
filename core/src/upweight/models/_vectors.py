"""Vectors over the parameters of which the parts that belong to layers stay factored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from upweight.linalg.gram import Factored, gram, joined, paired, squared_norms


@dataclass(frozen=True)
class FactoredVectors:
    """N vectors over the parameters.

    Attributes:
        layers: What belongs to each layer whose gradients stay factored.
        rest: The columns of all other parameters, (N, r), or None if there are none.
    """

    layers: tuple[Factored, ...]
    rest: Any

    def __len__(self) -> int:
        return len(self.layers[0]) if self.layers else int(self.rest.shape[0])

    def inner_products(self, others: FactoredVectors) -> Any:
        """Return the inner products of all pairs, (N, M)."""
        parts = [gram(self.layers, others.layers)] if self.layers else []
        if self.rest is not None:
            parts.append(self.rest @ array_namespace(self.rest).matrix_transpose(others.rest))
        return sum(parts)

    def paired(self, others: FactoredVectors) -> Any:
        """Return the inner product of each vector with the one in its place, (N,)."""
        parts = [paired(*pair) for pair in zip(self.layers, others.layers, strict=True)]
        if self.rest is not None:
            parts.append(array_namespace(self.rest).sum(self.rest * others.rest, axis=1))
        return sum(parts)

    def squared_norms(self) -> Any:
        """Return the squared norm of each vector, (N,)."""
        parts = []
        if self.layers:
            norms = squared_norms(self.layers)
            parts.append(array_namespace(norms).reshape(norms, (-1,)))
        if self.rest is not None:
            parts.append(array_namespace(self.rest).sum(self.rest**2, axis=1))
        return sum(parts)

    def take(self, indices: Any) -> FactoredVectors:
        """Return some of the vectors, (m,)."""
        rest = self.rest
        if rest is not None:
            rest = array_namespace(rest).take(rest, indices, axis=0)
        return FactoredVectors(tuple(layer.take(indices) for layer in self.layers), rest)

    @classmethod
    def joined(cls, pieces: Sequence[FactoredVectors]) -> FactoredVectors:
        """Return the vectors of all pieces, each direction's next to each other."""
        layers = zip(*(piece.layers for piece in pieces), strict=True)
        rests = [piece.rest for piece in pieces]
        rest = None if rests[0] is None else _joined_rest(rests, pieces)
        return cls(tuple(joined(layer) for layer in layers), rest)


def _joined_rest(rests: Sequence[Any], pieces: Sequence[FactoredVectors]) -> Any:
    """Join dense parts in the order of factored ones: by direction, then by sample."""
    xp = array_namespace(rests[0])
    directions = [piece.layers[0].gradients.shape[0] if piece.layers else 1 for piece in pieces]
    shaped = [
        xp.reshape(rest, (d, -1, rest.shape[1])) for rest, d in zip(rests, directions, strict=True)
    ]
    whole = xp.concat(shaped, axis=1)
    return xp.reshape(whole, (-1, whole.shape[2]))
