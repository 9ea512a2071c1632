"""What the sequential calculator asks of the model: nothing early, and nothing twice."""

import pytest
from calculators.problems import MODES, batches, forget, joined, problem, taken, tally

from upweight import SequentialInfluenceCalculator

ROOMY, TINY = "1 GiB", 1


def lazy_influences(mode="up", *, max_memory=ROOMY, progress=False):
    """Return untouched influences of 4 test batches on 3 training batches, and what they are of."""
    model, test, train = problem()
    forget(model)
    calc = SequentialInfluenceCalculator(model, max_memory=max_memory, progress=progress)
    return calc.influences(batches(test, 2), batches(train, 7), mode), model, test, train


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_computed_before_it_is_asked_for(mode):
    lazy, model, _, _ = lazy_influences(mode)
    assert (len(lazy), model.calls) == (4, [])


def test_no_batch_is_read_before_influences_are_asked_for():
    class Unreadable(list):
        def __iter__(self):
            raise AssertionError("read too early")

    model, _, _ = problem()
    calc = SequentialInfluenceCalculator(model)
    assert len(calc.influences(Unreadable(), Unreadable())) == 0


def test_a_factor_is_solved_when_iteration_reaches_it():
    model, test, _ = problem()
    factors = SequentialInfluenceCalculator(model).influence_factors(batches(test, 3))
    next(iter(factors))
    assert model.calls == [("factors", 3)]


@pytest.mark.parametrize("max_memory", [TINY, "3 KiB", ROOMY])
@pytest.mark.parametrize("mode", MODES)
def test_no_factor_is_solved_twice(mode, max_memory):
    lazy, model, test, _ = lazy_influences(mode, max_memory=max_memory)
    joined(lazy)
    assert taken(tally(model).gradients_of, test[0]) == [1] * 7


def test_each_training_gradient_is_taken_once_when_all_factors_fit():
    lazy, model, _, train = lazy_influences()
    joined(lazy)
    assert taken(tally(model).gradients_of, train[0]) == [1] * 20


def test_each_input_gradient_is_taken_once_when_all_factors_fit():
    lazy, model, _, train = lazy_influences("perturbation")
    joined(lazy)
    assert taken(tally(model).input_gradients_of, train[0]) == [1] * 20


def test_each_training_gradient_is_taken_once_for_each_group():
    lazy, model, _, train = lazy_influences(max_memory=TINY)
    joined(lazy)
    assert taken(tally(model).gradients_of, train[0]) == [4] * 20


# A test sample takes 8 bytes for each of its 15 factors and each of its results.
@pytest.mark.parametrize(
    ("mode", "row_bytes"), [("up", 8 * (15 + 21)), ("perturbation", 8 * (15 + 21 * 4))]
)
@pytest.mark.parametrize("rows", [1, 2, 4, 6])
def test_a_group_has_the_test_batches_whose_factors_and_results_fit(mode, row_bytes, rows):
    lazy, model, _, _ = lazy_influences(mode, max_memory=rows * row_bytes)
    joined(lazy)
    groups = [call[1] for call in model.calls if call[0] == "influences"][::3]
    assert groups == {1: [2, 2, 2, 1], 2: [2, 2, 2, 1], 4: [4, 3], 6: [6, 1]}[rows]


def test_factors_that_are_given_are_not_solved_again():
    model, test, train = problem()
    calc = SequentialInfluenceCalculator(model, progress=False)
    factors = calc.influence_factors(batches(test, 2)).compute()
    forget(model)
    joined(calc.influences_from_factors(factors, batches(train, 7)))
    assert {call[0] for call in model.calls} == {"influences"}


def test_lazy_factors_are_solved_once_when_influences_are_computed():
    model, test, train = problem()
    calc = SequentialInfluenceCalculator(model, progress=False)
    lazy = calc.influences_from_factors(calc.influence_factors(batches(test, 2)), batches(train, 7))
    joined(lazy)
    assert taken(tally(model).gradients_of, test[0]) == [1] * 7


@pytest.mark.parametrize("max_memory", [0, -1, "0 B", "many"])
def test_memory_that_is_no_positive_size_is_refused(max_memory):
    model, _, _ = problem()
    with pytest.raises(ValueError, match=r"max_memory|byte unit"):
        SequentialInfluenceCalculator(model, max_memory=max_memory)


def test_progress_is_shown_where_the_number_of_batches_is_known(capsys):
    lazy, _, _, _ = lazy_influences(progress=True)
    lazy.compute()
    assert "12/12" in capsys.readouterr().err


def test_progress_can_be_turned_off(capsys):
    lazy, _, _, _ = lazy_influences(progress=False)
    lazy.compute()
    assert capsys.readouterr().err == ""


def test_progress_of_factors_can_be_turned_off(capsys):
    model, test, _ = problem()
    SequentialInfluenceCalculator(model, progress=False).influence_factors(
        batches(test, 2)
    ).compute()
    assert capsys.readouterr().err == ""
