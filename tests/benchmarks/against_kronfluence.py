"""CPU seconds of upweight and of kronfluence's EK-FAC for all influences, and whether both agree.

The ReLU network 64-256-128-10 on scikit-learn's digits: fit on 1,500 training samples, then the
influences of all of them on all 297 test samples. The libraries take turns, on one thread; what is
printed is the median of the repeats.

    python tests/benchmarks/against_kronfluence.py
"""

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from digits import LARGE, TRAIN, Problem, trained_network
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import upweight_torch as methods

#: Damping in units of the curvature, the same for every layer and library.
DAMPING = 0.01


class Classification(Task):
    """What kronfluence is to differentiate: the cross-entropy, summed as it wants."""

    def compute_train_loss(self, batch, model, sample=False):
        x, y = batch
        logits = model(x)
        if sample:
            with torch.no_grad():
                y = torch.multinomial(logits.softmax(dim=1), 1).flatten()
        return cross_entropy(logits, y, reduction="sum")

    def compute_measurement(self, batch, model):
        return self.compute_train_loss(batch, model)


def kronfluence_scores(
    problem: Problem, *, empirical: bool, batch: int, damping: float | None = DAMPING
) -> np.ndarray:
    """Fit covariances, eigenvectors and lambdas, then score all pairs, (297, 1500)."""
    task = Classification()
    train = TensorDataset(problem.x[:TRAIN], problem.y[:TRAIN])
    test = TensorDataset(problem.x[TRAIN:], problem.y[TRAIN:])
    copy = torch.nn.Sequential(*trained_layers(problem.model))
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "digits",
            prepare_model(copy, task),
            task,
            cpu=True,
            disable_tqdm=True,
            output_dir=folder,
        )
        analyzer.fit_all_factors(
            "ekfac",
            train,
            per_device_batch_size=batch,
            factor_args=FactorArguments(strategy="ekfac", use_empirical_fisher=empirical),
        )
        analyzer.compute_pairwise_scores(
            "scores",
            "ekfac",
            test,
            train,
            per_device_query_batch_size=len(test),
            per_device_train_batch_size=batch,
            score_args=ScoreArguments(damping_factor=damping),
        )
        return analyzer.load_pairwise_scores("scores")["all_modules"].numpy()


def trained_layers(model: torch.nn.Sequential) -> list[torch.nn.Module]:
    """Return copies: kronfluence replaces layers by its own."""
    layers = []
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            copy = torch.nn.Linear(layer.in_features, layer.out_features)
            copy.load_state_dict(layer.state_dict())
            layers.append(copy)
        else:
            layers.append(type(layer)())
    return layers


def upweight_scores(method: str, problem: Problem, **options) -> np.ndarray:
    """Fit a method, then score all pairs, (297, 1500)."""
    model = getattr(methods, method)(problem.model, cross_entropy, **options)
    model.fit(problem.train(), progress=False)
    train, test = (problem.x[:TRAIN], problem.y[:TRAIN]), (problem.x[TRAIN:], problem.y[TRAIN:])
    return model.influences(*test, *train).numpy()


def contestants(problem: Problem) -> dict[str, Callable[[], np.ndarray]]:
    """Return what is measured; the first is the one that ratios and correlations refer to."""
    absolute = {"regularization": DAMPING, "damping": "absolute"}

    found = {}
    for fisher, batch in (("sampled", 64), ("sampled", TRAIN), ("empirical", 64)):
        found[f"kronfluence, EK-FAC, {fisher}, batches of {batch}"] = partial(
            kronfluence_scores, problem, empirical=fisher == "empirical", batch=batch
        )
    for fisher in ("sampled", "empirical"):
        found[f"upweight, EK-FAC, {fisher}"] = partial(
            upweight_scores, "EkfacInfluence", problem, fisher=fisher, **absolute
        )
    if hasattr(methods, "GramInfluence"):
        found["upweight, Gram, 2 directions"] = partial(
            upweight_scores, "GramInfluence", problem, directions=2, **absolute
        )
    return found


def seconds_and_scores(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def agreement(found: np.ndarray, other: np.ndarray) -> str:
    """Return Pearson's correlation of all pairs, and the mean of Spearman's over test samples."""
    ranks = [spearmanr(a, b).statistic for a, b in zip(found, other, strict=True)]
    return f"{np.corrcoef(found.ravel(), other.ravel())[0, 1]:.4f} | {np.mean(ranks):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names, as in 'Gram'")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of kronfluence, one for each call
    problem = trained_network(LARGE, torch.nn.ReLU, rate=1e-3)
    field = {
        name: run
        for name, run in contestants(problem).items()
        if not options.only or any(part in name for part in options.only)
    }
    runs = [[seconds_and_scores(run) for run in field.values()] for _ in range(options.repeats)]
    print(
        "| library | seconds | first / this | Pearson | Spearman | empirical: Pearson | Spearman |"
    )
    print("|---|---|---|---|---|---|---|")
    totals = [median(run[index][0] for run in runs) for index in range(len(field))]
    first = [block for _, block in runs[0]]
    empirical = next((b for n, b in zip(field, first, strict=True) if "empirical" in n), first[0])
    for name, total, block in zip(field, totals, first, strict=True):
        print(
            f"| {name} | {total:.2f} | {totals[0] / total:.1f} | {agreement(block, first[0])} "
            f"| {agreement(block, empirical)} |"
        )


if __name__ == "__main__":
    main()
