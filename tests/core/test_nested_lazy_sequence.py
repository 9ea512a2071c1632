"""Rows of a nested lazy sequence share the work of their group, whoever asks first."""

from itertools import permutations

import pytest

from upweight import NestedLazyChunkSequence

GROUPS = (2, 1, 3)
COLUMNS = 4
EXPECTED = [[f"{row}.{column}" for column in range(COLUMNS)] for row in range(sum(GROUPS))]


class Source:
    """Chunks "row.column" in groups of rows; notes each column of a group as it is made."""

    def __init__(self, groups=GROUPS, columns=COLUMNS):
        self.groups, self.columns = groups, columns
        self.made = []

    def __call__(self):
        first = 0
        for index, size in enumerate(self.groups):
            yield self._group(index, range(first, first + size))
            first += size

    def _group(self, index, rows):
        for column in range(self.columns):
            self.made.append((index, column))
            yield [f"{row}.{column}" for row in rows]


def test_nothing_is_computed_when_the_sequence_is_made():
    source = Source()
    NestedLazyChunkSequence(source)
    assert source.made == []


def test_nothing_is_computed_when_an_iteration_starts():
    source = Source()
    iter(NestedLazyChunkSequence(source))
    assert source.made == []


def test_a_row_computes_nothing_of_the_groups_after_its_own():
    source = Source()
    list(next(iter(NestedLazyChunkSequence(source))))
    assert {group for group, _ in source.made} == {0}


def test_a_chunk_computes_no_later_column():
    source = Source()
    next(next(iter(NestedLazyChunkSequence(source))))
    assert source.made == [(0, 0)]


def test_rows_and_chunks_come_in_order():
    assert [list(row) for row in NestedLazyChunkSequence(Source())] == EXPECTED


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_rows_of_a_group_may_be_consumed_in_any_order_after_listing(order):
    rows = list(NestedLazyChunkSequence(Source((3,))))
    assert {row: list(rows[row]) for row in order} == dict(enumerate(EXPECTED[:3]))


def test_rows_may_be_consumed_backwards_after_listing():
    rows = list(NestedLazyChunkSequence(Source()))
    assert [list(row) for row in reversed(rows)] == EXPECTED[::-1]


def test_rows_may_be_consumed_chunk_by_chunk_in_turns():
    rows = list(NestedLazyChunkSequence(Source()))
    assert list(zip(*rows, strict=True)) == list(zip(*EXPECTED, strict=True))


def test_a_row_that_is_skipped_is_still_there_later():
    rows = iter(NestedLazyChunkSequence(Source()))
    skipped, _ = next(rows), list(next(rows))
    assert list(skipped) == EXPECTED[0]


@pytest.mark.parametrize("listed", [False, True])
def test_the_rows_of_a_group_share_each_of_its_columns(listed):
    source = Source()
    rows = NestedLazyChunkSequence(source)
    for row in list(rows) if listed else rows:
        list(row)
    assert sorted(source.made) == [(group, column) for group in range(3) for column in range(4)]


def test_every_iteration_computes_anew():
    source = Source()
    lazy = NestedLazyChunkSequence(source)
    assert lazy.compute() == lazy.compute()
    assert len(source.made) == 2 * len(GROUPS) * COLUMNS


def test_the_length_is_the_number_of_rows():
    assert len(NestedLazyChunkSequence(Source(), shape=(6, 4))) == 6


@pytest.mark.parametrize("shape", [(None, None), (None, 4)])
def test_an_unknown_number_of_rows_is_refused_and_nothing_computed(shape):
    source = Source()
    with pytest.raises(TypeError, match="not known before"):
        len(NestedLazyChunkSequence(source, shape=shape))
    assert source.made == []


@pytest.mark.parametrize("shape", [(None, None), (6, None), (6, 4)])
def test_computing_gives_the_chunks_in_lists(shape):
    assert NestedLazyChunkSequence(Source(), shape=shape).compute() == EXPECTED


def test_computing_hands_the_rows_to_the_aggregator():
    joined = NestedLazyChunkSequence(Source()).compute(lambda rows: ["/".join(row) for row in rows])
    assert joined == ["/".join(row) for row in EXPECTED]


def test_an_aggregator_may_list_the_rows_before_it_takes_their_chunks():
    listed = NestedLazyChunkSequence(Source()).compute(lambda rows: list(map(list, list(rows))))
    assert listed == EXPECTED


def test_no_groups_are_no_rows():
    assert NestedLazyChunkSequence(Source(())).compute() == []


@pytest.mark.parametrize("listed", [False, True])
def test_the_bar_reaches_the_number_of_chunks(capsys, listed):
    lazy = NestedLazyChunkSequence(Source(), shape=(6, 4), label="Pairs")
    lazy.compute((lambda rows: list(map(list, list(rows)))) if listed else None)
    assert "Pairs: 100%" in (bar := capsys.readouterr().err)
    assert "24/24" in bar


@pytest.mark.parametrize("shape", [(6, None), (None, 4)])
def test_a_bar_without_a_shape_counts(capsys, shape):
    NestedLazyChunkSequence(Source(), shape=shape, label="Pairs").compute()
    assert "Pairs: 24 block" in capsys.readouterr().err


def test_there_is_no_bar_when_it_is_switched_off(capsys):
    NestedLazyChunkSequence(Source(), shape=(6, 4), progress=False).compute()
    assert capsys.readouterr().err == ""
