"""Arrays: the way to NumPy and back, and the aggregators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace, device

from upweight.testing.base import Conformance
from upweight.testing.calls import calls
from upweight.testing.problem import Problem
from upweight.testing.reference import Array
from upweight.testing.state import arrays_in

SHAPES = [(3,), (1, 4), (2, 3, 4), (0, 3), (2, 0), ()]

#: Arrays whose numbers do not lie in memory one after the other, or may not be written to.
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "every other": lambda a: a[::2, 1:],
    "transposed": lambda a: a.T,
    "backwards": lambda a: a[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], (5, a.shape[1])),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


class ArraysConformance(Conformance):
    """Arrays go to NumPy and back, free of any graph, and are concatenated in order."""

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_numbers_come_back(self, problem: Problem, shape: tuple[int, ...]) -> None:
        values = np.random.default_rng(0).normal(size=shape).astype(problem.dtype)
        _assert_back(problem, values)

    @pytest.mark.parametrize("values", [np.arange(4), np.array([True, False])], ids=["int", "bool"])
    def test_integers_and_truth_values_come_back(self, first: Problem, values: Array) -> None:
        converter = first.backend.converter()
        back = converter.to_numpy(converter.from_numpy(values))
        assert back.dtype.kind == values.dtype.kind
        assert back.tolist() == values.tolist()

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.filterwarnings("error")
    def test_arrays_of_any_layout_come_back(self, problem: Problem, layout: str) -> None:
        values = np.arange(24.0, dtype=problem.dtype).reshape(4, 6)
        _assert_back(problem, LAYOUTS[layout](values))

    def test_converted_arrays_are_of_the_array_api(self, problem: Problem) -> None:
        array = problem.array(np.zeros((2, 3)))
        assert array_namespace(array).isdtype(array.dtype, "real floating")
        assert tuple(array.shape) == (2, 3)

    def test_parameters_of_the_model_are_converted(self, problem: Problem) -> None:
        for array in arrays_in(problem.model):
            values = problem.backend.converter().to_numpy(array)
            assert type(values) is np.ndarray
            assert values.shape == tuple(array.shape)

    def test_results_have_the_type_and_the_device_of_the_model(self, problem: Problem) -> None:
        zeros = problem.objective.zeros(1)
        for name, result in _results(problem):
            if result.dtype != zeros.dtype or device(result) != device(zeros):
                pytest.fail(f"{name} is {result.dtype} on {device(result)}, not as `zeros`")

    def test_results_keep_no_graph(self, problem: Problem) -> None:
        plain = type(problem.objective.zeros(1))
        for name, result in _results(problem):
            if getattr(result, "requires_grad", False) or type(result) is not plain:
                pytest.fail(f"{name} is a {type(result).__name__} that still belongs to a graph")
            assert type(problem.backend.converter().to_numpy(result)) is np.ndarray

    @pytest.mark.parametrize("lengths", [(1,), (2, 1, 3), (4, 4)], ids=str)
    def test_chunks_are_concatenated(self, problem: Problem, lengths: tuple[int, ...]) -> None:
        values = [np.random.default_rng(n).normal(size=(n, 3)) for n in lengths]
        whole = problem.backend.aggregator()(problem.array(chunk) for chunk in values)
        assert np.array_equal(problem.numpy(whole), np.concatenate(values).astype(problem.dtype))

    @pytest.mark.parametrize("tail", [(), (4,)], ids=["up", "perturbation"])
    def test_rows_of_chunks_are_concatenated(self, problem: Problem, tail: tuple[int, ...]) -> None:
        values = np.random.default_rng(0).normal(size=(5, 7, *tail))

        def rows() -> Iterator[Iterator[Any]]:
            for row in np.split(values, [2]):
                yield (problem.array(chunk) for chunk in np.split(row, [3, 4], axis=1))

        whole = problem.backend.nested_aggregator()(rows())
        assert np.array_equal(problem.numpy(whole), values.astype(problem.dtype))

    def test_no_chunks_are_refused(self, first: Problem) -> None:
        for aggregator in (first.backend.aggregator(), first.backend.nested_aggregator()):
            with pytest.raises(ValueError):  # noqa: PT011  # the message is the backend's own
                aggregator(iter(()))


def _assert_back(problem: Problem, values: Array) -> None:
    converter = problem.backend.converter()
    back = converter.to_numpy(converter.from_numpy(values))
    assert type(back) is np.ndarray
    assert back.dtype == values.dtype
    assert back.shape == values.shape
    assert np.array_equal(back, values)


def _results(problem: Problem) -> Iterator[tuple[str, Any]]:
    batch, rows = problem.batch(problem.train), problem.rows(problem.random_vectors(4))
    for name, call in calls(problem).items():
        yield name, call(problem.objective, rows, batch)
