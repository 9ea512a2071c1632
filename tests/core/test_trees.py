"""Inputs of several arrays keep their structure and their order."""

import array_api_strict
import numpy as np
import pytest

from upweight import UnsupportedInfluenceModeError
from upweight.trees import leaves, map_leaves, perturbed_leaf, rebuild

TREES = {"array": 1, "tuple": (1, 2), "list": [1, 2], "mapping": {"b": 1, "a": 2}}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_leaves_come_in_the_order_they_were_given(tree):
    assert leaves(tree) == ((1,) if tree == 1 else (1, 2))


@pytest.mark.parametrize(
    ("tree", "expected"),
    [(1, 10), ((1, 2), (10, 20)), ([1, 2], (10, 20)), ({"b": 1, "a": 2}, {"b": 10, "a": 20})],
    ids=TREES,
)
def test_a_function_is_applied_to_each_leaf_in_its_place(tree, expected):
    assert map_leaves(lambda leaf: 10 * leaf, tree) == expected


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_a_tree_is_rebuilt_from_its_leaves(tree):
    assert leaves(rebuild(tree, leaves(tree))) == leaves(tree)


def test_a_rebuilt_mapping_keeps_its_names_with_their_values():
    assert rebuild({"b": 1, "a": 2}, (3, 4)) == {"b": 3, "a": 4}


@pytest.fixture(params=[np, array_api_strict], ids=["numpy", "array_api_strict"])
def xp(request):
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_one_floating_point_array_is_perturbed(xp, dtype):
    values = xp.zeros((2, 3), dtype=getattr(xp, dtype))
    mask = xp.ones((2, 3)) > 0
    assert perturbed_leaf({"mask": mask, "ids": xp.arange(2), "values": values}) is values


def test_several_floating_point_arrays_are_refused_with_their_number(xp):
    with pytest.raises(UnsupportedInfluenceModeError, match="got 3"):
        perturbed_leaf((xp.zeros(2), xp.zeros(2), xp.arange(2), xp.zeros(2)))


def test_integers_alone_are_refused_with_their_types(xp):
    with pytest.raises(UnsupportedInfluenceModeError, match=r"int32.*bool"):
        perturbed_leaf((xp.zeros(2, dtype=xp.int32), xp.zeros(2) > 0))
