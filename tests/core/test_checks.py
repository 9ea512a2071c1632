"""What users pass in is checked at the boundary, with messages that name what arrived."""

import array_api_strict
import numpy as np
import pytest

from upweight import BatchError, DataError, NonFiniteError, UpweightError
from upweight.checks import as_batch, batch_size, check_finite, check_reusable, located

TWO, THREE = np.zeros((2, 4)), np.zeros(3)


@pytest.mark.parametrize(
    "tree",
    [THREE, (THREE,), [THREE, THREE], {"a": THREE, "b": np.zeros((3, 7, 1))}],
    ids=["array", "tuple", "list", "mapping"],
)
def test_the_size_of_a_batch_is_the_length_that_its_arrays_share(tree):
    assert batch_size(tree, THREE) == 3


@pytest.mark.parametrize(
    "other", [TWO, (THREE, TWO), {"a": TWO}], ids=["array", "tuple", "mapping"]
)
def test_arrays_of_different_lengths_are_refused_with_the_lengths(other):
    with pytest.raises(BatchError, match=r"lengths \[3, (3, )?2\]"):
        batch_size(THREE, other)


def test_an_empty_batch_is_refused():
    with pytest.raises(BatchError, match="at least one sample"):
        batch_size(np.zeros((0, 4)), np.zeros(0))


@pytest.mark.parametrize("tree", [(), {}])
def test_a_batch_without_arrays_is_refused(tree):
    with pytest.raises(BatchError):
        batch_size(tree)


def test_a_scalar_is_refused():
    with pytest.raises(BatchError, match="got a scalar"):
        batch_size(THREE, np.zeros(()))


@pytest.mark.parametrize("leaf", ["text", 3, None])
def test_what_is_no_array_is_refused_with_its_type(leaf):
    with pytest.raises(BatchError, match=f"type '{type(leaf).__name__}'"):
        batch_size((THREE, leaf))


@pytest.mark.parametrize("item", [(THREE, THREE), [THREE, THREE]], ids=["tuple", "list"])
def test_a_pair_is_a_batch(item):
    assert as_batch(item) == (item[0], item[1])


@pytest.mark.parametrize(
    ("item", "arrived"),
    [
        ((THREE,), "1 items"),
        ((THREE, THREE, THREE), "3 items"),
        ({"x": THREE, "y": THREE}, "a 'dict'"),
        (np.zeros((2, 3)), "a 'ndarray'"),
    ],
    ids=["one", "three", "mapping", "array"],
)
def test_what_is_no_pair_is_refused_with_what_arrived(item, arrived):
    with pytest.raises(BatchError, match=arrived):
        as_batch(item)


def test_a_pair_of_different_lengths_is_no_batch():
    with pytest.raises(BatchError, match="same number of samples"):
        as_batch((TWO, THREE))


class Loader:
    def __iter__(self):
        return iter([(THREE, THREE)])


@pytest.mark.parametrize("data", [[], (), Loader()], ids=["list", "tuple", "loader"])
def test_collections_that_can_be_read_again_pass(data):
    check_reusable(data)


@pytest.mark.parametrize(
    "data", [iter([]), (i for i in ()), map(str, []), zip()], ids=lambda data: type(data).__name__
)
def test_what_can_be_read_only_once_is_refused_by_its_type(data):
    with pytest.raises(DataError, match=f"a '{type(data).__name__}' can be read only once"):
        check_reusable(data)


@pytest.mark.parametrize("data", [None, 7])
def test_what_cannot_be_iterated_is_refused_by_its_type(data):
    with pytest.raises(TypeError, match=f"got '{type(data).__name__}'"):
        check_reusable(data)


@pytest.fixture(params=[np, array_api_strict], ids=["numpy", "array_api_strict"])
def xp(request):
    return request.param


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_by_name_and_sample(xp, bad):
    values = xp.asarray([0.0, 1, bad, 3])
    with pytest.raises(
        NonFiniteError, match=r"The loss is NaN or infinite, first at samples \[2\]"
    ):
        check_finite(values, what="loss")


@pytest.mark.parametrize(("axis", "samples"), [(0, r"\[1\]"), (1, r"\[2\]"), (2, r"\[0, 3\]")])
def test_samples_are_counted_along_their_axis(xp, axis, samples):
    values = np.zeros((2, 3, 4))
    values[1, 2, [0, 3]] = np.nan
    with pytest.raises(NonFiniteError, match=f"samples {samples}"):
        check_finite(xp.asarray(values), what="influence", axis=axis)


def test_no_more_than_ten_samples_are_named(xp):
    with pytest.raises(NonFiniteError, match=r"samples \[0, 1, 2, 3, 4, 5, 6, 7, 8, 9\] of"):
        check_finite(xp.asarray(np.full((50, 2), np.nan)), what="gradient")


@pytest.mark.parametrize("shape", [(3,), (0,), (2, 3, 4)])
def test_finite_numbers_pass(xp, shape):
    check_finite(xp.zeros(shape), what="loss")


def raised_within(place, error):
    """Return the notes of an error that was raised in a located block."""
    with pytest.raises(type(error)) as caught, located(place):
        raise error
    return getattr(caught.value, "__notes__", [])


def test_an_error_of_ours_is_given_its_place():
    assert raised_within("training batch 3", BatchError("")) == ["This arose at training batch 3."]


def test_an_error_of_another_library_is_left_alone():
    assert raised_within("training batch 3", ZeroDivisionError()) == []


def test_the_errors_of_checks_are_of_the_common_base():
    assert all(
        issubclass(error, UpweightError) for error in (BatchError, DataError, NonFiniteError)
    )
