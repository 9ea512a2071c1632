"""The contracts between core, backends and calculators.

Vectors are rows. A batch of n samples is a pair `(x, y)` whose arrays have the samples as their
first axis; a model has p parameters, flattened in its own order; k counts vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from upweight.trees import Batch, Tree

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

A = TypeVar("A")
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
S = TypeVar("S")
R = TypeVar("R", covariant=True)


class Objective(Protocol[A]):
    """The mean loss of a model at fixed parameters, seen through its derivatives.

    Implementations leave the model as they found it and may be called from several threads if
    `is_thread_safe` says so.
    """

    @property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of each parameter, in the model's own order."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy name of the floating-point type that all results have."""

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may call this object at once."""

    def restrict(self, names: Sequence[str]) -> Objective[A]:
        """Return the same loss, seen as a function of the named parameters only."""

    def zeros(self, k: int) -> A:
        """Return k zero vectors over the parameters, on the device of the model, (k, p)."""

    def losses(self, batch: Batch[A]) -> A:
        """Return the loss of each sample, (n,)."""

    def gradients(self, batch: Batch[A]) -> A:
        """Return the gradient of the loss of each sample in the parameters, (n, p)."""

    def inner_products(self, rows: A, batch: Batch[A]) -> A:
        """Return ⟨row, gradient of sample⟩ for each pair, (k, n)."""

    def hessian_product(self, rows: A, batch: Batch[A]) -> A:
        """Return the Hessian of the mean loss of the batch times each row, (k, p)."""

    def input_gradients(self, rows: A, batch: Batch[A]) -> A:
        """Return ∇x ⟨row, ∇θ loss⟩ for each pair, (k, n, *x)."""


@runtime_checkable
class SupportsGaussNewton(Protocol[A]):
    """An objective with products with the generalised Gauss-Newton matrix."""

    def gauss_newton_product(self, rows: A, batch: Batch[A]) -> A:
        """Return the Gauss-Newton matrix of the mean loss of the batch times each row, (k, p)."""


@runtime_checkable
class SupportsLinearisedProducts(Protocol[A]):
    """An objective that keeps what all products with the curvature of a batch have in common.

    What is kept takes a few times the memory of the activations of the batch, and lives as long as
    the function that is returned.
    """

    def hessian_products(self, batch: Batch[A]) -> Callable[[A], A]:
        """Return `hessian_product` of the batch as a function of the rows."""

    def gauss_newton_products(self, batch: Batch[A]) -> Callable[[A], A]:
        """Return `gauss_newton_product` of the batch as a function of the rows.

        It is asked for only if the objective supports Gauss-Newton products.
        """


@dataclass(frozen=True)
class LayerStatistics(Generic[A]):
    r"""Inputs and output gradients of a layer: what the gradients of its parameters are made of.

    The gradient of the weight (o, i) for a sample is \(\sum_t g_t a_t^\top\), and of the bias
    \(\sum_t g_t\); a convolution counts as a linear map of patches.

    Attributes:
        weight: Name of the weight.
        bias: Name of the bias, or None.
        inputs: a at each of t positions, (n, t, i).
        gradients: g at each position, (n, t, o); for several directions (d, n, t, o).
        transposed: Whether the weight is stored as (i, o) instead of (o, i). Either form may have
            more axes, those of its o or i numbers.
    """

    weight: str
    bias: str | None
    inputs: A
    gradients: A
    transposed: bool = False


class RandomRows(Protocol):
    """Random numbers for n samples at a time, as a `numpy.random.Generator` has them.

    Those of a sample do not depend on the batch it is in.
    """

    def random(self, size: tuple[int, ...], /) -> NDArray[Any]:
        """Return uniform numbers in [0, 1), (n, *)."""

    def standard_normal(self, size: tuple[int, ...], /) -> NDArray[Any]:
        """Return standard normal numbers, (n, *)."""


@runtime_checkable
class SupportsLayers(Protocol[A]):
    """An objective that knows the layers of its model. Outputs are flattened to c numbers."""

    def layers(
        self, batch: Batch[A], directions: A | None = None
    ) -> Mapping[str, LayerStatistics[A]]:
        """Return the statistics of the layers that are covered, by layer name.

        Only layers from which the gradients of their parameters can be rebuilt are covered; which
        these are does not depend on the batch.

        Args:
            batch: n samples.
            directions: What to pull back from the outputs, (n, c), or d of them in one forward
                pass, (d, n, c); by default the gradient of the loss of each sample in its output.
        """

    def output_hessians(self, batch: Batch[A]) -> A:
        """Return the Hessian of the loss of each sample in its output, (n, c, c)."""

    def sampled_directions(self, batch: Batch[A], rng: RandomRows) -> A:
        r"""Return random directions u with \(\mathbb{E}[u u^\top] = H_\ell\), (n, c).

        These are gradients in the output for a label drawn from the prediction.

        Args:
            batch: n samples.
            rng: Asked for arrays whose first axis has the n samples, and for the same ones whatever
                the batch.

        Raises:
            UnsupportedCurvatureError: the loss is not one whose predictive distribution is known.
        """


@runtime_checkable
class SupportsOutputGradients(Protocol[A]):
    """An objective that pulls directions in the outputs of samples back to the parameters."""

    def output_gradients(self, batch: Batch[A], directions: A) -> A:
        r"""Return \(J^\top u\) for each sample, with J the Jacobian of its c outputs, (d, n, p).

        Args:
            batch: n samples.
            directions: d directions u for each sample, (d, n, c).
        """


@runtime_checkable
class SupportsDenseHessian(Protocol[A]):
    """An objective that builds the whole Hessian cheaper than by products with unit vectors."""

    def hessian(self, batch: Batch[A]) -> A:
        """Return the Hessian of the mean loss of the batch, (p, p)."""


@runtime_checkable
class SuggestsBatchSize(Protocol[In]):
    """An objective that knows how many samples it differentiates at once without waste."""

    def suggested_batch_size(self, batch: Batch[In]) -> int:
        """Return up to how many samples like those of the batch may be joined to one batch."""


@runtime_checkable
class ReportsMemory(Protocol):
    """An objective whose arrays may live elsewhere than in main memory."""

    def available_memory(self) -> int | None:
        """Return the number of free bytes on the device, or None if that is main memory."""


@runtime_checkable
class SupportsSaving(Protocol[A]):
    """An objective whose fitted models can be saved, and loaded on the same parameters."""

    def numpy_converter(self) -> NumpyConverter[A]:
        """Return the conversion between NumPy and arrays on the device of the model."""

    def parameter_values(self) -> Iterable[tuple[str, NDArray[Any]]]:
        """Yield name and value of all that the derivatives depend on, also what is constant.

        Those are all parameters of the model, whichever this objective is restricted to, and what
        else it holds, such as running statistics. Only their checksums are kept.
        """


class InverseCurvature(Protocol[A]):
    """A fitted (H + λI)⁻¹."""

    def solve(self, rows: A) -> A:
        """Return (H + λI)⁻¹ times each row, (k, p)."""


@runtime_checkable
class SupportsPairFactors(Protocol[A]):
    """An influence model that knows something better of a test sample than its influence factor.

    That is what gives its influences, mode "up", at the least cost: fewer numbers, or numbers in
    another basis. Calculators hold pair factors in place of influence factors unless they are
    larger.
    """

    @property
    def pair_width(self) -> int:
        """Numbers q of a sample."""

    def pair_factors(self, x: Tree[A], y: Tree[A]) -> A:
        """Return what `influences_from_pair_factors` needs to know of n test samples, (n, q)."""

    def influences_from_pair_factors(self, pair_factors: A, x: Tree[A], y: Tree[A]) -> A:
        """Return the influences, mode "up", of n training samples on k test samples, (k, n)."""


class NumpyConverter(Protocol[A]):
    """Conversion between the arrays of a framework and NumPy."""

    def to_numpy(self, x: A) -> NDArray[Any]:
        """Return the values as a NumPy array in main memory."""

    def from_numpy(self, x: NDArray[Any]) -> A:
        """Return the values as an array of the framework, on its device."""


class SequenceAggregator(Protocol[In, Out]):
    """What becomes of a sequence of chunks."""

    def __call__(self, chunks: Iterable[In]) -> Out:
        """Consume the chunks in order and return the result."""


class NestedSequenceAggregator(Protocol[In, Out]):
    """What becomes of rows of chunks: one row a test batch, one chunk a training batch."""

    def __call__(self, rows: Iterable[Iterable[In]]) -> Out:
        """Consume the rows in order and return the result."""


@runtime_checkable
class Reduction(Protocol[S, R]):
    """What is kept of the influences of many samples, block by block.

    A monoid: `merge` is associative, so that any grouping of neighbouring blocks gives the same
    result. Blocks and states may be made on other machines, so objects and states can be pickled. A
    state should take memory in proportion to k, not n.
    """

    def of(self, block: NDArray[Any], first: int) -> S:
        """Return what a block says, all of whose numbers are finite.

        Args:
            block: Influences, (k, n, *x); n samples are reduced. It is not to be kept or changed.
            first: The index of the first of the n samples.
        """

    def merge(self, left: S, right: S) -> S:
        """Return what two neighbouring blocks say; the samples of `left` come first."""

    def result(self, state: S) -> R:
        """Return an array, or a tuple of arrays such as a NamedTuple, with k as the first axis."""
