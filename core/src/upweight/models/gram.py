"""Influence in the dual, through inner products of curvature vectors of samples."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
from array_api_compat import array_namespace

from upweight.checks import check_finite
from upweight.errors import UnsupportedCurvatureError
from upweight.influence import SecondOrderMode
from upweight.models._base import FittedCurvature
from upweight.models._data import TrainingData
from upweight.models._dual_pairs import DualPairs
from upweight.models._factoring import Factoring
from upweight.models._fisher import sliced
from upweight.models._gram import AllVectors, GramCurvature, Landmarks
from upweight.models._landmarks import drawn_vectors
from upweight.models._low_rank import check_positive, checked_choice, checked_count
from upweight.models._memory import check_memory
from upweight.models._vectors import FactoredVectors
from upweight.protocols import SupportsLayers
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")

Damping = Literal["relative", "absolute"]

#: K, its damped copy, its factor and inverse.
MATRICES_AT_PEAK = 4


class GramInfluence(DualPairs[A]):
    r"""Influence with the Gauss-Newton matrix or empirical Fisher, solved in the dual.

    The curvature of n samples is \(C = \frac1n B^\top B\), where the rows of B are, for each
    sample, \(J^\top u_j\) with \(u_j u_j^\top\) the leading terms of the eigendecomposition of the
    Hessian of its loss in its output; for the empirical Fisher they are the gradients. By Woodbury

    \[\langle g', (C + \lambda I)^{-1} g \rangle
      = \frac1\lambda \big(\langle g', g \rangle - (B g')^\top (B B^\top + n \lambda I)^{-1} B g\big),\]

    which needs inner products only. For layers they are taken from inputs and output gradients, and
    no gradient is formed; other parameters cost what their gradients do. With all directions this
    is the exact Gauss-Newton matrix, of all parameters together.

    Without landmarks, memory is 4 N² numbers for N = n · directions, and N numbers for each input
    and output of a layer. With m landmarks, vectors drawn in proportion to their squared norms, the
    curvature of all samples is projected on their span, what lies outside is damped alone, and
    memory is 4 m² and m in place of N; time is linear in n.

    Args:
        objective: The mean loss, seen through its derivatives and layers.
        regularization: The damping \(\lambda > 0\), in units set by `damping`.
        damping: "relative": in units of the trace of the curvature over n, the mean eigenvalue of
            the Gram matrix of one direction a sample; "absolute": in units of the curvature.
        directions: Number of eigenvectors of the Hessian in the output that are kept for each
            sample; None for all.
        landmarks: Number m of vectors whose span is kept; None for all.
        second_order_mode: Gauss-Newton matrix or empirical Fisher.
        measurement: What is measured on test samples instead of the loss, as an objective.
        max_memory: Most bytes that `fit` may need; by default what is free on the device of the
            model when `fit` is called.
        seed: Seed of the landmarks.

    Raises:
        ValueError: an option is unknown or out of range, or the regularization is not positive.
        UnsupportedCurvatureError: the mode is the Hessian, or the objective does not know what the
            Gauss-Newton matrix needs.

    References:
        Woodbury's identity as in Hager, "Updating the Inverse of a Matrix", SIAM Review 31 (1989),
        equation (2); Williams and Seeger, "Using the Nyström Method to Speed Up Kernel Machines",
        NeurIPS 2000, for landmarks.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float = 1.0,
        damping: Damping = "relative",
        directions: int | None = 2,
        landmarks: int | None = None,
        second_order_mode: SecondOrderMode
        | Literal["gauss_newton", "empirical_fisher"] = SecondOrderMode.GAUSS_NEWTON,
        measurement: Objective[A] | None = None,
        max_memory: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(objective, regularization=regularization, measurement=measurement)
        check_positive(self._regularization, advice="The default is 1, relative to the trace.")
        self._relative = (
            checked_choice(damping, name="damping", choices=get_args(Damping)) == "relative"
        )
        self._directions = _count(directions, name="directions")
        self._landmarks = _count(landmarks, name="landmarks")
        self._gauss_newton = _is_gauss_newton(SecondOrderMode(second_order_mode), objective)
        self._max_memory = max_memory
        self._seed = seed

    def _settings(self) -> dict[str, Any]:
        return {
            "second_order_mode": "gauss_newton" if self._gauss_newton else "empirical_fisher",
            "damping": "relative" if self._relative else "absolute",
            "directions": self._directions,
            "landmarks": self._landmarks,
            "seed": self._seed,
        }

    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:
        start = time.perf_counter()
        kept = TrainingData(data, self._objective, progress=progress)
        first = _first_sample(kept)
        factoring = Factoring(self._objective, first)
        directions = self._directions_of(first)
        whole = kept.n_samples * directions
        count = min(whole, self._landmarks or whole)
        self._check_memory(factoring, count)
        dual: AllVectors | Landmarks
        if count == whole:
            vectors = FactoredVectors.joined(list(self._vectors(factoring, kept, directions)))
            dual = AllVectors(_finite(vectors.inner_products(vectors)), kept.n_samples)
        else:
            vectors, total = drawn_vectors(
                self._vectors(factoring, kept, directions),
                count,
                directions=directions,
                rng=np.random.default_rng(self._seed),
            )
            squares: Any = 0
            for piece in self._vectors(factoring, kept, directions):
                products = vectors.inner_products(piece)
                squares = squares + products @ array_namespace(products).matrix_transpose(products)
            dual = Landmarks.of(
                vectors.inner_products(vectors),
                _finite(squares),
                n_samples=kept.n_samples,
                trace=total / kept.n_samples,
            )
        seconds = time.perf_counter() - start
        curvature = GramCurvature(factoring, vectors, dual, kept.n_samples, self._relative, seconds)
        return dict.fromkeys(self.block_names, curvature)

    def _vectors(
        self, factoring: Factoring[A], data: TrainingData[A], directions: int
    ) -> Iterator[FactoredVectors]:
        for _, batch in data:
            if self._gauss_newton:
                yield from factoring.curvature_vectors(self._objective, batch, directions)
            else:
                yield factoring.gradients(self._objective, batch)

    def _directions_of(self, sample: Batch[A]) -> int:
        if not self._gauss_newton:
            return 1
        objective: Any = self._objective
        outputs = int(objective.output_hessians(sample).shape[1])
        return min(outputs, self._directions or outputs)

    def _check_memory(self, factoring: Factoring[A], count: int) -> None:
        numbers = factoring.n_factors + factoring.n_rest
        needed = (MATRICES_AT_PEAK * count**2 + count * numbers) * self.dtype.itemsize
        check_memory(
            needed,
            self._objective,
            limit=self._max_memory,
            what=f"Inner products of {count:,} curvature vectors and their parts in layers need",
            instead="Use fewer landmarks, for example "
            f"landmarks={max(1, math.isqrt(2**24))}, or EkfacInfluence.",
        )


def _first_sample(data: TrainingData[A]) -> Batch[A]:
    _, batch = next(iter(data))
    return sliced(batch, 0, 1)


def _finite(products: Any) -> Any:
    check_finite(products, what="curvature, as inner products of its vectors,")
    return products


def _count(value: int | None, *, name: str) -> int | None:
    return None if value is None else checked_count(value, name=name, least=1)


def _is_gauss_newton(mode: SecondOrderMode, objective: Any) -> bool:
    if mode is SecondOrderMode.HESSIAN:
        raise UnsupportedCurvatureError(
            "The Hessian is no sum of products of vectors. Use second_order_mode='gauss_newton' or "
            "'empirical_fisher', or CgInfluence."
        )
    if mode is SecondOrderMode.GAUSS_NEWTON and not isinstance(objective, SupportsLayers):
        raise UnsupportedCurvatureError(
            f"{type(objective).__name__} does not give Hessians in the output. Use "
            "second_order_mode='empirical_fisher', or CgInfluence."
        )
    return mode is SecondOrderMode.GAUSS_NEWTON
