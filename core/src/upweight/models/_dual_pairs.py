"""Pair factors in the dual, which are fewer numbers than there are parameters."""

from __future__ import annotations

from typing import Any, TypeVar

from array_api_compat import array_namespace

from upweight.checks import batch_size, check_finite
from upweight.errors import BatchError
from upweight.linalg.gram import Factored, gram
from upweight.models._gram import GramInverse
from upweight.models._pairs import PairInfluence
from upweight.models._vectors import FactoredVectors
from upweight.trees import Tree

A = TypeVar("A")


class DualPairs(PairInfluence[A]):
    r"""A method whose inverse is \(\frac1\lambda (I - B^\top M B)\), of one block.

    The pair factor of a test sample with gradient g' is \(w = M B g'\), the inputs and output
    gradients that make up g' in the layers that stay factored, and its influence factor in the
    rest of the parameters.
    """

    @property
    def pair_width(self) -> int:
        """Numbers in the pair factor of a sample.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        inverse = self._dual_inverse()
        layers = inverse.vectors.layers
        if not layers:
            return self.n_parameters
        numbers = sum(_positions(layer) * sum(_widths(layer)) for layer in layers)
        return len(inverse.vectors) + numbers + inverse.factoring.n_rest

    def pair_factors(self, x: Tree[A], y: Tree[A]) -> A:
        """Return the pair factors of samples, (n, `pair_width`).

        See `upweight.protocols.SupportsPairFactors`.

        Raises:
            BatchError: a sample has more positions in a layer than any that was fitted.
        """
        inverse = self._dual_inverse()
        batch_size(x, y)
        vectors = inverse.factoring.gradients(self._measured, (x, y))
        products = vectors.inner_products(inverse.vectors)
        check_finite(products, what="gradient of the loss or measurement")
        weights = inverse.dual.solve(products)
        if not vectors.layers:
            factors: A = (vectors.rest - weights @ inverse.vectors.rest) / inverse.damping
            return factors
        xp = array_namespace(weights)
        pieces = [weights]
        for layer, fitted in zip(vectors.layers, inverse.vectors.layers, strict=True):
            even = _fitting(layer, _positions(fitted))
            pieces += [xp.reshape(part, (weights.shape[0], -1)) for part in _parts(even)]
        if vectors.rest is not None:
            pieces.append((vectors.rest - weights @ inverse.vectors.rest) / inverse.damping)
        factors = xp.concat(pieces, axis=1)
        check_finite(factors, what="influence factor")
        return factors

    def influences_from_pair_factors(self, pair_factors: A, x: Tree[A], y: Tree[A]) -> A:
        """Return the influences of training samples, given pair factors of test samples, (k, n).

        See `upweight.protocols.SupportsPairFactors`.
        """
        inverse = self._dual_inverse()
        batch_size(x, y)
        self._check_pair_factors(pair_factors)
        rows: Any = pair_factors
        values: Any = 0
        if inverse.vectors.layers:
            weights, layers, rows = self._unpacked(rows)
            own = inverse.factoring.layers(self._objective, (x, y))
            far = weights @ gram(inverse.vectors.layers, own)
            values = (gram(layers, own) - far) / inverse.damping
        if inverse.factoring.rest:
            objective: Any = inverse.factoring.of_rest(self._objective)
            values = values + objective.inner_products(rows, (x, y))
        check_finite(values, what="influence", axis=1)
        influences: A = values
        return influences

    def self_influences(self, x: Tree[A], y: Tree[A]) -> A:
        """Return the influence of each sample on itself, (n,), without those on the others.

        See `CurvatureInfluence.self_influences`.
        """
        inverse = self._dual_inverse()
        batch_size(x, y)
        own = inverse.factoring.gradients(self._objective, (x, y))
        products = own.inner_products(inverse.vectors)
        measured, moved = own, products
        if self._measured is not self._objective:
            measured = inverse.factoring.gradients(self._measured, (x, y))
            moved = measured.inner_products(inverse.vectors)
        far = array_namespace(products).sum(inverse.dual.solve(moved) * products, axis=1)
        values: A = (measured.paired(own) - far) / inverse.damping
        check_finite(values, what="self-influence")
        return values

    def _dual_inverse(self) -> GramInverse:
        self._fitted()
        (inverse,) = self._inverses.values()
        assert isinstance(inverse, GramInverse)
        return inverse

    def _unpacked(self, rows: Any) -> tuple[Any, list[Factored], Any]:
        """Return the weights, the factored parts and the rest of pair factors."""
        vectors: FactoredVectors = self._dual_inverse().vectors
        xp = array_namespace(rows)
        k, end = rows.shape[0], len(vectors)
        weights = rows[:, :end]
        layers = []
        for layer in vectors.layers:
            t, (i, o) = _positions(layer), _widths(layer)
            inputs = xp.reshape(rows[:, end : end + t * i], (k, t, i))
            end += t * i
            gradients = xp.reshape(rows[:, end : end + t * o], (1, k, t, o))
            end += t * o
            layers.append(Factored(inputs, gradients))
        return weights, layers, rows[:, end:]


def _positions(layer: Factored) -> int:
    return int(layer.inputs.shape[1])


def _widths(layer: Factored) -> tuple[int, int]:
    return int(layer.inputs.shape[2]), int(layer.gradients.shape[3])


def _parts(layer: Factored) -> tuple[Any, Any]:
    return layer.inputs, layer.gradients[0, ...]


def _fitting(layer: Factored, positions: int) -> Factored:
    if _positions(layer) > positions:
        raise BatchError(
            f"A layer sees {_positions(layer)} positions of these samples, and at most {positions} "
            "of those that were fitted. Pad all sequences to the same length."
        )
    return layer.padded(positions)
