"""The aggregators that need no framework."""

from upweight import ListAggregator, NestedListAggregator


def test_chunks_become_a_list_in_their_order():
    assert ListAggregator()(iter([3, 1, 2])) == [3, 1, 2]


def test_rows_become_lists_in_their_order():
    assert NestedListAggregator()(iter([iter([3, 1]), iter([2, 4])])) == [[3, 1], [2, 4]]


def test_no_chunks_become_an_empty_list():
    assert ListAggregator()(iter([])) == []


def test_no_rows_become_an_empty_list():
    assert NestedListAggregator()(iter([])) == []
