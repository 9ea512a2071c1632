"""How far ten steps of conjugate gradients come, with and without a preconditioner.

The digits network 64-256-128-10 with ReLU, the Gauss-Newton matrix of 1,500 samples, 16 test rows.
"""

import statistics
import warnings

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from upweight import ConvergenceWarning
from upweight.models import EkfacPreconditioner, NystroemPreconditioner
from upweight_torch import CgInfluence, TorchObjective

STEPS = 10
PRECONDITIONERS = {
    "none": None,
    "Nyström, rank 100": NystroemPreconditioner(rank=100),
    "EK-FAC, sampled": EkfacPreconditioner(),
    "EK-FAC, exact": EkfacPreconditioner(fisher="exact"),
}


def trained_network(x, y):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(64, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        cross_entropy(network(x), y).backward()
        optimizer.step()
    return network


def median_residual(network, train, test, regularization, preconditioner):
    """Return the median over the rows of the residual relative to the row."""
    model = CgInfluence(
        network,
        cross_entropy,
        regularization=regularization,
        maxiter=STEPS,
        second_order_mode="gauss_newton",
        preconditioner=preconditioner,
    ).fit([train], progress=False)
    model.influence_factors(*test)
    norms = TorchObjective(network, cross_entropy).gradients(test).norm(dim=1).tolist()
    residuals = model.solve_diagnostics["full"].residuals
    return statistics.median(r / n for r, n in zip(residuals, norms, strict=True))


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)  # ten steps are not meant to converge
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    train, test = (x[:1500], y[:1500]), (x[1500:1516], y[1500:1516])
    network = trained_network(*train)
    print("| regularization | " + " | ".join(PRECONDITIONERS) + " |")
    print("|---" * (len(PRECONDITIONERS) + 1) + "|")
    for regularization in (1e-2, 1e-3, 1e-4):
        residuals = (
            median_residual(network, train, test, regularization, preconditioner)
            for preconditioner in PRECONDITIONERS.values()
        )
        print(f"| {regularization:g} | " + " | ".join(f"{r:.2f}" for r in residuals) + " |")


if __name__ == "__main__":
    main()
