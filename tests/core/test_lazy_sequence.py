"""A lazy sequence computes a chunk when it is reached, and no sooner."""

import pytest

from upweight import LazyChunkSequence


class Source:
    """Chunks 0, 1, … that note when they are made."""

    def __init__(self, length=3):
        self.length = length
        self.made = []

    def __call__(self):
        for index in range(self.length):
            self.made.append(index)
            yield index


def test_nothing_is_computed_when_the_sequence_is_made():
    source = Source()
    LazyChunkSequence(source, length=3)
    assert source.made == []


def test_nothing_is_computed_when_an_iteration_starts():
    source = Source()
    iter(LazyChunkSequence(source, length=3))
    assert source.made == []


def test_a_chunk_is_computed_when_it_is_reached_and_the_next_is_not():
    source = Source()
    chunks = iter(LazyChunkSequence(source))
    assert next(chunks) == 0
    assert source.made == [0]


def test_every_iteration_computes_anew():
    source = Source()
    lazy = LazyChunkSequence(source)
    assert list(lazy) == list(lazy) == [0, 1, 2]
    assert source.made == [0, 1, 2, 0, 1, 2]


def test_two_iterations_do_not_disturb_each_other():
    lazy = LazyChunkSequence(Source())
    assert list(zip(lazy, lazy, strict=True)) == [(0, 0), (1, 1), (2, 2)]


def test_the_length_is_the_one_given():
    assert len(LazyChunkSequence(Source(), length=3)) == 3


def test_a_length_of_zero_is_known():
    assert len(LazyChunkSequence(Source(0), length=0)) == 0


def test_an_unknown_length_is_refused_and_nothing_computed():
    source = Source()
    with pytest.raises(TypeError, match="not known before"):
        len(LazyChunkSequence(source))
    assert source.made == []


@pytest.mark.parametrize("length", [None, 3])
def test_computing_gives_the_chunks_in_a_list(length):
    assert LazyChunkSequence(Source(), length=length).compute() == [0, 1, 2]


def test_computing_hands_the_chunks_to_the_aggregator():
    assert LazyChunkSequence(Source()).compute(aggregator=sum) == 3


def test_an_aggregator_that_has_enough_stops_the_computation():
    source = Source()
    assert LazyChunkSequence(source).compute(aggregator=next) == 0
    assert source.made == [0]


def test_computing_shows_a_bar_with_the_label_of_the_sequence(capsys):
    LazyChunkSequence(Source(), length=3, label="Factors").compute()
    assert "Factors: 100%" in capsys.readouterr().err


def test_a_bar_without_a_length_counts(capsys):
    LazyChunkSequence(Source(), label="Factors").compute()
    assert "Factors: 3 batch" in capsys.readouterr().err


def test_there_is_no_bar_when_it_is_switched_off(capsys):
    LazyChunkSequence(Source(), length=3, progress=False).compute()
    assert capsys.readouterr().err == ""


def test_iterating_by_hand_shows_no_bar(capsys):
    list(LazyChunkSequence(Source(), length=3))
    assert capsys.readouterr().err == ""
