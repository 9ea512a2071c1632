"""Peak memory and CPU seconds as the training samples grow.

The influences of so many training samples on 256 test samples, EK-FAC on a network 64-32-10, kept as the
ten largest for each test sample (`reduce`), or written to Zarr (`to_zarr`). Batches are made when they
are read, so that the data takes no memory. Each size is measured in a process of its own.

    python tests/benchmarks/growth.py --plot growth.svg
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time

import torch
from torch.nn.functional import cross_entropy

from upweight import SequentialInfluenceCalculator, TopK
from upweight_torch import EkfacInfluence, TorchNumpyConverter

SIZES = 10_000, 20_000, 50_000, 100_000
TEST, FITTED, BATCH = 256, 2_000, 100
JOBS = "reduce", "to_zarr"


class Batches:
    """Random samples, the same on every pass, made batch by batch."""

    def __init__(self, samples, seed):
        self.samples, self.seed = samples, seed

    def __len__(self):
        return self.samples // BATCH

    def __iter__(self):
        for index in range(len(self)):
            generator = torch.Generator().manual_seed(self.seed * 10_000 + index)
            x = torch.randn(BATCH, 64, generator=generator)
            yield x, torch.randint(0, 10, (BATCH,), generator=generator)


def test_batches():
    x, y = next(iter(Batches(BATCH, seed=3)))
    return [(x[:64].roll(shift, 0), y[:64]) for shift in range(TEST // 64)]


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(job, samples):
    """Return the peak in MiB, by how much it grew in the run, and the CPU seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
    model = EkfacInfluence(network, cross_entropy).fit(Batches(FITTED, seed=1), progress=False)
    calculator = SequentialInfluenceCalculator(model, max_memory="64 MiB", progress=False)
    run(calculator, job, Batches(2 * BATCH, seed=2))  # what is imported and kept at the first call
    before, start = megabytes(), time.process_time()
    run(calculator, job, Batches(samples, seed=2))
    seconds = time.process_time() - start
    return {"peak": megabytes(), "grown": megabytes() - before, "seconds": seconds}


def run(calculator, job, train):
    lazy = calculator.influences(test_batches(), train)
    if job == "reduce":
        lazy.reduce(TopK(10), TorchNumpyConverter())
        return
    with tempfile.TemporaryDirectory() as folder:
        lazy.to_zarr(f"{folder}/influences.zarr", TorchNumpyConverter())


def plot(found, path):
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for job in JOBS:
        for axis, what in zip(axes, ("peak", "seconds"), strict=True):
            axis.plot(SIZES, [found[job, size][what] for size in SIZES], "o-", label=job)
    axes[0].set_ylabel("peak of the process, MiB")
    axes[1].set_ylabel("CPU seconds")
    for axis in axes:
        axis.set_xlabel("training samples")
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
        axis.legend()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--plot", help="where to save a picture")
    options = parser.parse_args()
    if options.one:
        job, samples = options.one
        print(json.dumps(measure(job, int(samples))))
        return
    found = {}
    print(
        "| training samples | "
        + " | ".join(f"{job}, peak MiB | grown by | seconds" for job in JOBS)
        + " |"
    )
    print("|---" * (1 + 3 * len(JOBS)) + "|")
    for samples in SIZES:
        cells = [f"{samples:,}"]
        for job in JOBS:
            command = [sys.executable, __file__, "--one", job, str(samples)]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            found[job, samples] = one = json.loads(ended.stdout)
            cells += [f"{one['peak']:.0f}", f"{one['grown']:.1f}", f"{one['seconds']:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
