"""Whether the cost model picks the fastest way to inner products of rows with gradients.

Every way is timed on a grid of networks, samples and rows; the process ends with status 1 if the
way that was picked takes more than `MARK` times the fastest. All on one thread, in CPU seconds,
each figure the least of several: other work on the machine only adds.

    python tests/benchmarks/cost_model.py
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from upweight_torch import TorchObjective
from upweight_torch.costs import Way, cheapest_gradients, cheapest_products

SAMPLES = (1, 16, 64, 500)
ROWS = (1, 8, 64, 300)
MARK = 1.5
SECONDS = 0.2  # spent on a figure, and no fewer than three runs, unless one takes very long
TOO_LONG = 2.0


class Attention(nn.Module):
    """A transformer layer between linear ones; attention and normalisation are no such layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 32), nn.Linear(32, 10)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.first(x)).mean(1))


class Scaled(nn.Module):
    """A wide network, and a few parameters that belong to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(64))
        self.network = wide()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x * self.scale)


def narrow() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def wide() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 10),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "64-32-10": (narrow, (64,)),
    "64-256-128-10": (wide, (64,)),
    "convolution": (convolutional, (1, 8, 8)),
    "attention": (Attention, (8, 8)),
    "scaled": (Scaled, (64,)),
}


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds of one run, the least of several."""
    times: list[float] = []
    while len(times) < 4 or sum(times) < SECONDS:
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
        if sum(times) > TOO_LONG:
            break
    return min(times)


def lines_of(name: str, n: int) -> list[tuple[str, int, str, dict[Way, float], Way]]:
    """Time every way to the gradients of n samples, and to their products with rows."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    objective = TorchObjective(make(), cross_entropy)
    x, y = objective._prepared((torch.randn(n, *shape), torch.randint(10, (n,))))
    work = objective._work(x)
    gradients = {
        Way.FACTORED: cpu_seconds(lambda: objective._gradients_of_layers(x, y)),
        Way.MATERIALISED: cpu_seconds(lambda: objective._materialised(x, y)),
    }
    lines = [(name, n, "gradients", gradients, cheapest_gradients(work))]
    for k in ROWS:
        rows = torch.randn(k, work.parameters)
        seconds = {
            way: cpu_seconds(lambda way=way, rows=rows: objective._products(way, rows, x, y))
            for way in Way
        }
        lines.append((name, n, f"k = {k}", seconds, cheapest_products(work, k)))
    return lines


def main() -> int:
    torch.set_num_threads(1)
    print(f"{torch.get_num_threads()} thread, torch {torch.__version__}; milliseconds\n")
    print(
        "| network | n | rows | factored | pulled back | materialised | picked | of the fastest |"
    )
    print("|---|---|---|---|---|---|---|---|")
    worst = 0.0
    for name in NETWORKS:
        for n in SAMPLES:
            for _, _, what, seconds, picked in lines_of(name, n):
                ratio = seconds[picked] / min(seconds.values())
                worst = max(worst, ratio)
                cells = [f"{1e3 * seconds[way]:.3g}" if way in seconds else "" for way in Way]
                chosen = picked.name.lower().replace("_", " ")
                print(f"| {name} | {n} | {what} | {' | '.join(cells)} | {chosen} | {ratio:.2f} |")
    print(f"\nAt worst {worst:.2f} times the fastest; the mark is {MARK}.")
    return int(worst > MARK)


if __name__ == "__main__":
    sys.exit(main())
