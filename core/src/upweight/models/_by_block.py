"""What each block of parameters contributes to influences."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

from upweight.influence import (
    InfluenceFunctionModel,
    InfluenceMode,
    ModeLike,
    both_or_default,
)
from upweight.models._blocks import Blocks
from upweight.trees import Tree

A = TypeVar("A")


class InfluencesByBlock(InfluenceFunctionModel[A]):
    """An influence model over blocks of parameters, whose contributions add up."""

    _blocks: Blocks

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks of parameters."""
        return tuple(self._blocks.by_name)

    @abstractmethod
    def influence_factors_by_block(self, x: Tree[A], y: Tree[A]) -> dict[str, A]:
        """Return the influence factors of each sample in each block, (n, p of the block) by name.

        Args:
            x: Inputs of n samples.
            y: Labels of the samples.

        Raises:
            NotFittedError: `fit` has not been called.
            BatchError: the arrays do not hold the same number of samples, or none.
            NonFiniteError: a gradient is NaN or infinite; the message names the samples.
        """

    def influences_from_factors_by_block(
        self,
        z_test_factors: Mapping[str, A],
        x: Tree[A],
        y: Tree[A],
        mode: ModeLike = InfluenceMode.Up,
    ) -> dict[str, A]:
        """Return what each block contributes to the influences of training samples.

        The contributions add up to `influences_from_factors`; the training batch is
        differentiated once for all blocks.

        Args:
            z_test_factors: What `influence_factors_by_block` returned for k test samples.
            x: Inputs of n training samples.
            y: Labels of the training samples.
            mode: What of the training samples is varied.

        Returns:
            By name (k, n) for `InfluenceMode.Up`, (k, n, *x) for `InfluenceMode.Perturbation`.

        Raises:
            ValueError: the names of the factors are not those of the blocks.
            NotFittedError: `fit` has not been called.
            UnsupportedInfluenceModeError: the mode is unknown, or the input is not floating-point.
            BatchError: the arrays or the factors have the wrong shape.
            NonFiniteError: a result is NaN or infinite; the message names the samples.
        """
        if set(z_test_factors) != set(self.block_names):
            raise ValueError(
                f"`z_test_factors` must have one array for each of the blocks {self.block_names}; "
                f"got {tuple(z_test_factors)}."
            )
        joined: Any = self._blocks.join(z_test_factors)
        values: Any = self.influences_from_factors(self._blocks.isolate(joined), x, y, mode)
        k = joined.shape[0]
        return {
            name: values[index * k : (index + 1) * k, ...]
            for index, name in enumerate(self.block_names)
        }

    def influences_by_block(
        self,
        x_test: Tree[A],
        y_test: Tree[A],
        x: Tree[A] | None = None,
        y: Tree[A] | None = None,
        mode: ModeLike = InfluenceMode.Up,
    ) -> dict[str, A]:
        """Return what each block contributes to the influences between batches, by name.

        Arguments, shapes and errors are those of `influences`.
        """
        mode = InfluenceMode(mode)
        x_train, y_train = both_or_default(x, y, default=(x_test, y_test))
        factors = self.influence_factors_by_block(x_test, y_test)
        return self.influences_from_factors_by_block(factors, x_train, y_train, mode)
