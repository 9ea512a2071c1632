"""What the primitives of the torch objective cost, in forward and backward passes of the batch.

The constant `WORKING_BYTES` rests on these tables. All is on one thread, in CPU seconds, each figure the least of several: other work on the machine only adds.

    python tests/benchmarks/primitives.py
"""

import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch.nn.functional import cross_entropy

from upweight_torch import TorchObjective, samples

ROWS = (1, 4, 16, 48, 128, 297)
SAMPLES = (64, 512, 1500)
MEBIBYTES = (4, 8, 16, 32, 64)
SECONDS = 0.25  # spent on a figure, and no fewer than three runs


def network(*widths: int) -> torch.nn.Module:
    """Build a ReLU network with the same parameters each time."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for i, o in pairwise(widths):
        layers += [torch.nn.Linear(i, o), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


NETWORKS = {"64-32-10": network(64, 32, 10), "64-256-128-10": network(64, 256, 128, 10)}


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds of one run, the least of several."""
    run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < SECONDS:
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def batch_of(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(n)
    return torch.randn(n, 64, generator=random), torch.randint(10, (n,), generator=random)


def forward_and_backward(model: torch.nn.Module, n: int) -> float:
    """Return the CPU seconds of what all other costs are multiples of."""
    x, y = batch_of(n)
    parameters = list(model.parameters())
    return cpu_seconds(lambda: torch.autograd.grad(cross_entropy(model(x), y), parameters))


def rows_of(model: torch.nn.Module, k: int) -> torch.Tensor:
    p = sum(value.numel() for value in model.parameters())
    return torch.randn(k, p, generator=torch.Generator().manual_seed(k))


def hessian_products(model: torch.nn.Module, k: int, n: int) -> float:
    seen, rows, batch = TorchObjective(model, cross_entropy), rows_of(model, k), batch_of(n)
    return cpu_seconds(lambda: seen.hessian_product(rows, batch))


def print_table(title: str, columns: tuple[str, ...], lines: list[tuple[object, ...]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for line in lines:
        cells = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in line)
        print(f"| {' | '.join(cells)} |", flush=True)


def print_hessian_products() -> None:
    lines = []
    for name, model in NETWORKS.items():
        for n in SAMPLES:
            unit = forward_and_backward(model, n)
            costs = [hessian_products(model, k, n) / k / unit for k in ROWS]
            lines.append((name, n, f"{1e3 * unit:.2f} ms", *costs))
    columns = ("network", "n", "one pass", *(f"k = {k}" for k in ROWS))
    print_table("Hessian products, for each row, in passes:", columns, lines)


def print_working_bytes() -> None:
    kept, lines = samples.WORKING_BYTES["cpu"], []
    try:
        for name, model in NETWORKS.items():
            for n in SAMPLES:
                costs = []
                for size in MEBIBYTES:
                    samples.WORKING_BYTES["cpu"] = size * 2**20
                    costs.append(1e3 * hessian_products(model, 64, n))
                lines.append((name, n, *costs))
    finally:
        samples.WORKING_BYTES["cpu"] = kept
    columns = ("network", "n", *(f"{size} MiB" for size in MEBIBYTES))
    print_table("Milliseconds of 64 Hessian products for WORKING_BYTES:", columns, lines)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{torch.get_num_threads()} thread, torch {torch.__version__}")
    print_hessian_products()
    print_working_bytes()


if __name__ == "__main__":
    main()
