"""What the sequential calculator refuses, and that it does so before it works in vain."""

import numpy as np
import pytest
from calculators.problems import batches, fitted_model, forget, joined, problem, samples
from reference import softmax_problem

from upweight import (
    BatchError,
    DataError,
    NonFiniteError,
    NotFittedError,
    SequentialInfluenceCalculator,
    UnsupportedInfluenceModeError,
)
from upweight.models import DirectInfluence


class Shuffled:
    """A collection whose batches hold other samples on each pass."""

    def __init__(self, data, size):
        self.data, self.size, self.rng = data, size, np.random.default_rng(0)

    def __iter__(self):
        order = self.rng.permutation(len(self.data[1]))
        return iter(batches((self.data[0][order], self.data[1][order]), self.size))

    def __len__(self):
        return (len(self.data[1]) + self.size - 1) // self.size


class Changing:
    """A collection that is another list on each pass, the last one from then on."""

    def __init__(self, *passes):
        self.passes = list(passes)

    def __iter__(self):
        return iter(self.passes.pop(0) if len(self.passes) > 1 else self.passes[0])


@pytest.fixture
def loaders():
    model, test, train = problem()
    forget(model)
    # One test batch a group, so that the training data is read several times.
    calc = SequentialInfluenceCalculator(model, progress=False, max_memory=1)
    return calc, model, test, train


def test_a_model_that_is_not_fitted_is_refused():
    objective, _ = softmax_problem()
    with pytest.raises(NotFittedError, match="fit"):
        SequentialInfluenceCalculator(DirectInfluence(objective))


def test_what_is_no_influence_model_is_refused():
    with pytest.raises(TypeError, match="InfluenceFunctionModel"):
        SequentialInfluenceCalculator("direct")


@pytest.mark.parametrize("mode", ["UP", "perturb", 1, None])
def test_an_unknown_mode_is_refused_at_once(loaders, mode):
    calc, _, test, train = loaders
    with pytest.raises(UnsupportedInfluenceModeError, match="perturbation"):
        calc.influences(batches(test, 3), batches(train, 6), mode)


def test_an_unknown_mode_is_refused_at_once_for_given_factors(loaders):
    calc, _, _, train = loaders
    with pytest.raises(UnsupportedInfluenceModeError, match="perturbation"):
        calc.influences_from_factors([np.zeros((2, 15))], batches(train, 6), "perturb")


def test_perturbing_token_ids_is_refused_before_any_factor_is_solved():
    test, train = samples((4,), n_test=4, n_train=9, dtype="int64")
    model = fitted_model(train)
    calc = SequentialInfluenceCalculator(model, progress=False)
    with pytest.raises(UnsupportedInfluenceModeError, match="int64"):
        calc.influences(batches(test, 2), batches(train, 3), "perturbation").compute()
    assert model.calls == []


@pytest.mark.parametrize("empty", ["test", "training"])
def test_data_without_batches_is_refused_before_any_factor_is_solved(loaders, empty):
    calc, model, test, train = loaders
    data = {"test": batches(test, 3), "training": batches(train, 6), empty: []}
    with pytest.raises(DataError, match=f"{empty} data holds no batch"):
        calc.influences(data["test"], data["training"]).compute()
    assert model.calls == []


def test_factors_of_no_batch_are_refused(loaders):
    with pytest.raises(DataError, match="no batch"):
        loaders[0].influence_factors([]).compute()


def test_influences_of_no_factors_are_refused(loaders):
    calc, _, _, train = loaders
    with pytest.raises(DataError, match="no factors"):
        calc.influences_from_factors([], batches(train, 6)).compute()


@pytest.mark.parametrize("position", [0, 1])
def test_generators_are_refused_at_once(loaders, position):
    calc, _, test, train = loaders
    data = [batches(test, 3), batches(train, 6)]
    data[position] = (batch for batch in data[position])
    with pytest.raises(DataError, match="generator"):
        calc.influences(*data)


def test_what_cannot_be_iterated_is_refused_at_once(loaders):
    with pytest.raises(TypeError, match="collection of batches"):
        loaders[0].influence_factors(3)


@pytest.mark.parametrize("position", [0, 1])
def test_shuffling_is_noticed_before_any_factor_is_solved(loaders, position):
    calc, model, *data = loaders
    loader = [batches(data[0], 3), batches(data[1], 6)]
    loader[position] = Shuffled(data[position], 2)
    with pytest.raises(DataError, match="shuffl"):
        calc.influences(*loader).compute()
    assert model.calls == []


def test_training_data_that_changes_later_is_named_by_its_batch(loaders):
    calc, _, test, train = loaders
    first = batches(train, 5)
    later = [*first[:2], (first[2][0] + 1, first[2][1]), *first[3:]]
    data = Changing(first, first, first, later)
    with pytest.raises(DataError, match="Batch 2 of the training data"):
        joined(calc.influences(batches(test, 3), data))


def test_test_data_that_changes_between_computations_is_named_by_its_batch(loaders):
    calc, _, test, train = loaders
    first = batches(test, 3)
    later = [first[0], first[1], (first[2][0], (first[2][1] + 1) % 3)]
    lazy = calc.influences(Changing(first, first, first, later), batches(train, 6))
    lazy.compute()
    with pytest.raises(DataError, match="Batch 2 of the test data"):
        lazy.compute()


@pytest.mark.parametrize(("before", "now"), [(4, 3), (4, 1)])
def test_training_data_that_runs_short_later_is_refused(loaders, before, now):
    calc, _, test, train = loaders
    whole = batches(train, 5)
    data = Changing(*[whole[:before]] * 3, whole[:now])
    with pytest.raises(DataError, match=f"{before} batches before and {now} now"):
        joined(calc.influences(batches(test, 3), data))


def test_training_data_that_grows_later_is_refused(loaders):
    calc, _, test, train = loaders
    whole = batches(train, 5)
    data = Changing(*[whole[:3]] * 3, whole)
    with pytest.raises(DataError, match="3 batches before and holds more now"):
        joined(calc.influences(batches(test, 3), data))


def test_samples_and_labels_of_other_lengths_are_named_by_their_batch(loaders):
    calc, _, test, train = loaders
    first, second = batches(test, 4)
    with pytest.raises(BatchError, match=r"\[3, 2\]") as caught:
        calc.influences([first, (second[0], second[1][:2])], batches(train, 6)).compute()
    assert any("batch 1 of the test data" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("item", [(1,), (1, 2, 3), {"x": 1, "y": 2}, np.zeros((2, 4)), "xy"])
def test_a_batch_that_is_no_pair_is_refused(loaders, item):
    calc, _, test, _ = loaders
    with pytest.raises(BatchError, match="pair"):
        calc.influences(batches(test, 3), [item]).compute()


def test_a_batch_of_no_sample_is_refused(loaders):
    calc, _, test, train = loaders
    with pytest.raises(BatchError, match="at least one sample"):
        calc.influences(batches(test, 3), [(train[0][:0], train[1][:0])]).compute()


def test_factors_of_another_width_are_refused(loaders):
    calc, _, _, train = loaders
    with pytest.raises(BatchError, match=r"\(k, 15\)"):
        calc.influences_from_factors([np.zeros((2, 14))], batches(train, 6)).compute()


def test_data_that_is_not_finite_is_named_by_batch_and_sample(loaders):
    calc, _, test, train = loaders
    x = train[0].copy()
    x[9] = np.nan
    with pytest.raises(NonFiniteError, match=r"\[3\]") as caught:
        calc.influences(batches(test, 3), batches((x, train[1]), 6)).compute()
    assert any("batch 1 of the training data" in note for note in caught.value.__notes__)
