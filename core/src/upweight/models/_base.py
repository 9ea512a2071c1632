"""What the methods share: an objective, an inverse curvature, and the checks around them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any, Self, TypeVar

from upweight.checks import batch_size, check_finite, check_reusable
from upweight.errors import BatchError, ModelError, NotFittedError
from upweight.influence import InfluenceFunctionModel, InfluenceMode, ModeLike
from upweight.trees import Batch, Tree, perturbed_leaf

if TYPE_CHECKING:
    import numpy as np

    from upweight.protocols import InverseCurvature, Objective

A = TypeVar("A")


class CurvatureInfluence(InfluenceFunctionModel[A]):
    r"""An objective together with an inverse of its damped curvature.

    A method says in `_invert` how it builds \((H + \lambda I)^{-1}\) from the training data.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda \ge 0\), in units of the curvature.

    Raises:
        ModelError: the model has no trainable parameter.
        ValueError: the regularization is negative or not finite.
    """

    def __init__(self, objective: Objective[A], *, regularization: float) -> None:
        self._objective = objective
        self._n_parameters = sum(map(math.prod, objective.parameters.values()))
        if self._n_parameters == 0:
            raise ModelError(
                "The model has no trainable parameter, so there is nothing to take influences "
                "over. Unfreeze the parameters that matter (`requires_grad`)."
            )
        self._regularization = _checked_regularization(regularization)
        self._inverse: InverseCurvature[A] | None = None

    @property
    def n_parameters(self) -> int:
        """Number p of parameters that influences are taken over."""
        return self._n_parameters

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy name of the type that factors and influences have."""
        return self._objective.dtype

    @property
    def regularization(self) -> float:
        r"""The damping \(\lambda\)."""
        return self._regularization

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may ask this object for influences at once."""
        return self._objective.is_thread_safe

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` has been called."""
        return self._inverse is not None

    def fit(self, data: Iterable[Batch[A]], *, progress: bool = True) -> Self:
        """Fit the curvature of the mean loss over the training data and return this object.

        Args:
            data: The training batches `(x, y)`, in any order. How the samples fall into batches
                does not matter.
            progress: Whether to show a progress bar where the number of batches is known.

        Raises:
            DataError: there is no batch, or the data can be read only once (a generator).
            BatchError: a batch is not `(x, y)` with the same number of samples in every array.
            LossError: the loss of a batch is not the mean of the losses of its samples.
            NonFiniteError: a loss or its curvature is NaN or infinite.
        """
        check_reusable(data)
        self._inverse = self._invert(data, progress=progress)
        return self

    @abstractmethod
    def _invert(self, data: Iterable[Batch[A]], *, progress: bool) -> InverseCurvature[A]:
        """Return the inverse of the damped curvature of the mean loss over the data."""

    def influence_factors(self, x: Tree[A], y: Tree[A]) -> A:
        r"""Return \((H + \lambda I)^{-1} \nabla_\theta \ell\) of each sample, (n, p).

        Args:
            x: Inputs of n samples.
            y: Labels of the samples.

        Raises:
            NotFittedError: `fit` has not been called.
            BatchError: the arrays do not hold the same number of samples, or none.
            NonFiniteError: a gradient is NaN or infinite; the message names the samples.
        """
        inverse = self._fitted()
        batch_size(x, y)
        gradients = self._objective.gradients((x, y))
        check_finite(gradients, what="gradient of the loss")
        factors = inverse.solve(gradients)
        check_finite(factors, what="influence factor")
        return factors

    def influences_from_factors(
        self,
        z_test_factors: A,
        x: Tree[A],
        y: Tree[A],
        mode: ModeLike = InfluenceMode.Up,
    ) -> A:
        """Return the influences of training samples, given the factors of test samples.

        Args:
            z_test_factors: What `influence_factors` returned for k test samples, (k, p).
            x: Inputs of n training samples.
            y: Labels of the training samples.
            mode: What of the training samples is varied.

        Returns:
            (k, n) for `InfluenceMode.Up`, (k, n, *x) for `InfluenceMode.Perturbation`.

        Raises:
            NotFittedError: `fit` has not been called.
            UnsupportedInfluenceModeError: the mode is unknown, or the input is not floating-point.
            BatchError: the arrays or the factors have the wrong shape.
            NonFiniteError: a result is NaN or infinite; the message names the samples.
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

    def _fitted(self) -> InverseCurvature[A]:
        if self._inverse is None:
            raise NotFittedError("Call `fit(data)` with the training data first.")
        return self._inverse

    def _check_factors(self, factors: Any) -> None:
        shape = tuple(getattr(factors, "shape", ()))
        if len(shape) != 2 or shape[1] != self._n_parameters:
            raise BatchError(
                f"`z_test_factors` must have shape (k, {self._n_parameters}), one column per "
                f"parameter; got {shape or type(factors).__name__}."
            )


def _checked_regularization(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"`regularization` must be a number; got {value!r}.")
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"`regularization` must be finite and not negative; got {value!r}.")
    return number
