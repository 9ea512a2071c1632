"""CPU seconds of upweight and of pyDVL for the same influences, and how close both are.

Tanh networks on scikit-learn's digits: fit on 1,500 training samples, then the influences of all of
them on some test samples. The libraries take turns, on one thread; what is printed is
the median of the repeats.

    python tests/benchmarks/against_pydvl.py --network small --only CG LiSSA
"""

import argparse
import logging
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping
from statistics import geometric_mean, median

os.environ["TQDM_DISABLE"] = "1"  # pyDVL's progress bars have no other switch

import numpy as np
import torch
from digits import LARGE, SMALL, TRAIN, Problem, trained_network
from exact import gauss_newton_influences, harmonic_influences, hessian_influences
from pydvl_field import REGULARIZATION, Contestant, contestants
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy

import upweight
import upweight_torch

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*deprecated")
    import pydvl.influence
    import pydvl.influence.torch
    import pydvl.influence.torch.util

NETWORKS = {"small": (SMALL, 1e-2), "large": (LARGE, 1e-3)}


def upweight_run(one: Contestant, problem: Problem) -> tuple[float, float, np.ndarray]:
    """Return the CPU seconds of the fit and of the influences, and the influences."""
    start = time.process_time()
    method = getattr(upweight_torch, one.model)
    model = method(problem.model, cross_entropy, regularization=REGULARIZATION, **one.settings)
    model.fit(problem.train(), progress=False)
    fitted = time.process_time()
    calculator = upweight.SequentialInfluenceCalculator(model, progress=False)
    lazy = calculator.influences(problem.test(one.rows), problem.train())
    block = lazy.compute(aggregator=upweight_torch.NestedTorchCatAggregator())
    return fitted - start, time.process_time() - fitted, block.double().numpy()


def pydvl_run(one: Contestant, problem: Problem) -> tuple[float, float, np.ndarray]:
    """The same with pyDVL: batch by batch, or from factors, as the contestant has it."""
    start = time.process_time()
    method = getattr(pydvl.influence.torch, one.model)
    if one.model == "EkfacInfluence":
        model = method(problem.model, hessian_regularization=REGULARIZATION, **one.settings)
    else:
        model = method(problem.model, cross_entropy, regularization=REGULARIZATION, **one.settings)
    model = model.fit(problem.train())
    fitted = time.process_time()
    calculator = pydvl.influence.SequentialInfluenceCalculator(model)
    test, train = problem.test(one.rows), problem.train()
    if one.from_factors:
        factors = calculator.influence_factors(test).compute()  # a list, by batches
        lazy = calculator.influences_from_factors(factors, train)
    else:
        lazy = calculator.influences(test, train)
    block = lazy.compute(aggregator=pydvl.influence.torch.util.NestedTorchCatAggregator())
    seconds = time.process_time() - fitted
    problem.model.zero_grad()  # pyDVL's EK-FAC leaves its gradients there
    return fitted - start, seconds, block.detach().double().numpy()


RUN = {"upweight": upweight_run, "pyDVL": pydvl_run}


def references(problem: Problem, field: list[Contestant]) -> Mapping[str, np.ndarray]:
    """Return, for each reference that contestants have, the exact influences on the most rows."""
    rows: dict[str, int] = defaultdict(int)
    for one in field:
        rows[one.reference] = max(rows[one.reference], one.compared)
    exact = {}
    for name, most in rows.items():
        size = {"rows": most, "columns": TRAIN}
        if name == "Hessian":
            exact[name] = hessian_influences(problem, **size, damping=REGULARIZATION)
        elif name == "Gauss-Newton":
            dampings = [REGULARIZATION]
            exact[name] = gauss_newton_influences(problem, **size, dampings=dampings)[0]
        else:
            exact[name] = harmonic_influences(problem, **size, damping=REGULARIZATION)
    return exact


def row_of_table(one: Contestant, runs, exact: np.ndarray, baseline: dict[str, float]) -> str:
    fit, influences = (median(run[part] for run in runs) for part in (0, 1))
    total = median(run[0] + run[1] for run in runs)
    ratio = total / baseline.setdefault(one.name, total)
    truth, block = exact[: one.compared], runs[0][2][: one.compared]
    error = np.abs(block - truth).max() / np.abs(truth).max()
    ranks = np.mean([spearmanr(a, b).statistic for a, b in zip(block, truth, strict=True)])
    return (
        f"| {one.name} | {one.library}{one.note} | {one.rows} x {TRAIN} | {fit:.2f} "
        f"| {influences:.2f} | {total:.2f} | {ratio:.1f} | {len(runs)} | {error:.1e} | {ranks:.4f} |"
    )


def compare(problem: Problem, field: list[Contestant], *, repeats: int, seconds: float) -> None:
    """Print the table of one network, and the least ratio of each method in both ways of pyDVL."""
    print("| method | library | pairs | fit | influences | total | ratio | runs | error | ranks |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    baseline: dict[str, float] = {}
    least: dict[bool, dict[str, float]] = {False: {}, True: {}}
    exact = references(problem, field)
    for name in dict.fromkeys(one.name for one in field):
        group = [one for one in field if one.name == name]
        runs: list[list[tuple[float, float, np.ndarray]]] = []
        while len(runs) < repeats and sum(a + b for run in runs for a, b, _ in run) < seconds:
            runs.append([RUN[one.library](one, problem) for one in group])
        for one, of_one in zip(group, zip(*runs, strict=True), strict=True):
            print(row_of_table(one, of_one, exact[one.reference], baseline), flush=True)
            if one.library == "pyDVL":
                ratio = median(run[0] + run[1] for run in of_one) / baseline[name]
                way = least[one.from_factors]
                way[name] = min(way.get(name, np.inf), ratio)
    print()
    for from_factors, ratios in least.items():
        print("pyDVL from factors:" if from_factors else "pyDVL's influences:", end=" ")
        print(", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items()), end="; ")
        print(f"geometric mean {geometric_mean(ratios.values()):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="from which on none is repeated")
    parser.add_argument("--network", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--only", nargs="*", default=[], help="methods, by their first column")
    parser.add_argument("--batch", type=int, default=64, help="samples in a batch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", upweight.ConvergenceWarning)  # steps are limited on purpose
    warnings.simplefilter("ignore", upweight.CurvatureWarning)
    warnings.filterwarnings("ignore", message="Full backward hook")  # pyDVL's EK-FAC
    logging.disable()
    print(f"{torch.get_num_threads()} thread, torch {torch.__version__}, NumPy {np.__version__};")
    print(f"batches of {options.batch}")
    for name in options.network:
        widths, rate = NETWORKS[name]
        problem = trained_network(widths, rate=rate, batch=options.batch)
        field = contestants(problem, large=name == "large")
        field = [one for one in field if not options.only or one.name in options.only]
        print(f"\n### {'-'.join(map(str, widths))}, {problem.n_parameters:,} parameters\n")
        compare(problem, field, repeats=options.repeats, seconds=options.seconds)


if __name__ == "__main__":
    main()
