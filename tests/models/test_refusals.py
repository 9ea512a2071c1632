"""What cannot be computed is refused before the work starts, or at the batch that shows it."""

import numpy as np
import pytest
from reference import SoftmaxRegression, dense_hessian, softmax_problem

from upweight import (
    BatchError,
    DataError,
    MemoryLimitError,
    ModelError,
    NonFiniteError,
    NotFittedError,
    UnsupportedInfluenceModeError,
)
from upweight.models import CgInfluence, DirectInfluence


@pytest.fixture(params=[DirectInfluence, CgInfluence], ids=["direct", "cg"])
def method(request):
    return request.param


@pytest.fixture
def fitted(xp, method):
    objective, train = softmax_problem(xp=xp)
    return method(objective, regularization=0.1).fit([train])


def with_nan(xp, *, sample, n=30):
    x = np.array(softmax_problem(n=n)[1][0])
    x[sample, 1] = np.nan
    return xp.asarray(x), softmax_problem(n=n, xp=xp)[1][1]


def notes(error):
    return " ".join(getattr(error.value, "__notes__", []))


def test_nan_in_the_training_data_is_named_by_its_sample(xp, method):
    objective, train = softmax_problem(xp=xp)
    with pytest.raises(NonFiniteError, match=r"loss is NaN or infinite, first at samples \[17\]"):
        method(objective, regularization=0.1).fit([train, with_nan(xp, sample=17)])


def test_nan_in_the_training_data_is_named_by_its_batch(xp, method):
    objective, train = softmax_problem(xp=xp)
    with pytest.raises(NonFiniteError) as error:
        method(objective, regularization=0.1).fit([train, with_nan(xp, sample=17)])
    assert "training batch 1" in notes(error)


def test_nan_in_the_test_data_is_named_by_its_sample(xp, fitted):
    with pytest.raises(NonFiniteError, match=r"gradient of the loss .* samples \[3\]"):
        fitted.influence_factors(*with_nan(xp, sample=3))


@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_nan_in_the_training_side_of_influences_is_named_by_its_sample(xp, fitted, mode):
    test = softmax_problem(xp=xp, n=4)[1]
    with pytest.raises(NonFiniteError, match=r"influence is NaN or infinite, .* samples \[3\]"):
        fitted.influences(*test, *with_nan(xp, sample=3), mode=mode)


def test_a_curvature_that_is_nan_where_the_loss_is_finite_is_refused(xp, method):
    class Kinked(SoftmaxRegression):
        def hessian_product(self, rows, batch):
            return super().hessian_product(rows, batch) * float("nan")

    objective, train = softmax_problem(xp=xp)
    model = method(Kinked(objective.weight, objective.bias), regularization=0.1)
    with pytest.raises(NonFiniteError, match="curvature of block 'full'"):
        model.fit([train]).influence_factors(*train)


def test_factors_of_an_unfitted_model_are_refused(method):
    objective, batch = softmax_problem()
    with pytest.raises(NotFittedError, match="fit"):
        method(objective, regularization=0.1).influence_factors(*batch)


def test_influences_of_an_unfitted_model_are_refused(method):
    objective, batch = softmax_problem()
    with pytest.raises(NotFittedError, match="fit"):
        method(objective, regularization=0.1).influences_from_factors(objective.zeros(2), *batch)


def test_a_model_is_fitted_after_fit_and_not_before(method):
    objective, batch = softmax_problem()
    model = method(objective, regularization=0.1)
    before = model.is_fitted
    assert [before, model.fit([batch]).is_fitted] == [False, True]


def test_fit_returns_the_model(method):
    objective, batch = softmax_problem()
    model = method(objective, regularization=0.1)
    assert model.fit([batch]) is model


@pytest.mark.parametrize("mode", ["Up", "", None, "sideways"])
def test_an_unknown_mode_is_refused_with_the_known_ones(fitted, mode):
    with pytest.raises(UnsupportedInfluenceModeError, match="'up', 'perturbation'"):
        fitted.influences(*softmax_problem()[1], mode=mode)


def test_token_ids_cannot_be_perturbed(method):
    objective, (x, y) = softmax_problem()
    tokens = np.round(x).astype("int64")
    model = method(objective, regularization=0.1).fit([(tokens, y)])
    with pytest.raises(UnsupportedInfluenceModeError, match=r"no input is floating-point.*int64"):
        model.influences(tokens, y, mode="perturbation")


