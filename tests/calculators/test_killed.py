"""Runs that are killed at any moment lose what was in flight and nothing else."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from calculators import killed
from zarr.storage import MemoryStore

from upweight import IncompleteResultError, open_result

#: How often runs are killed: more where somebody has the time.
KILLS = int(os.environ.get("UPWEIGHT_KILLS", "4"))

BLOCKS = killed.N_TEST // killed.BATCH * (killed.N_TRAIN // killed.BATCH)


def started(store, diary):
    script = Path(killed.__file__)
    return subprocess.Popen([sys.executable, script, store, diary], env=os.environ)


def pages(diary):
    return len(diary.read_text().splitlines()) if diary.exists() else 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL is of POSIX")
def test_killed_runs_are_resumed_bit_for_bit(tmp_path):
    uninterrupted = MemoryStore()
    killed.run(uninterrupted)
    whole = open_result(uninterrupted)[...]
    moments = np.random.default_rng(0)
    kills = results = 0
    while kills < KILLS:
        folder = tmp_path / str(results)
        folder.mkdir()
        kills += killed_and_resumed(folder, whole, moments, most=KILLS - kills)
        results += 1


def killed_and_resumed(folder, whole, moments, *, most):
    """Write one result, with up to so many kills on the way, and return how many there were."""
    store, diary = folder / "results.zarr", folder / "diary.txt"
    kills, ended = 0, False
    while not ended:
        run = started(store, diary)
        begun = pages(diary)
        while run.poll() is None and pages(diary) == begun:  # until it computes something
            time.sleep(0.002)
        patience = moments.uniform(0, BLOCKS * killed.SECONDS / 2) if kills < most else None
        try:
            ended = run.wait(timeout=patience) == 0
            assert ended
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            kills += 1
            check_what_is_there(store, whole)
    assert np.array_equal(open_result(store)[...], whole)
    counts = Counter(diary.read_text().splitlines())
    assert len(counts) == BLOCKS
    # Besides the first block, which each run computes to check it, only what was in flight.
    (_, of_first), *others = counts.most_common()
    assert of_first <= kills + 2
    assert sum(count - 1 for _, count in others) <= 2 * kills
    return kills


def check_what_is_there(store, whole):
    try:
        values = open_result(store, incomplete=True)[...]
    except FileNotFoundError:
        return
    there = np.isfinite(values)
    assert np.array_equal(values[there], whole[there])
    if not there.all():  # or it was killed when all was done
        with pytest.raises(IncompleteResultError):
            open_result(store)
