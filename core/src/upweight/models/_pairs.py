"""Influences of pairs through what a method knows best of a test sample."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from upweight.checks import batch_size
from upweight.errors import BatchError
from upweight.influence import InfluenceMode, ModeLike, both_or_default
from upweight.models._base import CurvatureInfluence
from upweight.trees import Tree

A = TypeVar("A")


class PairInfluence(CurvatureInfluence[A]):
    """A method with pair factors; see `upweight.protocols.SupportsPairFactors`."""

    @property
    @abstractmethod
    def pair_width(self) -> int:
        """Numbers in the pair factor of a sample.

        Raises:
            NotFittedError: `fit` has not been called.
        """

    @abstractmethod
    def pair_factors(self, x: Tree[A], y: Tree[A]) -> A:
        """Return the pair factors of samples, (n, `pair_width`).

        See `upweight.protocols.SupportsPairFactors`.
        """

    @abstractmethod
    def influences_from_pair_factors(self, pair_factors: A, x: Tree[A], y: Tree[A]) -> A:
        """Return the influences of training samples, given pair factors of test samples, (k, n).

        See `upweight.protocols.SupportsPairFactors`.
        """

    def influences(
        self,
        x_test: Tree[A],
        y_test: Tree[A],
        x: Tree[A] | None = None,
        y: Tree[A] | None = None,
        mode: ModeLike = InfluenceMode.Up,
    ) -> A:
        """Return the influences of training samples on test samples.

        See `InfluenceFunctionModel.influences`.
        """
        small = self.pair_width <= self.n_parameters
        if InfluenceMode(mode) is InfluenceMode.Perturbation or not small:
            return super().influences(x_test, y_test, x, y, mode)
        x_train, y_train = both_or_default(x, y, default=(x_test, y_test))
        batch_size(x_train, y_train)  # refused before factors are solved
        factors = self.pair_factors(x_test, y_test)
        return self.influences_from_pair_factors(factors, x_train, y_train)

    def _check_pair_factors(self, factors: object) -> None:
        shape = tuple(getattr(factors, "shape", ()))
        if len(shape) != 2 or shape[1] != self.pair_width:
            raise BatchError(
                f"`pair_factors` must have shape (k, {self.pair_width}); got "
                f"{shape or type(factors).__name__}."
            )
