"""Sequential influences are those of one dense call, however the samples fall into batches."""

import numpy as np
import pytest
import zarr
from calculators.problems import (
    MODES,
    NumpyIdentity,
    assert_close,
    batches,
    dense,
    fitted_model,
    joined,
    problem,
    samples,
)

from upweight import InfluenceMode, SequentialInfluenceCalculator

SIZES = {
    "even": ([7], [5]),
    "ragged": ([3], [6]),
    "one row each": ([1], [1]),
    "one batch": ([7], [20]),
    "a lone last row": ([6], [19]),
    "uneven": ([1, 4, 2], [2, 11, 7]),
}


def calculator(model, **options):
    return SequentialInfluenceCalculator(model, progress=False, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("test_sizes", "train_sizes"), SIZES.values(), ids=SIZES)
def test_influences_are_those_of_one_call(test_sizes, train_sizes, mode, dtype):
    model, test, train = problem(dtype=dtype)
    lazy = calculator(model).influences(
        batches(test, *test_sizes), batches(train, *train_sizes), mode
    )
    assert_close(joined(lazy), dense(model, test, train, mode))


@pytest.mark.parametrize("sizes", [[7], [3], [1], [1, 4, 2]])
def test_factors_are_those_of_one_call(sizes):
    model, test, _ = problem()
    factors = calculator(model).influence_factors(batches(test, *sizes)).compute()
    assert_close(np.concatenate(factors), model.influence_factors(*test))


@pytest.mark.parametrize("as_list", [True, False], ids=["list", "lazy"])
@pytest.mark.parametrize("mode", MODES)
def test_influences_from_factors_are_those_of_one_call(mode, as_list):
    model, test, train = problem()
    calc = calculator(model)
    factors = calc.influence_factors(batches(test, 3))
    factors = factors.compute() if as_list else factors
    lazy = calc.influences_from_factors(factors, batches(train, 6), mode)
    assert_close(joined(lazy), dense(model, test, train, mode))


@pytest.mark.parametrize("max_memory", [1, "2 KiB", "1 GiB"])
@pytest.mark.parametrize("mode", MODES)
def test_groups_do_not_change_influences(mode, max_memory):
    model, test, train = problem()
    calc = calculator(model, max_memory=max_memory)
    lazy = calc.influences(batches(test, 2), batches(train, 6), mode)
    assert_close(joined(lazy), dense(model, test, train, mode))


@pytest.mark.parametrize("mode", MODES)
def test_blocks_are_shaped_by_their_batches(mode):
    model, test, train = problem()
    rows = calculator(model).influences(batches(test, 5), batches(train, 12), mode).compute()
    shapes = [[block.shape[:2] for block in row] for row in rows]
    assert shapes == [[(5, 12), (5, 8)], [(2, 12), (2, 8)]]


@pytest.mark.parametrize("mode", MODES)
def test_rows_may_be_listed_before_they_are_read(mode):
    model, test, train = problem()
    rows = list(calculator(model).influences(batches(test, 3), batches(train, 6), mode))
    assert_close(joined(rows), dense(model, test, train, mode))


def test_each_iteration_gives_the_same_influences():
    model, test, train = problem()
    lazy = calculator(model).influences(batches(test, 3), batches(train, 6))
    np.testing.assert_array_equal(joined(lazy), joined(lazy))


@pytest.mark.parametrize("mode", InfluenceMode)
def test_modes_and_their_names_mean_the_same(mode):
    model, test, train = problem()
    calc, loaders = calculator(model), (batches(test, 3), batches(train, 6))
    named, member = calc.influences(*loaders, mode.value), calc.influences(*loaders, mode)
    np.testing.assert_array_equal(joined(named), joined(member))


def test_the_mode_is_up_unless_said_otherwise():
    model, test, train = problem()
    lazy = calculator(model).influences(batches(test, 3), batches(train, 6))
    assert_close(joined(lazy), dense(model, test, train, "up"))


@pytest.mark.parametrize("nest", [lambda *x: x, lambda *x: dict(zip("ab", x, strict=True))])
@pytest.mark.parametrize("mode", MODES)
def test_inputs_may_be_tuples_and_mappings(mode, nest):
    (x_test, y_test), (x, y) = samples((4,), n_test=7, n_train=20)
    mask, mask_test = np.arange(40).reshape(20, 2), np.arange(14).reshape(7, 2)
    train, test = (nest(x, mask % 3), y), (nest(x_test, mask_test % 3), y_test)
    model = fitted_model(train)
    lazy = calculator(model).influences(batches(test, 3), batches(train, 6), mode)
    assert_close(joined(lazy), dense(model, test, train, mode))


def test_images_are_perturbed_pixel_by_pixel():
    test, train = samples((2, 3, 4), n_test=5, n_train=8)
    model = fitted_model(train)
    lazy = calculator(model).influences(batches(test, 2), batches(train, 3), "perturbation")
    values = joined(lazy)
    assert values.shape == (5, 8, 2, 3, 4)
    assert_close(values, dense(model, test, train, "perturbation"))


@pytest.mark.parametrize("max_memory", [1, "1 GiB"])
@pytest.mark.parametrize("mode", MODES)
def test_influences_on_disk_are_those_computed(tmp_path, mode, max_memory):
    model, test, train = problem()
    calc = calculator(model, max_memory=max_memory)
    lazy = calc.influences(batches(test, 3), batches(train, 6), mode)
    stored = lazy.to_zarr(tmp_path / "influences.zarr", NumpyIdentity(), return_stored=True)
    assert_close(stored[...], joined(lazy))


def test_factors_on_disk_are_those_computed(tmp_path):
    model, test, _ = problem()
    lazy = calculator(model).influence_factors(batches(test, 3))
    lazy.to_zarr(tmp_path / "factors.zarr", NumpyIdentity())
    assert_close(zarr.open_array(tmp_path / "factors.zarr")[...], np.concatenate(lazy.compute()))
