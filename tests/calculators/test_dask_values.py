"""Influences through Dask are those of one dense call, and declared as what they are."""

import numpy as np
import pytest
import zarr
from calculators.dask_problems import (
    assert_blocks_are_as_declared,
    calculator,
    computed,
    dask_batch,
)
from calculators.problems import MODES, assert_close, dense, fitted_model, problem, samples

DTYPES = ("float32", "float64")
SHAPES = {"vectors": (4,), "images": (2, 3, 4)}
CHUNKS = {
    "ragged": (3, 6),
    "one sample each": (1, 1),
    "one chunk": (7, 20),
    "uneven": ((1, 4, 2), (2, 11, 7)),
}


def image_problem(shape, dtype):
    test, train = samples(shape, n_test=5, n_train=8, dtype=dtype)
    return fitted_model(train, dtype=dtype), test, train


def token_problem(dtype, tokens="int64"):
    test, train = samples((6,), n_test=5, n_train=8, dtype=tokens)
    return fitted_model(train, dtype=dtype), test, train


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("test_chunks", "chunks"), CHUNKS.values(), ids=CHUNKS)
def test_influences_are_those_of_one_call(test_chunks, chunks, mode, dtype):
    model, test, train = problem(dtype=dtype)
    lazy = calculator(model).influences(
        *dask_batch(test, test_chunks), *dask_batch(train, chunks), mode
    )
    assert_close(computed(lazy), dense(model, test, train, mode))


@pytest.mark.parametrize("chunks", [7, 3, 1, (1, 4, 2)])
def test_factors_are_those_of_one_call(chunks):
    model, test, _ = problem()
    factors = calculator(model).influence_factors(*dask_batch(test, chunks))
    assert_close(computed(factors), model.influence_factors(*test))


@pytest.mark.parametrize("mode", MODES)
def test_influences_from_factors_are_those_of_one_call(mode):
    model, test, train = problem()
    calc = calculator(model)
    factors = calc.influence_factors(*dask_batch(test, 3))
    lazy = calc.influences_from_factors(factors, *dask_batch(train, 6), mode)
    assert_close(computed(lazy), dense(model, test, train, mode))


@pytest.mark.parametrize("mode", MODES)
def test_without_training_samples_influences_are_among_the_test_samples(mode):
    model, test, _ = problem()
    lazy = calculator(model).influences(*dask_batch(test, 3), mode=mode)
    assert_close(computed(lazy), dense(model, test, test, mode))


@pytest.mark.parametrize("max_memory", [1, "300 B", "1 GiB"])
@pytest.mark.parametrize("mode", MODES)
def test_groups_do_not_change_influences(mode, max_memory):
    model, test, train = problem()
    calc = calculator(model, max_memory=max_memory)
    lazy = calc.influences(*dask_batch(test, 2), *dask_batch(train, 6), mode)
    assert_close(computed(lazy), dense(model, test, train, mode))


@pytest.mark.parametrize("nest", [lambda *x: x, lambda *x: dict(zip("ab", x, strict=True))])
@pytest.mark.parametrize("mode", MODES)
def test_inputs_may_be_tuples_and_mappings(mode, nest):
    (x_test, y_test), (x, y) = samples((4,), n_test=7, n_train=20)
    mask, mask_test = np.arange(40).reshape(20, 2), np.arange(14).reshape(7, 2)
    train, test = (nest(x, mask % 3), y), (nest(x_test, mask_test % 3), y_test)
    model = fitted_model(train)
    lazy = calculator(model).influences(*dask_batch(test, 3), *dask_batch(train, 6), mode)
    assert_close(computed(lazy), dense(model, test, train, mode))


@pytest.mark.parametrize("max_memory", [1, "1 GiB"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_blocks_of_influences_are_as_declared(shape, mode, dtype, max_memory):
    model, test, train = image_problem(shape, dtype)
    calc = calculator(model, max_memory=max_memory)
    assert_blocks_are_as_declared(
        calc.influences(*dask_batch(test, 2), *dask_batch(train, 3), mode)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_blocks_of_influences_among_the_test_samples_are_as_declared(shape, mode, dtype):
    model, test, _ = image_problem(shape, dtype)
    calc = calculator(model, max_memory=1)
    assert_blocks_are_as_declared(calc.influences(*dask_batch(test, 2), mode=mode))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", ["int32", "int64"])
def test_blocks_for_token_ids_are_floating_point_as_declared(tokens, dtype):
    model, test, train = token_problem(dtype, tokens)
    lazy = calculator(model).influences(*dask_batch(test, 2), *dask_batch(train, 3))
    assert lazy.dtype == dtype
    assert_blocks_are_as_declared(lazy)


@pytest.mark.parametrize("inputs", [image_problem, token_problem])
@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_factors_are_as_declared(inputs, dtype):
    model, test, _ = inputs(*[(2, 3)] * (inputs is image_problem), dtype)
    factors = calculator(model).influence_factors(*dask_batch(test, 2))
    assert factors.chunks == ((2, 2, 1), (model.n_parameters,))
    assert_blocks_are_as_declared(factors)


def test_the_type_is_that_of_the_model_and_not_of_the_input():
    test, train = samples((4,), n_test=5, n_train=8, dtype="float64")
    model = fitted_model(train, dtype="float32")
    lazy = calculator(model).influences(*dask_batch(test, 2), *dask_batch(train, 3))
    assert (lazy.dtype, computed(lazy).dtype) == ("float32", "float32")


def test_images_are_perturbed_pixel_by_pixel():
    model, test, train = image_problem((2, 3, 4), "float64")
    lazy = calculator(model).influences(*dask_batch(test, 2), *dask_batch(train, 3), "perturbation")
    assert lazy.shape == (5, 8, 2, 3, 4)
    assert_close(computed(lazy), dense(model, test, train, "perturbation"))


# Zarr takes chunks of one size only, the last one smaller, so the groups must be such.
@pytest.mark.parametrize("rows", [1, 3, 5, 7])
@pytest.mark.parametrize("mode", MODES)
def test_influences_on_disk_are_those_computed(tmp_path, mode, rows):
    model, test, train = problem()
    calc = calculator(model, max_memory=rows * model.n_parameters * 8)
    lazy = calc.influences(*dask_batch(test, 2), *dask_batch(train, 6), mode)
    lazy.to_zarr(str(tmp_path / "influences.zarr"))
    stored = zarr.open_array(tmp_path / "influences.zarr", mode="r")
    assert stored.metadata.zarr_format == 3
    assert_close(stored[...], dense(model, test, train, mode))
