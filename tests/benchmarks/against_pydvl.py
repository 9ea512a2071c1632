"""CPU seconds of upweight and of pyDVL for the same influences, and how exact each is.

A tanh network 64-32-10 on scikit-learn's digits: the influences of 512 training samples on 128 test
samples by the inverted Hessian of 1,500 training samples, and on a few of them by conjugate
gradients. The libraries take turns, on one thread; what is printed is the median of the repeats.

    python tests/benchmarks/against_pydvl.py --repeats 3 --rows 4
"""

import argparse
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

os.environ["TQDM_DISABLE"] = "1"  # pyDVL's progress bars have no other switch

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import upweight
import upweight_torch

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*deprecated")
    import pydvl.influence
    import pydvl.influence.torch
    import pydvl.influence.torch.util

REGULARIZATION = 0.1
TRAIN, TEST, COLUMNS = 1500, 128, 512


@dataclass(frozen=True)
class Problem:
    """A trained network, and the samples that its influences are asked for."""

    model: torch.nn.Module
    x: torch.Tensor
    y: torch.Tensor
    batch: int

    def loader(self, start: int, stop: int) -> DataLoader:
        data = TensorDataset(self.x[start:stop], self.y[start:stop])
        return DataLoader(data, batch_size=self.batch)


@dataclass(frozen=True)
class Contestant:
    """One method of one library with its settings, and for how many test samples."""

    library: str
    method: str
    rows: int
    settings: Mapping[str, float]
    note: str = ""


def trained_network(*, batch: int) -> Problem:
    """Train the network, always to the same parameters."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(model(x[:TRAIN]), y[:TRAIN]).backward()
        optimizer.step()
    return Problem(model, x, y, batch)


def exact_influences(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return test gradients and the whole block in float64.

    The Hessian is torch's own, and the solve is NumPy's: no part of either library.
    """
    model, x, y = problem.model, problem.x.double(), problem.y
    shapes = {name: value.shape for name, value in model.named_parameters()}
    point = torch.nn.utils.parameters_to_vector(model.parameters()).detach().double()

    def loss(flat: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        pieces = flat.split([shape.numel() for shape in shapes.values()])
        parameters = {
            name: piece.reshape(shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }
        return cross_entropy(torch.func.functional_call(model, parameters, (x,)), y)

    gradient = torch.func.grad(loss)
    hessian = torch.func.jacrev(gradient, chunk_size=64)(point, x[:TRAIN], y[:TRAIN])
    of_samples = torch.func.vmap(gradient, in_dims=(None, 0, 0))
    gradients = of_samples(point, x[:, None], y[:, None]).numpy()
    damped = hessian.numpy() + REGULARIZATION * np.eye(len(point))
    test = gradients[TRAIN : TRAIN + TEST]
    return test, test @ np.linalg.solve(damped, gradients[:COLUMNS].T)


def contestants(
    problem: Problem, *, rows: int, rtol: float, atol: float, largest: float
) -> list[Contestant]:
    """Return what is compared; of each method, the first is the one that ratios refer to.

    pyDVL stops a row at a residual below `atol**2`, or `rtol**2` times a norm across the rows. Its
    "early" entries are given the root of what upweight stops the row of the largest norm at, so
    that no row of pyDVL has to go further than the same row of upweight.
    """
    same = {"rtol": rtol, "atol": atol}
    early = {"rtol": 0.0, "atol": max(rtol * largest, atol) ** 0.5}
    together = {"solve_simultaneously": True}
    return [
        Contestant("upweight", "DirectInfluence", TEST, {}),
        Contestant("pyDVL", "DirectInfluence", TEST, {}),
        Contestant("upweight", "CgInfluence", rows, same),
        Contestant("pyDVL", "CgInfluence", rows, same),
        Contestant("pyDVL", "CgInfluence", rows, same | together, ", together"),
        Contestant("pyDVL", "CgInfluence", rows, early, ", early"),
        Contestant("pyDVL", "CgInfluence", rows, early | together, ", early, together"),
    ]


def measured(one: Contestant, problem: Problem) -> tuple[float, float, np.ndarray]:
    """Return the CPU seconds of the fit and of the influences, and the influences."""
    train, columns = problem.loader(0, TRAIN), problem.loader(0, COLUMNS)
    test = problem.loader(TRAIN, TRAIN + one.rows)
    arguments = problem.model, cross_entropy
    start = time.process_time()
    if one.library == "upweight":
        method = getattr(upweight_torch, one.method)
        model = method(*arguments, regularization=REGULARIZATION, **one.settings)
        model.fit(train, progress=False)
        calculator = upweight.SequentialInfluenceCalculator(model, progress=False)
        aggregator = upweight_torch.NestedTorchCatAggregator()
    else:
        method = getattr(pydvl.influence.torch, one.method)
        model = method(*arguments, regularization=REGULARIZATION, **one.settings).fit(train)
        calculator = pydvl.influence.SequentialInfluenceCalculator(model)
        aggregator = pydvl.influence.torch.util.NestedTorchCatAggregator()
    fitted = time.process_time()
    block = calculator.influences(test, columns).compute(aggregator=aggregator)
    return fitted - start, time.process_time() - fitted, block.detach().double().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=4, help=f"test samples for CG, up to {TEST}")
    parser.add_argument("--rtol", type=float, default=1e-4, help="of CG, in both libraries")
    parser.add_argument("--atol", type=float, default=1e-6, help="of CG, in both libraries")
    parser.add_argument("--batch", type=int, default=64, help="samples in a batch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    problem = trained_network(batch=options.batch)
    gradients, exact = exact_influences(problem)
    field = contestants(
        problem,
        rows=options.rows,
        rtol=options.rtol,
        atol=options.atol,
        largest=np.linalg.norm(gradients[: options.rows], axis=1).max(),
    )
    runs = [[measured(one, problem) for one in field] for _ in range(options.repeats)]

    print(f"{torch.get_num_threads()} thread, torch {torch.__version__}, NumPy {np.__version__};")
    print(f"median of {options.repeats}; batches of {options.batch};", end=" ")
    print(f"CG with rtol={options.rtol:g} and atol={options.atol:g}\n")
    print("| method | library | test rows | fit | influences | total | ratio | error |")
    print("|---|---|---|---|---|---|---|---|")
    baseline: dict[str, float] = {}
    for index, one in enumerate(field):
        fit, influences = (median(run[index][part] for run in runs) for part in (0, 1))
        total = median(run[index][0] + run[index][1] for run in runs)
        ratio = total / baseline.setdefault(one.method, total)
        truth = exact[: one.rows]
        error = np.abs(runs[0][index][2] - truth).max() / np.abs(truth).max()
        print(
            f"| {one.method} | {one.library}{one.note} | {one.rows} | {fit:.2f} | {influences:.2f} "
            f"| {total:.2f} | {ratio:.1f} | {error:.1e} |"
        )


if __name__ == "__main__":
    main()
