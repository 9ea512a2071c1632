"""One network with the same weights gives the same influences in every framework."""

from functools import cache

import dask.array as da
import numpy as np
import pytest
from agreement.networks import problem
from agreement.variants import VARIANTS

from upweight import (
    DaskInfluenceCalculator,
    DisableClientSingleThreadCheck,
    SequentialInfluenceCalculator,
)

#: Samples of every batch and chunk, one number of them, because JAX compiles for each.
SAMPLES = 2
#: Largest difference of two frameworks, as a multiple of the largest number.
TOLERANCE = 1e-8

#: What is compared with torch, and in what.
PAIRS = [(name, other) for name in VARIANTS for other in VARIANTS[name].frameworks()[1:]]
EACH_PAIR = pytest.mark.parametrize(("name", "framework"), PAIRS)
EACH_MODE = pytest.mark.parametrize("mode", ["up", "perturbation"])

#: Of the variant that shifts negative curvature on purpose.
SHIFTED = pytest.mark.filterwarnings("ignore:.*was shifted by:upweight.CurvatureWarning")

#: What JAX compiles serves one process: the tests stay in one where there are several.
pytestmark = [SHIFTED, pytest.mark.xdist_group("agreement")]


@EACH_PAIR
def test_factors_agree(name, framework):
    assert_agree(factors, name, framework)


@pytest.mark.parametrize("name", VARIANTS)
def test_self_influences_agree(name):
    assert_agree(self_influences, name, "jax")


@EACH_MODE
@EACH_PAIR
def test_sequential_influences_agree(name, framework, mode):
    assert_agree(sequential, name, framework, mode)


@EACH_MODE
@EACH_PAIR
def test_dask_influences_agree(name, framework, mode):
    assert_agree(on_dask, name, framework, mode)


@EACH_MODE
@pytest.mark.parametrize("name", VARIANTS)
def test_calculators_agree(name, mode):
    assert_close(on_dask("torch", name, mode), sequential("torch", name, mode))


@cache
def fitted(framework, name):
    here = problem(framework)
    return VARIANTS[name].made(here).fit(batches(here, here.train), progress=False)


def factors(framework, name):
    here = problem(framework)
    return here.vectors(fitted(framework, name).influence_factors(*asked(here)))


def self_influences(framework, name):
    here = problem(framework)
    return here.numpy(fitted(framework, name).self_influences(*asked(here)))


@cache
def sequential(framework, name, mode):
    here = problem(framework)
    calculator = SequentialInfluenceCalculator(fitted(framework, name), progress=False)
    lazy = calculator.influences([asked(here)], batches(here, here.train), mode)
    return here.numpy(lazy.compute(here.backend.nested_aggregator()))


@cache
def on_dask(framework, name, mode):
    here = problem(framework)
    calculator = DaskInfluenceCalculator(
        fitted(framework, name), here.backend.converter(), DisableClientSingleThreadCheck
    )
    test, train = ([chunked(array) for array in part] for part in (here.test, here.train))
    lazy = calculator.influences(*(array[:SAMPLES] for array in test), *train, mode)
    return lazy.compute(scheduler="synchronous")


def asked(here):
    return batches(here, here.test)[0]


def batches(here, samples):
    starts = range(0, len(samples[0]), SAMPLES)
    return [here.batch(samples, slice(start, start + SAMPLES)) for start in starts]


def chunked(array):
    return da.from_array(array, chunks=(SAMPLES, *array.shape[1:]))


def assert_agree(compute, name, framework, *mode):
    assert_close(compute(framework, name, *mode), compute("torch", name, *mode))


def assert_close(actual, expected):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()
