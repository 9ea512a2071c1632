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
    store, diary = tmp_path / "results.zarr", tmp_path / "diary.txt"
    moments = np.random.default_rng(0)
    kills = 0
    while kills < KILLS:
        run = started(store, diary)
        begun = pages(diary)
        while run.poll() is None and pages(diary) == begun:  # until it computes something
            time.sleep(0.002)
        try:
            run.wait(timeout=moments.uniform(0, 2 * BLOCKS * killed.SECONDS / KILLS))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            kills += 1
            check_what_is_there(store, whole)
        else:
            assert run.returncode == 0
            break
    assert kills > 0
    last = started(store, diary)
    assert last.wait() == 0
    assert np.array_equal(open_result(store)[...], whole)
    counts = Counter(diary.read_text().splitlines())
    assert len(counts) == BLOCKS
    # Besides the first block, which each run computes to check it, only what was in flight.
    (_, of_first), *others = counts.most_common()
    assert of_first <= kills + 2
    assert sum(count - 1 for _, count in others) <= 2 * kills


def check_what_is_there(store, whole):
    try:
        values = open_result(store, incomplete=True)[...]
    except FileNotFoundError:
        return
    with pytest.raises(IncompleteResultError):
        open_result(store)
    there = np.isfinite(values)
    assert np.array_equal(values[there], whole[there])