def test_data_without_a_batch_is_refused(method):
    with pytest.raises(DataError, match="no batch"):
        method(softmax_problem()[0], regularization=0.1).fit([])


def test_a_generator_is_refused(method):
    objective, batch = softmax_problem()
    with pytest.raises(DataError, match="'generator' can be read only once"):
        method(objective, regularization=0.1).fit(batch for _ in range(2))


@pytest.mark.parametrize("data", [None, 3])
def test_what_is_no_collection_is_refused(method, data):
    with pytest.raises(TypeError, match="collection of batches"):
        method(softmax_problem()[0], regularization=0.1).fit(data)


def test_a_batch_of_mismatched_lengths_is_refused_where_it_is(method):
    objective, (x, y) = softmax_problem()
    with pytest.raises(BatchError, match=r"lengths \[30, 29\]") as error:
        method(objective, regularization=0.1).fit([(x, y), (x, y), (x, y[:-1])])
    assert "training batch 2" in notes(error)


def test_test_samples_of_mismatched_lengths_are_refused(fitted):
    x, y = softmax_problem()[1]
    with pytest.raises(BatchError, match=r"lengths \[30, 29\]"):
        fitted.influence_factors(x, y[:-1])


@pytest.mark.parametrize("shape", [(2, 14), (15,), (1, 2, 15)])
def test_factors_of_another_model_are_refused(fitted, shape):
    with pytest.raises(BatchError, match=r"must have shape \(k, 15\)"):
        fitted.influences_from_factors(np.zeros(shape), *softmax_problem()[1])


@pytest.mark.parametrize("missing", ["x", "y"])
def test_half_of_the_training_samples_is_refused(fitted, missing):
    x, y = softmax_problem()[1]
    training = {"x": x, "y": y, missing: None}
    with pytest.raises(ValueError, match="both `x` and `y`"):
        fitted.influences(x, y, **training)


@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf"), True, "0.1", None, 1j])
def test_what_is_no_regularization_is_refused_and_shown(method, value):
    with pytest.raises(ValueError, match="`regularization` must be") as error:
        method(softmax_problem()[0], regularization=value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("value", [0, 2, 0.5, np.float32(0.5), np.int64(2)])
def test_any_real_number_is_a_regularization(method, value):
    model = method(softmax_problem()[0], regularization=value)
    assert model.regularization == {"full": value}


def test_a_model_without_parameters_is_refused(method):
    nothing = SoftmaxRegression(np.zeros((0, 4)), np.zeros(0))
    with pytest.raises(ModelError, match="no trainable parameter"):
        method(nothing, regularization=0.1)


@pytest.mark.parametrize(
    "options", [{"rtol": -1.0}, {"atol": -1.0}, {"rtol": 0.0}, {"rtol": float("nan")}]
)
def test_a_tolerance_that_cannot_be_met_is_refused(options):
    with pytest.raises(ValueError, match="`rtol` and `atol`"):
        CgInfluence(softmax_problem()[0], **options)


def test_no_steps_at_all_are_refused():
    with pytest.raises(ValueError, match="`maxiter` must be at least 1; got 0"):
        CgInfluence(softmax_problem()[0], maxiter=0)


def test_an_unknown_solver_is_refused():
    with pytest.raises(ValueError, match=r"'lockstep', 'block'.*got 'blocks'"):
        CgInfluence(softmax_problem()[0], solver="blocks")


class Untouchable:
    """Data that must not be read."""

    def __iter__(self):
        raise AssertionError("The data was read.")


def test_a_hessian_too_large_for_the_memory_is_refused_before_any_work():
    model = DirectInfluence(softmax_problem()[0], max_memory=1000)
    with pytest.raises(MemoryLimitError, match="CgInfluence"):
        model.fit(Untouchable())


def test_a_hessian_too_large_for_its_device_is_refused_with_both_sizes():
    class Small(SoftmaxRegression):
        def available_memory(self):
            return 2**20

    model = DirectInfluence(Small(np.zeros((100, 99)), np.zeros(100)))
    with pytest.raises(MemoryLimitError, match=r"10,000 .* [34]\.\d+ GiB; 1\.00 MiB are"):
        model.fit(Untouchable())


def test_the_memory_needed_is_no_more_than_that_of_a_few_matrices():
    objective, train = softmax_problem()
    matrix = dense_hessian(objective, train[0]).nbytes
    DirectInfluence(objective, regularization=0.1, max_memory=6 * matrix).fit([train])
