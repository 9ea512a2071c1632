"""What a calculator knows of an influence method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeAlias, TypeVar

from array_api_compat import array_namespace

from upweight.errors import UnsupportedInfluenceModeError
from upweight.trees import Batch, Tree, perturbed_leaf

if TYPE_CHECKING:
    import numpy as np

A = TypeVar("A")


class InfluenceMode(StrEnum):
    """What of a training sample is varied.

    `Up` asks how the test loss falls as the weight of the training sample grows, one number for
    each pair; `Perturbation` is the derivative of that number in each coordinate of the input of
    the training sample. The strings "up" and "perturbation" are accepted wherever a mode is.
    """

    Up = "up"
    Perturbation = "perturbation"

    @classmethod
    def _missing_(cls, value: object) -> InfluenceMode:
        raise UnsupportedInfluenceModeError(
            f"The influence mode must be one of {[mode.value for mode in cls]}; got {value!r}."
        )


class BlockMode(StrEnum):
    """Which parameters have a curvature of their own; the strings are accepted, too."""

    FULL = "full"
    LAYER_WISE = "layer_wise"
    PARAMETER_WISE = "parameter_wise"


class SecondOrderMode(StrEnum):
    r"""Which curvature of the mean training loss is inverted; the strings are accepted, too.

    `HESSIAN` is its Hessian; `GAUSS_NEWTON` the generalised Gauss-Newton matrix
    \(J^\top H_\ell J\), with J the Jacobian of the model output and \(H_\ell\) the Hessian of the
    loss in the output, never indefinite for a convex loss; `EMPIRICAL_FISHER` the mean of outer
    products of the gradients.

    References:
        Martens, "New Insights and Perspectives on the Natural Gradient Method", JMLR 21 (2020),
        section 8; Kunstner, Balles and Hennig, "Limitations of the empirical Fisher
        approximation", NeurIPS 2019, section 2.
    """

    HESSIAN = "hessian"
    GAUSS_NEWTON = "gauss_newton"
    EMPIRICAL_FISHER = "empirical_fisher"


ModeLike: TypeAlias = InfluenceMode | Literal["up", "perturbation"]


class InfluenceFunctionModel(ABC, Generic[A]):
    """A fitted method that gives influences between batches.

    Arrays are those of one framework. A batch `(x, y)` has n samples on the first axis of every
    array; `x` and `y` are arrays, or tuples or mappings of arrays.
    """

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Number p of parameters that influences are taken over: the width of factors."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """NumPy name of the type that factors and influences have."""

    @property
    @abstractmethod
    def is_thread_safe(self) -> bool:
        """Whether several threads may ask this object for influences at once."""

    @property
    @abstractmethod
    def is_fitted(self) -> bool:
        """Whether `fit` has been called."""

    @property
    def solves_on_workers(self) -> bool:
        """Whether a solve computes on a cluster, so that it starts from where the client is."""
        return False

    def describe(self) -> dict[str, Any]:
        """Return, as JSON, what tells this model from others: its method and options.

        Stored results keep it, and are resumed only by a model that says the same of itself.
        """
        return {"method": type(self).__name__}

    @abstractmethod
    def fit(self, data: Iterable[Batch[A]]) -> Self:
        """Fit the curvature of the mean loss over the training data and return this object.

        Args:
            data: The training batches. What may be read only once (a generator) is refused.
        """

    @abstractmethod
    def influence_factors(self, x: Tree[A], y: Tree[A]) -> A:
        r"""Return \((H + \lambda I)^{-1} \nabla_\theta \ell\) of each sample, (n, p).

        Raises:
            NotFittedError: `fit` has not been called.
            BatchError: the arrays do not hold the same number of samples, or none.
            NonFiniteError: a gradient is NaN or infinite; the message names the samples.
        """

    @abstractmethod
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
            UnsupportedInfluenceModeError: the mode is unknown, or the input is not floating-point.
            BatchError: the arrays or the factors have the wrong shape.
            NonFiniteError: a result is NaN or infinite; the message names the samples.
        """

    def self_influences(self, x: Tree[A], y: Tree[A]) -> A:
        """Return the influence of each sample on itself, (n,).

        This takes the diagonal of `influences(x, y)`; methods that can do without the matrix
        replace it.

        Args:
            x: Inputs of n samples.
            y: Labels of the samples.
        """
        matrix: Any = self.influences(x, y)
        diagonal: A = array_namespace(matrix).linalg.diagonal(matrix)
        return diagonal

    def influences(
        self,
        x_test: Tree[A],
        y_test: Tree[A],
        x: Tree[A] | None = None,
        y: Tree[A] | None = None,
        mode: ModeLike = InfluenceMode.Up,
    ) -> A:
        """Return the influences of training samples on test samples.

        Args:
            x_test: Inputs of k test samples.
            y_test: Labels of the test samples.
            x: Inputs of n training samples; without `x` and `y`, the test samples themselves.
            y: Labels of the training samples.
            mode: What of the training samples is varied.

        Returns:
            (k, n) for `InfluenceMode.Up`, (k, n, *x) for `InfluenceMode.Perturbation`.

        Raises:
            ValueError: only one of `x` and `y` is given.
            NotFittedError: `fit` has not been called.
            UnsupportedInfluenceModeError: the mode is unknown, or the input is not floating-point.
            BatchError: the arrays of a batch do not hold the same number of samples, or none.
            NonFiniteError: a gradient or a result is NaN or infinite.
        """
        mode = InfluenceMode(mode)
        x_train, y_train = both_or_default(x, y, default=(x_test, y_test))
        if mode is InfluenceMode.Perturbation:
            perturbed_leaf(x_train)  # refused before factors are solved
        factors = self.influence_factors(x_test, y_test)
        return self.influences_from_factors(factors, x_train, y_train, mode)


T = TypeVar("T")


def both_or_default(x: T | None, y: T | None, *, default: tuple[T, T]) -> tuple[T, T]:
    """Return `(x, y)` if both are given, and `default` if none is."""
    if x is None and y is None:
        return default
    if x is None or y is None:
        raise ValueError(
            f"Pass both `x` and `y` of the training samples, or neither; got only "
            f"{'`y`' if x is None else '`x`'}."
        )
    return x, y
