"""What EK-FAC costs besides the product of factors and gradients, which no method can do without.

The network is 64-256-128-10 with ReLU in single precision; 297 of scikit-learn's digits are tested
against 1,500. All on one thread, in CPU seconds, medians of runs that take turns.

    python tests/benchmarks/ekfac.py
"""

import statistics
import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from upweight import SequentialInfluenceCalculator
from upweight_torch import EkfacInfluence, NestedTorchCatAggregator

TRAIN, BATCH, REPEATS = 1500, 64, 7


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16).float(), torch.tensor(y)


def trained(x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(50):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    x, y = digits()
    test, train = (x[TRAIN:], y[TRAIN:]), (x[:TRAIN], y[:TRAIN])
    model = trained(*train)
    influence = EkfacInfluence(model, cross_entropy)
    train_batches = [*zip(train[0].split(BATCH), train[1].split(BATCH), strict=True)]
    test_batches = [*zip(test[0].split(BATCH), test[1].split(BATCH), strict=True)]
    rows, columns = (torch.randn(len(some[0]), 50826) for some in (test, train))

    def pairs(test_data: list[object], train_data: list[object]) -> object:
        calculator = SequentialInfluenceCalculator(influence, progress=False)
        lazy = calculator.influences(test_data, train_data)
        return lazy.compute(aggregator=NestedTorchCatAggregator())

    parts: dict[str, Callable[[], object]] = {
        "bare product": lambda: rows @ columns.T,
        "fit": lambda: influence.fit(train_batches, progress=False),
        "factors, one batch": lambda: influence.influence_factors(*test),
        "factors and pairs, in batches": lambda: pairs(test_batches, train_batches),
        "factors and pairs, one batch": lambda: pairs([test], [train]),
    }
    influence.fit(train_batches, progress=False)
    seconds: dict[str, list[float]] = {part: [] for part in parts}
    for _ in range(REPEATS):
        for part, run in parts.items():
            seconds[part].append(cpu_seconds(run))
    medians = {part: statistics.median(times) for part, times in seconds.items()}
    print(
        f"{torch.get_num_threads()} thread, torch {torch.__version__}\n\n| part | CPU seconds |\n|---|---|"
    )
    for part, median in medians.items():
        print(f"| {part} | {median:.3f} |")
    least = medians["bare product"] + medians["fit"]
    for form in ("in batches", "one batch"):
        total = medians["fit"] + medians[f"factors and pairs, {form}"]
        print(f"\nfit, factors and pairs, {form}: {total / least:.2f} times fit and bare product")


if __name__ == "__main__":
    main()
