"""CPU seconds and extra memory of perturbation influences from factors, with upweight and pyDVL.

The tanh network 64-256-128-10, all batches of 64 training samples, and random factors, which cost
the same as others. Each run has a process of its own; the extra memory is the highest resident size
less the size when the model stands and a first batch of two samples is done. Needs Linux.

    python tests/benchmarks/perturbations.py --samples 128 --factors 16
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from digits import LARGE, Problem, trained_network
from torch.nn.functional import cross_entropy

LIBRARIES = ("upweight", "pyDVL")
MEBIBYTE = 2**20


def resident(field: str) -> int:
    """Return the resident memory of this process in bytes, now (VmRSS) or at its highest (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def perturbation(library: str, problem: Problem) -> Callable[..., torch.Tensor]:
    """Return a function of factors, x and y."""
    # The fit does not matter here: without one neither library gives influences.
    few = [(problem.x[:4], problem.y[:4])]
    if library == "upweight":
        from upweight_torch import GradientInfluence

        model = GradientInfluence(problem.model, cross_entropy).fit(few, progress=False)
        return lambda rows, x, y: model.influences_from_factors(rows, x, y, mode="perturbation")
    warnings.filterwarnings("ignore", category=FutureWarning)
    from pydvl.influence import InfluenceMode
    from pydvl.influence.torch import CgInfluence

    model = CgInfluence(problem.model, cross_entropy, regularization=0.1).fit(few)
    return lambda rows, x, y: model.influences_from_factors(
        rows, x, y, mode=InfluenceMode.Perturbation
    )


def measure(library: str, samples: int, factors: int, save: str) -> None:
    """Print the CPU seconds and the extra bytes of one run, and save the influences."""
    torch.set_num_threads(1)
    problem = trained_network(LARGE, rate=1e-3)
    rows = torch.randn(factors, problem.n_parameters, generator=torch.Generator().manual_seed(0))
    run = perturbation(library, problem)
    run(rows[:2], problem.x[:2], problem.y[:2])
    Path("/proc/self/clear_refs").write_text("5")  # the highest size is counted from here
    before = resident("VmRSS")
    start = time.process_time()
    blocks = [run(rows, x, y) for x, y in problem.train(samples)]
    seconds = time.process_time() - start
    print(seconds, resident("VmHWM") - before)
    torch.save(torch.cat(blocks, dim=1), save)


def measured(library: str, options: argparse.Namespace, save: Path) -> tuple[float, float]:
    """Measure one run in a process of its own."""
    command = [sys.executable, __file__, "--measure", library, "--save", str(save)]
    command += ["--samples", str(options.samples), "--factors", str(options.factors)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, size = map(float, done.stdout.split())
    return seconds, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--factors", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--save", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.samples, options.factors, options.save)
        return
    print(f"{options.factors} factors, {options.samples} samples in batches of 64\n")
    print("| library | seconds | ratio | extra MiB | ratio |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        saved = {library: Path(folder) / library for library in LIBRARIES}
        runs = [
            [measured(library, options, saved[library]) for library in LIBRARIES]
            for _ in range(options.repeats)
        ]
        results = [torch.load(path) for path in saved.values()]
    medians = [[median(run[i][part] for run in runs) for part in (0, 1)] for i in (0, 1)]
    for library, (seconds, size) in zip(LIBRARIES, medians, strict=True):
        print(
            f"| {library} | {seconds:.2f} | {seconds / medians[0][0]:.1f} "
            f"| {size / MEBIBYTE:.0f} | {size / medians[0][1]:.1f} |"
        )
    ours, theirs = results
    print(f"\nLargest difference, relative: {(ours - theirs).abs().max() / ours.abs().max():.1e}")


if __name__ == "__main__":
    main()
