"""Calculators: results do not depend on batches, chunks and groups."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upweight.calculators.dask import DaskInfluenceCalculator, DisableClientSingleThreadCheck
from upweight.calculators.sequential import SequentialInfluenceCalculator
from upweight.influence import InfluenceMode
from upweight.testing import dense, oracle
from upweight.testing.base import Conformance
from upweight.testing.cases import CASES, Case
from upweight.testing.problem import Problem, assert_close
from upweight.testing.reference import Array

#: Sizes of the batches or chunks of the 4 test and the 12 training samples.
EACH_CHUNKING = pytest.mark.parametrize(
    ("test", "train"),
    [((4,), (12,)), ((1, 1, 1, 1), (4, 8))],
    ids=["whole", "pieces"],
)

EACH_MODE = pytest.mark.parametrize("mode", list(InfluenceMode))

#: A method with factors, and one with compact factors where the backend knows layers.
EACH_METHOD = pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name in {"direct, Hessian", "Gram matrix, Gauss-Newton"}],
    ids=lambda case: case.name,
)

#: Largest error of an influence, as a multiple of the largest one.
TOLERANCES = {"float64": 1e-8, "float32": 1e-3}


class CalculatorsConformance(Conformance):
    """Results do not depend on batches, chunks and groups."""

    @EACH_CHUNKING
    @EACH_MODE
    @EACH_METHOD
    def test_sequential_influences(
        self, first: Problem, case: Case, mode: str, test: Sequence[int], train: Sequence[int]
    ) -> None:
        for max_memory in (1, 2**20):
            calculator: Any = SequentialInfluenceCalculator(
                _model(first, case), max_memory=max_memory, progress=False
            )
            lazy = calculator.influences(
                _batches(first, first.test, test), _batches(first, first.train, train), mode
            )
            whole = first.numpy(lazy.compute(first.backend.nested_aggregator()))
            assert_close(whole, _expected(first, case, mode), TOLERANCES[first.dtype])

    @pytest.mark.parametrize("train", [(12,), (4, 8)], ids=str)
    def test_sequential_factors_and_self_influences(
        self, first: Problem, train: Sequence[int]
    ) -> None:
        case = CASES[0]
        calculator: Any = SequentialInfluenceCalculator(_model(first, case), progress=False)
        batches, aggregator = _batches(first, first.train, train), first.backend.aggregator()
        gradients = oracle.gradients(first.weights, *first.train)
        factors = calculator.influence_factors(batches).compute(aggregator)
        assert_close(first.vectors(factors), gradients, first.tolerance)
        own = first.numpy(calculator.self_influences(batches).compute(aggregator))
        assert_close(own, (gradients**2).sum(1), first.tolerance)

    def test_influences_are_written_to_zarr(self, first: Problem, tmp_path: Path) -> None:
        import zarr

        case = CASES[0]
        calculator: Any = SequentialInfluenceCalculator(_model(first, case), progress=False)
        batches = _batches(first, first.test, (4,)), _batches(first, first.train, (4, 8))
        calculator.influences(*batches).to_zarr(str(tmp_path / "z"), first.backend.converter())
        stored: Any = zarr.open_array(str(tmp_path / "z"), mode="r")
        assert_close(stored[:].astype(float), _expected(first, case, "up"), first.tolerance)

    @EACH_CHUNKING
    @EACH_MODE
    @EACH_METHOD
    def test_dask_influences(
        self, first: Problem, case: Case, mode: str, test: Sequence[int], train: Sequence[int]
    ) -> None:
        for max_memory in (1, 2**20):
            lazy = _dask(first, case, max_memory).influences(
                *_arrays(first, first.test, test), *_arrays(first, first.train, train), mode
            )
            computed = _computed(first, lazy)
            assert computed.dtype == lazy.dtype == np.dtype(first.dtype)
            assert_close(computed, _expected(first, case, mode), TOLERANCES[first.dtype])

    @pytest.mark.parametrize("train", [(12,), (4, 8)], ids=str)
    def test_dask_influences_of_samples_on_each_other(
        self, first: Problem, train: Sequence[int]
    ) -> None:
        lazy = _dask(first, CASES[0], 2**20).influences(*_arrays(first, first.train, train))
        gradients = oracle.gradients(first.weights, *first.train)
        assert_close(_computed(first, lazy), gradients @ gradients.T, first.tolerance)


def _model(problem: Problem, case: Case) -> Any:
    problem.need(*case.needs)
    return case.made(problem).fit([problem.batch(problem.train)], progress=False)


def _expected(problem: Problem, case: Case, mode: str) -> Array:
    rows = oracle.gradients(problem.weights, *problem.test)
    factors = dense.factors(
        case.exact,
        problem.weights,
        problem.train,
        rows,
        by_layer=case.by_layer,
        damping=case.damping,
    )
    if mode == InfluenceMode.Perturbation:
        return oracle.input_gradients(factors, problem.weights, *problem.train)
    return factors @ oracle.gradients(problem.weights, *problem.train).T


def _pieces(sizes: Sequence[int]) -> list[slice]:
    return [slice(*pair) for pair in pairwise([0, *accumulate(sizes)])]


def _batches(problem: Problem, samples: tuple[Array, Array], sizes: Sequence[int]) -> list[Any]:
    return [problem.batch(samples, rows) for rows in _pieces(sizes)]


def _arrays(problem: Problem, samples: tuple[Array, Array], sizes: Sequence[int]) -> list[Any]:
    import dask.array as da

    x, y = samples[0].astype(problem.dtype), samples[1]
    return [
        da.from_array(x, chunks=(tuple(sizes), x.shape[1])),
        da.from_array(y, chunks=(tuple(sizes),)),
    ]


def _dask(problem: Problem, case: Case, max_memory: int) -> Any:
    return DaskInfluenceCalculator(
        _model(problem, case),
        problem.backend.converter(),
        DisableClientSingleThreadCheck,
        max_memory=max_memory,
    )


def _computed(problem: Problem, lazy: Any) -> Array:
    scheduler = "threads" if problem.objective.is_thread_safe else "synchronous"
    computed: Array = lazy.compute(scheduler=scheduler, num_workers=2)
    return computed
