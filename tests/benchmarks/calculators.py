"""CPU seconds of the calculators: against pyDVL's, and on a cluster against one process.

EK-FAC on a tanh network 64-256-128-10, one thread. First all influences of scikit-learn's digits in
batches of 128, kept in memory or written to Zarr, with each library in turn. Then a job of about a minute,
by `SequentialInfluenceCalculator` and by `DaskInfluenceCalculator` on two worker processes, whose
seconds are those of all processes together, once the workers have imported what they need.

    python tests/benchmarks/calculators.py --repeats 5
"""

import argparse
import logging
import os
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

os.environ["TQDM_DISABLE"] = "1"  # pyDVL's progress bars have no other switch
os.environ["OMP_NUM_THREADS"] = "1"

import dask
import dask.array as da
import numpy as np
import torch
from digits import LARGE, TRAIN, Problem, trained_network
from distributed import Client
from pydvl_field import REGULARIZATION
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import upweight
import upweight_torch

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*deprecated")
    import pydvl.influence
    import pydvl.influence.torch
    import pydvl.influence.torch.util

CONVERTER = upweight_torch.TorchNumpyConverter()
TEST, BATCH = 297, 128
#: Dask has worker processes return freed memory to the system at once; see docs/scaling.md.
KEEP = {
    f"distributed.nanny.pre-spawn-environ.{variable}": 2**30
    for variable in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
}
CHUNK = 4_000  # training samples in a task of the cluster
JOBS = "compute", "to_zarr"


def ours(problem: Problem) -> upweight_torch.EkfacInfluence:
    options = {"regularization": REGULARIZATION, "damping": "absolute"}
    model = upweight_torch.EkfacInfluence(problem.model, cross_entropy, **options)
    return model.fit(problem.train(), progress=False)


def by_upweight(problem: Problem, job: str, path: Path) -> np.ndarray:
    calculator = upweight.SequentialInfluenceCalculator(ours(problem), progress=False)
    lazy = calculator.influences(problem.test(TEST), problem.train())
    if job == "compute":
        return lazy.compute(upweight_torch.NestedTorchCatAggregator()).numpy()
    return lazy.to_zarr(path / "upweight", CONVERTER, True)[...]


def by_pydvl(problem: Problem, job: str, path: Path) -> np.ndarray:
    method = pydvl.influence.torch.EkfacInfluence
    model = method(problem.model, hessian_regularization=REGULARIZATION, update_diagonal=True)
    calculator = pydvl.influence.SequentialInfluenceCalculator(model.fit(problem.train()))
    lazy = calculator.influences(problem.test(TEST), problem.train())
    util = pydvl.influence.torch.util
    if job == "compute":
        found = lazy.compute(aggregator=util.NestedTorchCatAggregator()).detach().numpy()
    else:
        found = lazy.to_zarr(
            str(path / "pydvl"), util.TorchNumpyConverter(), return_stored=True, overwrite=True
        )[...]
    problem.model.zero_grad()  # pyDVL's EK-FAC leaves its gradients there
    return found


def against_pydvl(repeats: int) -> None:
    problem = trained_network(LARGE, rate=1e-3, batch=BATCH)
    print(f"\n| {TEST} x {TRAIN}, batches of {BATCH} | upweight | pyDVL | ratio |")
    print("|---|---|---|---|")
    for job in JOBS:
        seconds: dict[str, list[float]] = {"upweight": [], "pyDVL": []}
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                for name, run in (("upweight", by_upweight), ("pyDVL", by_pydvl)):
                    start = time.process_time()
                    found = run(problem, job, Path(folder))
                    seconds[name].append(time.process_time() - start)
                    assert found.shape == (TEST, TRAIN)
        a, b = (median(seconds[name]) for name in seconds)
        print(f"| `{job}` | {a:.2f} | {b:.2f} | {b / a:.1f} |", flush=True)


def on_a_cluster(samples: int, repeats: int) -> None:
    problem = trained_network(LARGE, rate=1e-3, batch=BATCH)
    model = ours(problem)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(samples, 64, generator=generator)
    y = torch.randint(0, 10, (samples,), generator=generator)
    print(f"\n| {TEST} x {samples:,}, chunks of {CHUNK} | CPU seconds | ratio |")
    print("|---|---|---|")
    alone, together = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            calculator = upweight.SequentialInfluenceCalculator(model, progress=False)
            data = DataLoader(TensorDataset(x, y), batch_size=CHUNK)
            lazy = calculator.influences(problem.test(TEST), data)
            one = lazy.to_zarr(folder + "/one", CONVERTER, True)
            alone.append(time.process_time() - start)
            with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
                on_workers = upweight.DaskInfluenceCalculator(model, CONVERTER, client)
                test = problem.x[TRAIN : TRAIN + TEST], problem.y[TRAIN : TRAIN + TEST]
                chunked = [*chunks(*test, size=BATCH), *chunks(x, y, size=CHUNK)]
                client.run(warm, model, *test)
                before = sum(client.run(time.process_time).values()) + time.process_time()
                two = on_workers.to_zarr(
                    on_workers.influences(*chunked), folder + "/two", True, progress=False
                )
                after = sum(client.run(time.process_time).values()) + time.process_time()
            together.append(after - before)
            np.testing.assert_allclose(one[:, :99], two[:, :99], rtol=1e-3, atol=1e-4)
    print(f"| sequential | {median(alone):.1f} | 1.00 |")
    print(f"| two workers | {median(together):.1f} | {median(together) / median(alone):.2f} |")


def chunks(*arrays: torch.Tensor, size: int) -> list[da.Array]:
    return [da.from_array(a.numpy(), chunks=(size, *a.shape[1:])) for a in arrays]


def warm(model: upweight_torch.EkfacInfluence, x: torch.Tensor, y: torch.Tensor) -> None:
    """Import on a worker what torch imports when it is first used."""
    torch.set_num_threads(1)
    model.influences(x[:2], y[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=120_000, help="of the job on the cluster")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Full backward hook")  # pyDVL's EK-FAC
    logging.disable()
    print(f"{torch.get_num_threads()} thread, torch {torch.__version__}, NumPy {np.__version__}")
    against_pydvl(options.repeats)
    with dask.config.set(KEEP):
        on_a_cluster(options.samples, max(1, options.repeats // 2))


if __name__ == "__main__":
    main()
