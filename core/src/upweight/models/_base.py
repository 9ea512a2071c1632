"""What the methods share: an objective, inverse curvatures of blocks, and the checks around them."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast

from array_api_compat import array_namespace

from upweight.checks import batch_size, check_finite, check_reusable
from upweight.errors import BatchError, ModelError, NotFittedError
from upweight.influence import BlockMode, InfluenceMode, ModeLike, SecondOrderMode
from upweight.models._blocks import Blocks
from upweight.models._curvature import checked_mode
from upweight.models._fitting import fitting
from upweight.models._regularization import checked_regularization
from upweight.models._saving import SavedInfluence
from upweight.trees import Batch, Tree, perturbed_leaf

if TYPE_CHECKING:
    import numpy as np

    from upweight.models._diagnostics import Diagnostics
    from upweight.protocols import InverseCurvature, Objective

A = TypeVar("A")


class FittedCurvature(Protocol[A]):
    """The curvature of one block, ready to be inverted for any damping."""

    @property
    def diagnostics(self) -> Diagnostics:
        """How the fit went."""

    def damped(self, damping: float) -> InverseCurvature[A]:
        """Return (H + λI)⁻¹."""


class CurvatureInfluence(SavedInfluence[A]):
    r"""An objective together with inverses of its damped curvature, one for each block.

    A method says in `_fit` how it learns the curvatures from the training data.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda \ge 0\), in units of the curvature: a number, or one for each
            block by name.
        block_structure: Which parameters have a curvature of their own.
        second_order_mode: Which curvature.
        measurement: What is measured on test samples instead of the loss, as an objective of the
            same model.

    Raises:
        ModelError: the model has no trainable parameter.
        ValueError: the regularization is negative or not finite, or names other blocks.
        UnsupportedCurvatureError: the objective cannot form the curvature.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float | Mapping[str, float],
        block_structure: BlockMode | str | Mapping[str, Sequence[str]] = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Objective[A] | None = None,
    ) -> None:
        if sum(map(math.prod, objective.parameters.values())) == 0:
            raise ModelError(
                "The model has no trainable parameter, so there is nothing to take influences "
                "over. Unfreeze the parameters that matter (`requires_grad`)."
            )
        self._blocks = Blocks(objective.parameters, block_structure)
        self._objective = _restricted(objective, self._blocks.parameters)
        self._measured = self._objective
        if measurement is not None:
            self._measured = _restricted(measurement, self._blocks.parameters)
        self._regularization = checked_regularization(regularization, list(self._blocks.by_name))
        self._mode = checked_mode(second_order_mode, objective)
        self._curvatures: dict[str, FittedCurvature[A]] | None = None
        self._inverses: dict[str, InverseCurvature[A]] = {}

    @property
    def n_parameters(self) -> int:
        """Number p of parameters that influences are taken over."""
        return sum(map(math.prod, self._objective.parameters.values()))

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy name of the type that factors and influences have."""
        return self._objective.dtype

    @property
    def regularization(self) -> Mapping[str, float]:
        r"""The damping \(\lambda\) of each block."""
        return dict(self._regularization)

    def describe(self) -> dict[str, Any]:
        """Return, as JSON, the method, its options and the parameters of each block."""
        return {
            **super().describe(),
            "regularization": dict(self._regularization),
            "second_order_mode": self._mode.value,
            "blocks": {name: list(b.parameters) for name, b in self._blocks.by_name.items()},
            **self._settings(),
        }

    def _settings(self) -> dict[str, Any]:
        """Return the options that only this method has, as JSON."""
        return {}

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may ask this object for influences at once."""
        return self._objective.is_thread_safe

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` has been called."""
        return self._curvatures is not None

    @property
    def solves_on_workers(self) -> bool:
        """Whether a solve computes on a cluster, so that it starts from where the client is."""
        fitted = (self._curvatures or {}).values()
        return any(getattr(curvature, "distributed", False) for curvature in fitted)

    @property
    def fit_diagnostics(self) -> Mapping[str, Diagnostics]:
        """How the fit went, by block."""
        return {name: fitted.diagnostics for name, fitted in self._fitted().items()}

    @property
    def solve_diagnostics(self) -> Mapping[str, Diagnostics]:
        """How the last solve went, by block; empty before the first and for direct methods.

        With several threads, the solve that ended last.
        """
        self._fitted()
        told = {name: getattr(i, "diagnostics", None) for name, i in self._inverses.items()}
        return {name: diagnostics for name, diagnostics in told.items() if diagnostics is not None}

    def fit(self, data: Iterable[Batch[A]], *, progress: bool = True) -> Self:
        """Fit the curvature of the mean loss over the training data and return this object.

        Args:
            data: The training batches `(x, y)`, in any order. How the samples fall into batches
                does not matter.
            progress: Whether to show progress bars.

        Raises:
            DataError: there is no batch, or the data can be read only once (a generator).
            BatchError: a batch is not `(x, y)` with the same number of samples in every array.
            LossError: the loss of a batch is not the mean of the losses of its samples.
            NonFiniteError: a loss or its curvature is NaN or infinite.
        """
        check_reusable(data)
        name, p = type(self).__name__, self.n_parameters
        with fitting(name, parameters=p, blocks=len(self.block_names), progress=progress):
            curvatures = self._fit(data, progress=progress)
        self._inverses = self._inverted(curvatures)
        self._curvatures = curvatures
        return self

    def with_regularization(self, regularization: float | Mapping[str, float]) -> Self:
        r"""Return a fitted model with another damping \(\lambda\); nothing is fitted again.

        Args:
            regularization: A number, or one for each block by name.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: the regularization is negative or not finite, or names other blocks.
        """
        other = copy.copy(self)
        other._regularization = checked_regularization(regularization, list(self.block_names))
        other._inverses = other._inverted(self._fitted())
        return other

    @abstractmethod
    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:
        """Return the curvature of the mean loss over the data, by block."""

    def _inverted(
        self, curvatures: Mapping[str, FittedCurvature[A]]
    ) -> dict[str, InverseCurvature[A]]:
        inverses = {}
        for name, curvature in curvatures.items():
            inverses[name] = curvature.damped(self._regularization[name])
        return inverses

    def _objectives(self) -> dict[str, Objective[A]]:
        """Return the objective as a function of the parameters of each block."""
        return {
            name: _restricted(self._objective, block.parameters)
            for name, block in self._blocks.by_name.items()
        }

    def influence_factors(self, x: Tree[A], y: Tree[A]) -> A:
        r"""Return \((H + \lambda I)^{-1} \nabla_\theta m\) of each sample, (n, p).

        Here m is the measurement, by default the loss; see
        `InfluenceFunctionModel.influence_factors`.
        """
        return cast(A, self._blocks.join(self.influence_factors_by_block(x, y)))

    def influence_factors_by_block(self, x: Tree[A], y: Tree[A]) -> dict[str, A]:
        """Return the influence factors of each sample in each block, (n, p of the block) by name.

        See `InfluencesByBlock.influence_factors_by_block`.
        """
        self._fitted()
        batch_size(x, y)
        return self._solved(self._measured.gradients((x, y)))

    def influences_from_factors(
        self,
        z_test_factors: A,
        x: Tree[A],
        y: Tree[A],
        mode: ModeLike = InfluenceMode.Up,
    ) -> A:
        """Return the influences of training samples, given the factors of test samples.

        See `InfluenceFunctionModel.influences_from_factors`.
        """
        mode = InfluenceMode(mode)
        self._fitted()
        batch_size(x, y)
        self._check_factors(z_test_factors)
        if mode is InfluenceMode.Up:
            values = self._objective.inner_products(z_test_factors, (x, y))
        else:
            perturbed_leaf(x)
            values = self._objective.input_gradients(z_test_factors, (x, y))
        check_finite(values, what="influence", axis=1)
        return values

    def self_influences(self, x: Tree[A], y: Tree[A]) -> A:
        """Return the influence of each sample on itself, (n,), without those on the others.

        Args:
            x: Inputs of n samples.
            y: Labels of the samples.

        Raises:
            NotFittedError: `fit` has not been called.
            BatchError: the arrays do not hold the same number of samples, or none.
            NonFiniteError: a gradient is NaN or infinite; the message names the samples.
        """
        self._fitted()
        batch_size(x, y)
        gradients: Any = self._objective.gradients((x, y))
        measured = gradients
        if self._measured is not self._objective:
            measured = self._measured.gradients((x, y))
        factors = self._blocks.join(self._solved(measured))
        return cast(A, array_namespace(gradients).sum(factors * gradients, axis=1))

    def _solved(self, gradients: Any) -> dict[str, A]:
        check_finite(gradients, what="gradient of the loss or measurement")
        factors = self._solved_by_block(gradients)
        for rows in factors.values():
            check_finite(rows, what="influence factor")
        return factors

    def solve(self, rows: A) -> A:
        """Return the inverse of the damped curvature of all blocks times each row, (k, p).

        Raises:
            NotFittedError: `fit` has not been called.
        """
        self._fitted()
        return cast(A, self._blocks.join(self._solved_by_block(rows)))

    def _solved_by_block(self, rows: Any) -> dict[str, A]:
        parts = self._blocks.split(rows)
        return {name: self._inverses[name].solve(part) for name, part in parts.items()}

    def _fitted(self) -> dict[str, FittedCurvature[A]]:
        if self._curvatures is None:
            raise NotFittedError("Call `fit(data)` with the training data first.")
        return self._curvatures

    def _check_factors(self, factors: Any) -> None:
        shape = tuple(getattr(factors, "shape", ()))
        if len(shape) != 2 or shape[1] != self.n_parameters:
            raise BatchError(
                f"`z_test_factors` must have shape (k, {self.n_parameters}), one column per "
                f"parameter; got {shape or type(factors).__name__}."
            )


def _restricted(objective: Objective[A], names: Sequence[str]) -> Objective[A]:
    return objective if tuple(objective.parameters) == tuple(names) else objective.restrict(names)
