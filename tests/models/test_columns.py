"""Columns of factors are cut once for all training batches where cutting copies, and not kept on."""

import gc
import pickle
import weakref

import numpy as np
import pytest

from upweight.models import _columns
from upweight.models._columns import Columns


class Counted(np.ndarray):
    """An array that stands for one whose slices are copies, and counts them."""

    slices = 0

    def __getitem__(self, key):
        type(self).slices += 1
        return super().__getitem__(key)


@pytest.fixture
def copied(monkeypatch):
    monkeypatch.setattr(_columns, "is_jax_array", lambda array: isinstance(array, Counted))
    monkeypatch.setattr(Counted, "slices", 0)
    return np.arange(12.0).reshape(2, 6).view(Counted)


def cut(rows):
    return [rows[:, :2], rows[:, 2:5], rows[:, 5:]]


@pytest.mark.parametrize("widths", [[2, 3], [6], []])
def test_pieces_have_their_widths_and_the_last_one_is_what_is_left(widths):
    rows = np.arange(12.0).reshape(2, 6)
    pieces = Columns()(rows, widths)
    assert [piece.shape[1] for piece in pieces] == [*widths, 6 - sum(widths)]
    assert np.array_equal(np.concatenate(pieces, axis=1), rows)


def test_the_last_array_is_not_cut_again(copied):
    columns = Columns()
    first = columns(copied, [2, 3])
    Counted.slices = 0
    assert columns(copied, [2, 3]) is first
    assert Counted.slices == 0


def test_another_array_is_cut(copied):
    columns, other = Columns(), (copied + 1).view(Counted)
    columns(copied, [2, 3])
    for piece, wanted in zip(columns(other, [2, 3]), cut(other), strict=True):
        assert np.array_equal(piece, wanted)


def test_pieces_go_with_the_array(copied):
    columns = Columns()
    pieces = columns((copied + 0).view(Counted), [2, 3])
    assert len(pieces) == 3
    gone = [weakref.ref(piece) for piece in pieces]
    del pieces
    gc.collect()
    assert [one() for one in gone] == [None] * 3


def test_pieces_do_not_travel(copied):
    columns = Columns()
    columns(copied, [2, 3])
    assert pickle.loads(pickle.dumps(columns))._last == (None, [])
