"""A progress bar is shown where the length is known and it is wanted."""

import pytest

from upweight.progress import length_of, progress_bar


def printed(capsys, total, **options):
    with progress_bar(total, label="Walking", **options) as advance:
        for _ in range(total or 2):
            advance(1)
    return capsys.readouterr()


def test_a_bar_has_its_label_and_reaches_its_total(capsys):
    bar = printed(capsys, 4).err
    assert "Walking: 100%" in bar
    assert "4/4" in bar


@pytest.mark.parametrize("options", [{"total": None}, {"total": 4, "show": False}])
def test_there_is_no_bar_without_a_total_or_when_it_is_switched_off(capsys, options):
    assert printed(capsys, **options).err == ""


def test_a_bar_never_writes_to_the_output(capsys):
    assert printed(capsys, 4).out == ""


def test_a_bar_ends_with_the_block_that_fails(capsys):
    with pytest.raises(ZeroDivisionError), progress_bar(4, label="Walking"):
        raise ZeroDivisionError
    assert capsys.readouterr().err.endswith("\n")


@pytest.mark.parametrize(("items", "length"), [([1, 2], 2), ({}, 0), (iter([1]), None)])
def test_the_length_is_that_of_a_collection_or_not_known(items, length):
    assert length_of(items) == length


def test_a_length_that_is_asked_in_vain_is_not_known():
    class Stream:
        def __len__(self):
            raise TypeError("A stream has no length.")

    assert length_of(Stream()) is None
