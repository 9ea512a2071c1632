"""Solves and pair factors layer by layer, in the eigenbasis of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from array_api_compat import array_namespace

from upweight.checks import batch_size, check_finite
from upweight.models._columns import Columns
from upweight.models._factored import BlockGradients, block_gradients, layers_and_rest
from upweight.models._pairs import PairInfluence
from upweight.trees import Tree

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")

#: Numbers in the factors that are solved at a time: what stays in the cache of a processor.
FACTOR_NUMBERS = 2**20


class LayerPairs(PairInfluence[A]):
    """A method whose blocks are layers with a Kronecker eigenbasis, or diagonal.

    The pair factor of a test sample is its influence factor in these bases: training samples are
    taken there by their inputs and output gradients, which costs less than to bring the factors
    back.
    """

    #: Name of the layer that each block consists of, where there is one.
    _layer_of: Mapping[str, str]

    _columns: Columns

    @property
    def pair_width(self) -> int:
        """Numbers in the pair factor of a sample: one for each parameter.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        self._fitted()
        return self.n_parameters

    def pair_factors(self, x: Tree[A], y: Tree[A]) -> A:
        """Return the pair factors of samples, (n, p).

        See `upweight.protocols.SupportsPairFactors`.
        """
        found = self._gradients(self._measured, x, y)
        inverses: Mapping[str, Any] = self._inverses
        pieces = [inverses[name].solve_inside(layer) for name, layer in found.factored.items()]
        if found.plain:
            plain = {name: inverses[name].solve(rows) for name, rows in found.plain.items()}
            pieces.append(found.blocks.join(plain))
        factors = array_namespace(*pieces).concat(pieces, axis=1)
        check_finite(factors, what="influence factor")
        return cast(A, factors)

    def influences_from_pair_factors(self, pair_factors: A, x: Tree[A], y: Tree[A]) -> A:
        """Return the influences of training samples, given pair factors of test samples, (k, n).

        See `upweight.protocols.SupportsPairFactors`.
        """
        self._fitted()
        batch_size(x, y)
        self._check_pair_factors(pair_factors)
        rows: Any = pair_factors
        layers, rest, _ = layers_and_rest(self._objective, self._blocks, self._layer_of, (x, y))
        inverses: Mapping[str, Any] = self._inverses
        widths = [len(self._blocks.by_name[name].columns) for name in layers]
        *pieces, others = self._columns(rows, widths)
        total: Any = 0
        for (name, layer), piece in zip(layers.items(), pieces, strict=True):
            total = total + inverses[name].products_inside(piece, layer)
        if rest is not None:
            total = total + rest.inner_products(others, (x, y))
        check_finite(total, what="influence", axis=1)
        return cast(A, total)

    def influence_factors(self, x: Tree[A], y: Tree[A]) -> A:
        r"""Return \((H + \lambda I)^{-1} \nabla_\theta m\) of each sample, (n, p).

        See `CurvatureInfluence.influence_factors`.
        """
        found = self._gradients(self._measured, x, y)
        step = max(1, FACTOR_NUMBERS // self.n_parameters)
        pieces: list[Any] = [
            self._blocks.join(self._solved_factored(found.piece(start, start + step)))
            for start in range(0, batch_size(x, y), step)
        ]
        factors = array_namespace(*pieces).concat(pieces)
        check_finite(factors, what="influence factor")
        return cast(A, factors)

    def influence_factors_by_block(self, x: Tree[A], y: Tree[A]) -> dict[str, A]:
        """Return the influence factors of each sample in each block, (n, p of the block) by name.

        See `InfluencesByBlock.influence_factors_by_block`.
        """
        factors = self._solved_factored(self._gradients(self._measured, x, y))
        for rows in factors.values():
            check_finite(rows, what="influence factor")
        return factors

    def self_influences(self, x: Tree[A], y: Tree[A]) -> A:
        """Return the influence of each sample on itself, (n,), without those on the others.

        See `CurvatureInfluence.self_influences`.
        """
        if self._measured is not self._objective:
            return super().self_influences(x, y)
        found = self._gradients(self._objective, x, y)
        inverses: Mapping[str, Any] = self._inverses
        parts = [inverses[block].self_products(layer) for block, layer in found.factored.items()]
        parts += [
            array_namespace(rows).sum(inverses[block].solve(rows) * rows, axis=1)
            for block, rows in found.plain.items()
        ]
        total: Any = sum(parts[1:], start=parts[0])
        check_finite(total, what="influence")
        return cast(A, total)

    def _gradients(self, objective: Objective[A], x: Tree[A], y: Tree[A]) -> BlockGradients:
        self._fitted()
        batch_size(x, y)
        return block_gradients(objective, self._blocks, self._layer_of, (x, y))

    def _solved_factored(self, gradients: BlockGradients) -> dict[str, A]:
        inverses: Mapping[str, Any] = self._inverses
        return {
            block: inverses[block].solve_factored(gradients.factored[block])
            if block in gradients.factored
            else inverses[block].solve(gradients.plain[block])
            for block in self.block_names
        }
