"""Influences over batches, one after the other, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from upweight.arrays import LazyChunkSequence
from upweight.calculators._checks import bytes_of, check_fitted
from upweight.calculators._factors import Factors
from upweight.calculators._marking import NanPolicy
from upweight.calculators._order import StableOrder
from upweight.calculators._sources import Pairs, PerBatch
from upweight.checks import check_reusable
from upweight.influence import InfluenceFunctionModel, InfluenceMode, ModeLike
from upweight.nested import NestedLazyChunkSequence
from upweight.progress import length_of
from upweight.trees import Batch

A = TypeVar("A")


class SequentialInfluenceCalculator(Generic[A]):
    """Influences between collections of batches, computed lazily on one machine.

    Factors are solved once for each test batch. Test batches are taken in groups whose factors
    and results fit into `max_memory`; for each group the training data is read once.

    Args:
        influence_function_model: A fitted model.
        max_memory: Bytes that the factors and results of a group may take, a number or a string
            such as "2 GiB".
        progress: Whether computing shows progress bars.
        nan_policy: What becomes of samples whose gradient or influence is NaN or infinite: "raise"
            stops with an error that names them, before anything of their batch is stored;
            "propagate" goes on with a `NonFiniteWarning`, and all of their results are NaN.

    Raises:
        NotFittedError: the model is not fitted.
        ValueError: `nan_policy` is something else.
    """

    def __init__(
        self,
        influence_function_model: InfluenceFunctionModel[A],
        *,
        max_memory: int | str = 2**30,
        progress: bool = True,
        nan_policy: NanPolicy = "raise",
    ) -> None:
        check_fitted(influence_function_model)
        self._model = influence_function_model
        self._primal = Factors.of(influence_function_model, nan_policy)
        self._max_memory = bytes_of(max_memory)
        self._progress = progress

    def influence_factors(self, data: Iterable[Batch[A]]) -> LazyChunkSequence[A]:
        """Return the influence factors of each batch, lazily.

        Args:
            data: Batches `(x, y)`, in the same order on every pass.

        Returns:
            One array (n, p) a batch.

        Raises:
            DataError: the data can be read only once; on computing: it is empty, or it changes.
        """
        return self._for_each_batch(data, self._primal.solve, label="Influence factors")

    def self_influences(self, data: Iterable[Batch[A]]) -> LazyChunkSequence[A]:
        """Return the influence of each sample on itself, lazily, without those on the others.

        Args:
            data: Batches `(x, y)`, in the same order on every pass.

        Returns:
            One array (n,) a batch.

        Raises:
            DataError: the data can be read only once; on computing: it is empty, or it changes.
        """
        return self._for_each_batch(data, self._primal.self_influences, label="Self-influences")

    def influences(
        self,
        test_data: Iterable[Batch[A]],
        train_data: Iterable[Batch[A]],
        mode: ModeLike = InfluenceMode.Up,
    ) -> NestedLazyChunkSequence[A]:
        """Return the influences of each training batch on each test batch, lazily.

        Args:
            test_data: Batches `(x, y)`, in the same order on every pass.
            train_data: Batches `(x, y)`, in the same order on every pass.
            mode: What of the training samples is varied.

        Returns:
            A row for each test batch, in it an array (k, n) for each training batch, or
            (k, n, *x) for `InfluenceMode.Perturbation`.

        Raises:
            UnsupportedInfluenceModeError: the mode is unknown; on computing: the inputs are not
                floating-point.
            DataError: the data can be read only once; on computing: it is empty, or it changes.
        """
        mode = InfluenceMode(mode)
        source = self._pairs(
            StableOrder(test_data, name="test"),
            StableOrder(train_data, name="training"),
            form=Factors.cheapest(self._model, mode, self._primal.nan_policy),
            solved=False,
            mode=mode,
            columns=length_of(train_data),
        )
        return NestedLazyChunkSequence(
            source.by_row,
            by_column=source.by_column,
            origin=source,
            shape=(length_of(test_data), length_of(train_data)),
            progress=self._progress,
        )

    def influences_from_factors(
        self,
        z_test_factors: Iterable[A],
        train_data: Iterable[Batch[A]],
        mode: ModeLike = InfluenceMode.Up,
    ) -> NestedLazyChunkSequence[A]:
        """Return the influences of each training batch on test batches whose factors are known.

        Args:
            z_test_factors: Arrays (k, p), such as the result of `influence_factors`.
            train_data: Batches `(x, y)`, in the same order on every pass.
            mode: What of the training samples is varied.

        Returns:
            A row for each array of factors, in it an array (k, n) for each training batch, or
            (k, n, *x) for `InfluenceMode.Perturbation`.

        Raises:
            UnsupportedInfluenceModeError: the mode is unknown; on computing: the inputs are not
                floating-point.
            DataError: the data can be read only once; on computing: it is empty, or it changes.
        """
        mode = InfluenceMode(mode)
        train = StableOrder(train_data, name="training")
        check_reusable(z_test_factors)

        def source() -> Pairs[A]:  # factors may be computed again, with other rounding errors
            return self._pairs(
                StableOrder(z_test_factors, name="factors"),
                train,
                form=self._primal,
                solved=True,
                mode=mode,
                columns=length_of(train_data),
            )

        return NestedLazyChunkSequence(
            lambda: source().by_row(),
            by_column=lambda: source().by_column(),
            origin=source(),
            shape=(length_of(z_test_factors), length_of(train_data)),
            progress=self._progress,
        )

    def _for_each_batch(
        self, data: Iterable[Batch[A]], compute: Callable[[Any, Any, Any], A], *, label: str
    ) -> LazyChunkSequence[A]:
        identity = self._identity(what=label.lower())
        source = PerBatch(StableOrder(data, name="given"), partial(compute, self._model), identity)
        return LazyChunkSequence(
            source.chunks,
            origin=source,
            length=length_of(data),
            label=label,
            progress=self._progress,
        )

    def _pairs(
        self,
        test: StableOrder[Any],
        train: StableOrder[Batch[A]],
        *,
        form: Factors,
        solved: bool,
        mode: InfluenceMode,
        columns: int | None,
    ) -> Pairs[A]:
        return Pairs(
            self._model,
            test,
            train,
            form=form,
            solved=solved,
            mode=mode,
            columns=columns,
            max_memory=self._max_memory,
            identity=self._identity(
                what="influences from factors" if solved else "influences",
                mode=mode.value,
                max_memory=self._max_memory,
            ),
        )

    def _identity(self, **more: Any) -> dict[str, Any]:
        return {**self._model.describe(), "dtype": str(self._model.dtype), **more}
