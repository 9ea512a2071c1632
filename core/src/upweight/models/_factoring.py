"""Which parts of the gradients of an objective stay factored, and which are formed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from array_api_compat import array_namespace

from upweight.errors import UnsupportedCurvatureError
from upweight.linalg.gram import Factored, combinations, inner_products
from upweight.models._blocks import parameter_places, take_columns
from upweight.models._fisher import LayerFactors, exact_directions, layer_factors
from upweight.models._vectors import FactoredVectors
from upweight.protocols import SupportsLayers, SupportsOutputGradients
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")


class Factoring(Generic[A]):
    """How the gradients of an objective are split into layers that stay factored and the rest.

    A layer stays factored where the inner product of two gradients is cheaper so: it takes
    t²(i + o) operations, and i·o if they are formed.

    Args:
        objective: The mean loss.
        batch: A batch to see the layers on.

    Attributes:
        rest: Names of the parameters whose gradients are formed.
        n_factors: Numbers in the factored parts of one gradient.
    """

    def __init__(self, objective: Objective[A], batch: Batch[A]) -> None:
        found = _layers(objective, batch)
        self._names = [name for name, layer in found.items() if _stays_factored(layer)]
        columns = parameter_places(objective.parameters)
        kept = [found[name] for name in self._names]
        self._columns = [_columns_of(layer, columns) for layer in kept]
        self.n_factors = sum(
            math.prod(layer.inputs.shape[1:]) + math.prod(layer.gradients.shape[2:])
            for layer in kept
        )
        covered = {name for layer in kept for name in (layer.weight, layer.bias)}
        self.rest = [name for name in objective.parameters if name not in covered]
        self._rest_columns = [columns[name] for name in self.rest]

    @property
    def n_rest(self) -> int:
        """Number of parameters whose gradients are formed."""
        return sum(map(len, self._rest_columns))

    def of_rest(self, objective: Objective[A]) -> Objective[A]:
        """Return an objective as a function of the rest of the parameters."""
        return objective.restrict(self.rest) if self._names else objective

    def gradients(self, objective: Objective[A], batch: Batch[A]) -> FactoredVectors:
        """Return the gradient of the loss of each sample."""
        rest = self.of_rest(objective).gradients(batch) if self.rest else None
        return FactoredVectors(self.layers(objective, batch), rest)

    def layers(self, objective: Objective[A], batch: Batch[A]) -> tuple[Factored, ...]:
        """Return the gradient of the loss of each sample in the layers that stay factored."""
        return self._factored(_layers(objective, batch)) if self._names else ()

    def curvature_vectors(
        self, objective: Any, batch: Batch[A], directions: int
    ) -> Iterator[FactoredVectors]:
        r"""Yield vectors b with \(\sum_b b b^\top\) the Gauss-Newton matrix summed over samples.

        Args:
            objective: The mean loss.
            batch: n samples, which are taken in pieces.
            directions: Number of eigenvectors of the Hessian in the output that are pulled back for
                each sample, those of the largest eigenvalues.

        Raises:
            IndefiniteCurvatureError: the loss is not convex in the output of the model.
            UnsupportedCurvatureError: parameters outside of layers that stay factored have
                gradients, and the objective does not give them for directions in the output.
        """
        for piece, rows in exact_directions(objective, batch, directions):
            rest = None
            if self.rest:
                part: Any = self.of_rest(objective)
                if not isinstance(part, SupportsOutputGradients):
                    raise UnsupportedCurvatureError(
                        f"{type(objective).__name__} does not give gradients of outputs in the "
                        f"parameters {self.rest}. Use second_order_mode='empirical_fisher', or "
                        "CgInfluence."
                    )
                pulled = part.output_gradients(piece, rows)
                rest = array_namespace(pulled).reshape(pulled, (-1, pulled.shape[2]))
            found = layer_factors(objective.layers(piece, rows)) if self._names else {}
            yield FactoredVectors(self._factored(found), rest)

    def split(self, rows: Any) -> tuple[list[Any], Any]:
        """Return the columns of rows (k, p) that belong to each layer, and those of the rest."""
        rest = take_columns(rows, np.concatenate(self._rest_columns)) if self.rest else None
        return [take_columns(rows, columns) for columns in self._columns], rest

    def join(self, layers: Sequence[Any], rest: Any) -> Any:
        """Undo `split`."""
        pieces = [*layers, rest] if self.rest else [*layers]
        order = np.argsort(np.concatenate([*self._columns, *self._rest_columns]))
        return take_columns(array_namespace(*pieces).concat(pieces, axis=1), order)

    def products(self, rows: Any, vectors: FactoredVectors) -> Any:
        """Return the inner products of rows (k, p) with vectors, (k, N)."""
        layers, rest = self.split(rows)
        parts = [inner_products(*pair) for pair in zip(layers, vectors.layers, strict=True)]
        if rest is not None:
            parts.append(rest @ array_namespace(rest).matrix_transpose(vectors.rest))
        return sum(parts)

    def combinations(self, weights: Any, vectors: FactoredVectors) -> Any:
        """Return sums of vectors with weights (k, N), as rows (k, p)."""
        layers = [combinations(weights, layer) for layer in vectors.layers]
        return self.join(layers, weights @ vectors.rest if self.rest else None)

    def _factored(self, found: Mapping[str, LayerFactors]) -> tuple[Factored, ...]:
        return tuple(Factored(found[name].inputs, found[name].gradients) for name in self._names)


def _layers(objective: Any, batch: Batch[Any]) -> dict[str, LayerFactors]:
    return layer_factors(objective.layers(batch)) if isinstance(objective, SupportsLayers) else {}


def _stays_factored(layer: LayerFactors) -> bool:
    (_, t, i), o = layer.inputs.shape, layer.gradients.shape[3]
    return bool(t == 1 or 0 < t * t * (i + o) <= i * o)


def _columns_of(
    layer: LayerFactors,
    columns: Mapping[str, np.ndarray[Any, Any]],
) -> np.ndarray[Any, Any]:
    """Return the places of the weights (o, i) in the vector of all parameters, flattened."""
    o = layer.gradients.shape[3]
    own = columns[layer.weight]
    weight = own.reshape(-1, o).T if layer.transposed else own.reshape(o, -1)
    if layer.bias is not None:
        weight = np.column_stack([weight, columns[layer.bias]])
    return weight.ravel()
