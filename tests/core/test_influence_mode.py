"""Modes have names that are accepted everywhere, and no others."""

import pickle

import pytest

from upweight import InfluenceMode, UnsupportedInfluenceModeError
from upweight.influence import both_or_default


@pytest.mark.parametrize("mode", InfluenceMode)
def test_a_mode_is_the_string_of_its_name(mode):
    assert InfluenceMode(mode.name.lower()) is mode


@pytest.mark.parametrize("mode", InfluenceMode)
def test_a_mode_is_itself_a_mode(mode):
    assert InfluenceMode(mode) is mode


@pytest.mark.parametrize("value", ["UP", "down", None, 0, True])
def test_anything_else_is_refused_with_what_arrived_and_what_there_is(value):
    with pytest.raises(UnsupportedInfluenceModeError) as error:
        InfluenceMode(value)
    assert str(error.value).endswith(f"one of ['up', 'perturbation']; got {value!r}.")


def test_an_unknown_mode_is_a_value_error_to_those_who_do_not_know_ours():
    with pytest.raises(ValueError, match="influence mode"):
        InfluenceMode("sideways")


@pytest.mark.parametrize("mode", InfluenceMode)
def test_a_mode_is_the_same_object_after_a_journey(mode):
    assert pickle.loads(pickle.dumps(mode)) is mode


def test_both_arrays_are_taken_where_both_are_given():
    assert both_or_default(1, 2, default=(3, 4)) == (1, 2)


def test_no_array_gives_the_default():
    assert both_or_default(None, None, default=(3, 4)) == (3, 4)


@pytest.mark.parametrize(("x", "y", "given"), [(1, None, "x"), (None, 2, "y")])
def test_one_array_of_two_is_refused_by_its_name(x, y, given):
    with pytest.raises(ValueError, match=f"got only `{given}`"):
        both_or_default(x, y, default=(3, 4))
