"""Compute influences of more data than may be in memory, in a run that is killed and resumed.

120,000 training samples lie on disk, and are made there batch by batch. A process of its own
computes their influences on 100 test samples and writes them to Zarr, in as much memory as it takes
for a tenth of them. In the middle another one is killed without warning (SIGKILL). A third goes on
from there, and what is on disk in the end equals, bit for bit, what the first has written.

Run it with `python docs/examples/out_of_memory.py`, on Linux or macOS.
"""

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
import zarr
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import upweight
from upweight import IncompleteResultError, SequentialInfluenceCalculator, open_result
from upweight_torch import EkfacInfluence, TorchNumpyConverter

N_TRAIN, N_TEST, WIDTH, CHUNK = 120_000, 100, 256, 6000
BUDGET = "1.5 MiB"  # for factors and results; a block of all test samples would take 2.5 MiB
MIB = 2**20


class BatchesOnDisk:
    """The first samples in batches, which are read anew on every pass, one at a time."""

    def __init__(self, path: Path, n: int = N_TRAIN) -> None:
        self._data, self._n = zarr.open_group(path, mode="r"), n

    def __len__(self) -> int:
        return self._n // CHUNK

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, self._n, CHUNK):
            rows = slice(start, start + CHUNK)
            yield torch.from_numpy(self._data["x"][rows]), torch.from_numpy(self._data["y"][rows])


def samples(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return made-up samples of two classes that overlap."""
    x = random.standard_normal((n, WIDTH), dtype=np.float32)
    y = x[:, :8].sum(axis=1) + 2 * random.standard_normal(n) > 0
    return x, y.astype(np.int64)


def write_data(path: Path, seed: int) -> None:
    """Write the training data batch by batch, so that it is never in memory as a whole."""
    data = zarr.open_group(path, mode="w")
    x = data.create_array("x", shape=(N_TRAIN, WIDTH), chunks=(CHUNK, WIDTH), dtype="f4")
    y = data.create_array("y", shape=(N_TRAIN,), chunks=(CHUNK,), dtype="i8")
    for i, start in enumerate(range(0, N_TRAIN, CHUNK)):
        rows = slice(start, start + CHUNK)
        x[rows], y[rows] = samples(np.random.default_rng((seed, i)), CHUNK)


def train_and_fit(out: Path) -> None:
    """Train a logistic regression, fit an influence model, and save both for other processes."""
    network, batches = torch.nn.Linear(WIDTH, 2), BatchesOnDisk(out / "data.zarr")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for x, y in batches:
        optimizer.zero_grad()
        cross_entropy(network(x), y).backward()
        optimizer.step()
    model = EkfacInfluence(network, cross_entropy).fit(batches)
    model.save(out / "model.zarr", overwrite=True)
    torch.save(network.state_dict(), out / "network.pt")


def compute(out: Path, name: str, n: int, *, resume: bool) -> None:
    """Do the work of a process: load the model and write influences, or those that are missing."""
    network = torch.nn.Linear(WIDTH, 2)
    network.load_state_dict(torch.load(out / "network.pt", weights_only=True))
    model = upweight.load(out / "model.zarr", network, cross_entropy)
    x, y = map(torch.from_numpy, samples(np.random.default_rng(1), N_TEST))
    test = DataLoader(TensorDataset(x, y), batch_size=50)
    calculator = SequentialInfluenceCalculator(model, max_memory=BUDGET)
    lazy = calculator.influences(test, BatchesOnDisk(out / "data.zarr", n))
    lazy.to_zarr(out / name, TorchNumpyConverter(), overwrite=not resume, resume=resume)


def blocks_on_disk(path: Path) -> int:
    """Return how many blocks of a result are written."""
    return sum(block.is_file() for block in (path / "c").glob("*/*"))


def run(
    out: Path, name: str, *, n: int = N_TRAIN, resume: bool = False, kill_at: float = np.inf
) -> int:
    """Compute in another process, which is killed once `kill_at` blocks are on disk.

    Returns:
        The memory in bytes that the process had in use at most.
    """
    if not resume:  # what an earlier run of this example has left
        shutil.rmtree(out / name, ignore_errors=True)
    command = [sys.executable, __file__, "--out", str(out), "--worker", name, "--samples", str(n)]
    peak = 0
    with subprocess.Popen([*command, "--resume"] if resume else command) as worker:
        while worker.poll() is None:
            with contextlib.suppress(psutil.Error):  # it may end at any moment
                peak = max(peak, psutil.Process(worker.pid).memory_info().rss)
            if blocks_on_disk(out / name) >= kill_at:
                worker.kill()
            time.sleep(0.01)
    if worker.returncode != (0 if kill_at == np.inf else -signal.SIGKILL):
        raise SystemExit(f"The process ended with {worker.returncode}.")
    return peak


def main() -> None:
    """Write data, run once as a whole and once with an interruption, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--seed", type=int, default=0, help="of the data and the weights")
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out
    if options.worker:
        return compute(out, options.worker, options.samples, resume=options.resume)

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    write_data(out / "data.zarr", options.seed)
    train_and_fit(out)

    peak_of_tenth = run(out, "tenth.zarr", n=N_TRAIN // 10)
    peak = run(out, "whole.zarr")
    whole = open_result(out / "whole.zarr")
    run(out, "killed.zarr", kill_at=whole.nchunks // 3)
    try:
        open_result(out / "killed.zarr")
    except IncompleteResultError as error:
        print(f"\nAfter SIGKILL: {error}")
    else:
        raise SystemExit("What was killed passes for complete.")
    kept = blocks_on_disk(out / "killed.zarr")
    run(out, "killed.zarr", resume=True)
    resumed = open_result(out / "killed.zarr")
    print(f"\nResumed with {kept} of {whole.nchunks} blocks on disk.")
    for start in range(0, N_TRAIN, CHUNK):
        columns = np.s_[:, start : start + CHUNK]
        if not np.array_equal(whole[columns], resumed[columns]):
            raise SystemExit("The resumed result differs from the uninterrupted one.")
    print("The resumed result equals the uninterrupted one, bit for bit.")
    data, result = N_TRAIN * WIDTH * 4 / MIB, whole.nbytes / MIB
    print(f"\nData {data:.0f} MiB, result {result:.0f} MiB. Peak of memory: {peak / MIB:.0f} MiB,")
    print(
        f"and with a tenth of the data {peak_of_tenth / MIB:.0f} MiB; most of it is Python and torch."
    )
    if not peak < 1.1 * peak_of_tenth:
        raise SystemExit("The memory grew with the data.")
    return None


if __name__ == "__main__":
    main()
