"""Progress bars: there are as many as are wanted, inner ones go away, and one switch has them all."""

import subprocess
import sys
import threading

import pytest

from upweight import progress
from upweight.progress import inner_bar, length_of, progress_bar, set_progress, showing


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0)
    yield
    set_progress(True)


def printed(capsys, total, **options):
    with progress_bar(total, label="Walking", **options) as advance:
        for _ in range(total or 2):
            advance(1)
    return capsys.readouterr()


def inner(capsys):
    capsys.readouterr()
    with inner_bar(3, label="Looking", unit="step") as advance:
        advance(3)
    return capsys.readouterr().err


def test_a_bar_has_its_label_and_reaches_its_total(capsys):
    bar = printed(capsys, 4).err
    assert "Walking: 100%" in bar
    assert "4/4" in bar


def test_a_bar_without_a_total_counts(capsys):
    assert "Walking: 2 run" in printed(capsys, None, unit="run").err


def test_there_is_no_bar_when_it_is_not_wanted(capsys):
    assert printed(capsys, 4, show=False).err == ""


def test_a_bar_never_writes_to_the_output(capsys):
    assert printed(capsys, 4).out == ""


def test_a_bar_ends_with_the_block_that_fails(capsys):
    with pytest.raises(ZeroDivisionError), progress_bar(4, label="Walking"):
        raise ZeroDivisionError
    assert capsys.readouterr().err.endswith("\n")


def test_one_switch_turns_all_bars_off_and_on(capsys):
    set_progress(False)
    assert printed(capsys, 4).err == ""
    with progress_bar(2, label="Walking"):
        assert inner(capsys) == ""
    set_progress(True)
    assert printed(capsys, 4).err != ""


@pytest.mark.parametrize(("value", "shown"), [("0", False), ("off", False), ("1", True)])
def test_the_environment_has_the_switch_as_well(value, shown):
    program = (
        "from upweight.progress import progress_bar\nwith progress_bar(1, label='Walking'): pass"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path), "UPWEIGHT_PROGRESS": value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("Walking" in ended.stderr) == shown


def test_an_inner_bar_needs_one_around_it(capsys):
    assert inner(capsys) == ""
    with progress_bar(2, label="Walking"):
        assert "Looking" in inner(capsys)
    assert inner(capsys) == ""


def test_an_inner_bar_goes_away_and_the_outer_one_stays(capsys):
    with progress_bar(2, label="Walking") as advance:
        inner(capsys)
        last_line = inner(capsys).split("\r")[-1]
        advance(2)
    assert last_line.strip("\x1b[A ") == ""
    assert "2/2" in capsys.readouterr().err.split("\r")[-1]


def test_a_bar_within_another_one_goes_away(capsys):
    with progress_bar(2, label="Outside"):
        bar = printed(capsys, 2).err
    assert "Walking" in bar
    assert "Walking" not in bar.split("\r")[-1]


def test_what_shows_no_bar_shows_none_below_another_one(capsys):
    with progress_bar(2, label="Outside"), showing(False):
        assert inner(capsys) == ""
    with showing(True):
        assert "Looking" in inner(capsys)


def test_inner_bars_wait_for_what_takes_long(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 60)
    with progress_bar(2, label="Walking"):
        assert "Looking" not in inner(capsys)


def test_a_generator_that_is_left_does_not_turn_bars_on(capsys):
    def endless():
        with progress_bar(None, label="Endless"):
            while True:
                yield

    abandoned = endless()
    with showing(True):
        next(abandoned)
    abandoned.close()
    capsys.readouterr()
    assert inner(capsys) == ""


def test_threads_do_not_see_the_bars_of_others(capsys):
    seen = []
    with progress_bar(2, label="Walking"):
        capsys.readouterr()
        other = threading.Thread(target=lambda: seen.append(inner(capsys)))
        other.start()
        other.join()
    assert seen == [""]


@pytest.mark.parametrize(("items", "length"), [([1, 2], 2), ({}, 0), (iter([1]), None)])
def test_the_length_is_that_of_a_collection_or_not_known(items, length):
    assert length_of(items) == length


def test_a_length_that_is_asked_in_vain_is_not_known():
    class Stream:
        def __len__(self):
            raise TypeError("A stream has no length.")

    assert length_of(Stream()) is None
