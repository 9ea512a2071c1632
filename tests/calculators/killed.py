"""A run that is to be killed: influences in many small blocks, with a diary of what is computed.

python killed.py results.zarr diary.txt
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from reference import softmax_problem

from upweight import SequentialInfluenceCalculator
from upweight.models import DirectInfluence

N_TEST, N_TRAIN, BATCH = 12, 60, 4
SECONDS = 0.01  # of one block


class DiaryInfluence(DirectInfluence):
    """Direct influence that takes its time, and writes down each block that it has computed."""

    diary = None

    def influences_from_factors(self, z_test_factors, x, y, mode="up"):
        time.sleep(SECONDS)
        values = super().influences_from_factors(z_test_factors, x, y, mode)
        if self.diary is not None:
            with self.diary.open("a") as file:
                file.write(
                    f"{len(z_test_factors)} {float(z_test_factors[0, 0])!r} {float(x[0, 0])!r}\n"
                )
        return values


def run(store, diary=None):
    objective, (x, y) = softmax_problem(n=N_TRAIN + N_TEST, d=3)
    cut = [slice(start, start + BATCH) for start in range(0, len(y), BATCH)]
    batches = [(x[rows], y[rows]) for rows in cut]
    train, test = batches[: N_TRAIN // BATCH], batches[N_TRAIN // BATCH :]
    model = DiaryInfluence(objective, regularization=0.1).fit(train, progress=False)
    model.diary = diary
    calc = SequentialInfluenceCalculator(model, max_memory=1, progress=False)
    calc.influences(test, train).to_zarr(store, Identity(), resume=True)


class Identity:
    def to_numpy(self, x):
        return np.asarray(x)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
