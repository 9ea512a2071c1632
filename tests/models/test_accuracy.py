"""Direct and CG influences are those of the dense float64 oracle, however they are asked for."""

import numpy as np
import oracle
import pytest
from oracle import TOLERANCES, relative_error
from reference import softmax_problem

from upweight.models import CgInfluence, DirectInfluence

REGULARIZATION = 0.1
CG_TOLERANCE = 1e-6
RTOL = {"float64": 1e-8, "float32": 1e-5}
METHODS = {
    "direct": DirectInfluence,
    "cg": lambda objective, **options: CgInfluence(
        objective, rtol=RTOL[str(objective.dtype)], **options
    ),
    "block cg": lambda objective, **options: CgInfluence(
        objective, rtol=RTOL[str(objective.dtype)], solver="block", **options
    ),
}


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def tolerance(method, dtype="float64"):
    return TOLERANCES[dtype] if method == "direct" else max(CG_TOLERANCE, TOLERANCES[dtype])


def fitted(method, objective, train, *, regularization=REGULARIZATION):
    return METHODS[method](objective, regularization=regularization).fit([train])


def problem(xp, *, k=7, dtype="float64"):
    """Return an objective, training data of 100 samples and test data of k samples."""
    objective, train = softmax_problem(n=100, dtype=dtype, xp=xp)
    return objective, train, softmax_problem(n=k, seed=5, dtype=dtype, xp=xp)[1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("k", [1, 7, 40], ids=["one row", "rows", "more rows than parameters"])
def test_factors_are_those_of_the_dense_solution(xp, method, k, dtype):
    objective, train, test = problem(xp, k=k, dtype=dtype)
    expected = oracle.factors(objective, train, test, regularization=REGULARIZATION)
    actual = fitted(method, objective, train).influence_factors(*test)
    assert relative_error(actual, expected) < tolerance(method, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("k", [1, 7, 40], ids=["one row", "rows", "more rows than parameters"])
def test_influences_are_those_of_the_dense_solution(xp, method, k, dtype):
    objective, train, test = problem(xp, k=k, dtype=dtype)
    expected = oracle.influences(objective, train, test, regularization=REGULARIZATION)
    actual = fitted(method, objective, train).influences(*test, *train)
    assert relative_error(actual, expected) < tolerance(method, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("k", [1, 7, 40], ids=["one row", "rows", "more rows than parameters"])
def test_perturbations_are_those_of_the_dense_solution(xp, method, k, dtype):
    objective, train, test = problem(xp, k=k, dtype=dtype)
    rows = oracle.factors(objective, train, test, regularization=REGULARIZATION)
    actual = fitted(method, objective, train).influences(*test, *train, mode="perturbation")
    expected = oracle.perturbations(rows, objective, train)
    assert relative_error(actual, expected) < tolerance(method, dtype)


@pytest.mark.parametrize("mode", ["up", "perturbation"])
@pytest.mark.parametrize("variant", ["cg", "block cg"])
def test_cg_agrees_with_direct(xp, variant, mode):
    objective, train, test = problem(xp)
    direct = fitted("direct", objective, train).influences(*test, *train, mode=mode)
    cg = fitted(variant, objective, train).influences(*test, *train, mode=mode)
    assert relative_error(cg, direct) < CG_TOLERANCE


def test_rows_come_in_the_order_of_the_test_samples(xp, method):
    objective, train, (x, y) = problem(xp)
    model = fitted(method, objective, train)
    alone = [
        np.asarray(model.influences(x[i : i + 1, :], y[i : i + 1], *train))[0] for i in range(7)
    ]
    assert relative_error(model.influences(x, y, *train), alone) < tolerance(method)


def test_columns_come_in_the_order_of_the_training_samples(xp, method):
    objective, (x, y), test = problem(xp)
    model = fitted(method, objective, (x, y))
    reversed_samples = xp.asarray(np.arange(100)[::-1].copy())
    backward = (xp.take(x, reversed_samples, axis=0), xp.take(y, reversed_samples, axis=0))
    forward = np.asarray(model.influences(*test, x, y))
    assert relative_error(model.influences(*test, *backward), forward[:, ::-1]) < 1e-12


@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_without_training_samples_the_test_samples_are_their_own(xp, method, mode):
    objective, train, test = problem(xp)
    model = fitted(method, objective, train)
    expected = model.influences(*test, *test, mode=mode)
    assert relative_error(model.influences(*test, mode=mode), expected) < 1e-14


def test_direct_influence_on_the_same_samples_is_symmetric(xp):
    objective, train, test = problem(xp)
    influences = np.asarray(fitted("direct", objective, train).influences(*test))
    assert relative_error(influences, influences.T) < 1e-12


def test_up_weighting_a_sample_lowers_its_own_loss(xp, method):
    objective, train, test = problem(xp)
    assert np.all(np.diag(np.asarray(fitted(method, objective, train).influences(*test))) > 0)


def test_factors_approach_the_scaled_gradients_as_the_damping_grows(xp, method):
    objective, train, test = problem(xp)
    scaled = 1e8 * np.asarray(
        fitted(method, objective, train, regularization=1e8).influence_factors(*test)
    )
    assert relative_error(scaled, oracle.gradients(objective, test)) < 1e-6


def test_an_integer_is_a_regularization(xp, method):
    objective, train, test = problem(xp)
    expected = oracle.factors(objective, train, test, regularization=1)
    actual = fitted(method, objective, train, regularization=1).influence_factors(*test)
    assert relative_error(actual, expected) < tolerance(method)


@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_influences_have_the_type_that_the_model_declares(xp, method, mode):
    objective, train, test = problem(xp, dtype="float32")
    model = fitted(method, objective, train)
    assert np.asarray(model.influences(*test, *train, mode=mode)).dtype == model.dtype == "float32"
