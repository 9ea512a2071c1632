"""How far ten steps of conjugate gradients come, with and without a preconditioner.

The digits network 64-256-128-10 with ReLU, the Gauss-Newton matrix of 1,500 samples, 16 test rows.
"""

import statistics
import warnings

import torch
from digits import LARGE, TRAIN, trained_network
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
    problem = trained_network(LARGE, torch.nn.ReLU, steps=30)
    x, y = problem.x, problem.y
    train, test = (x[:TRAIN], y[:TRAIN]), (x[TRAIN : TRAIN + 16], y[TRAIN : TRAIN + 16])
    print("| regularization | " + " | ".join(PRECONDITIONERS) + " |")
    print("|---" * (len(PRECONDITIONERS) + 1) + "|")
    for regularization in (1e-2, 1e-3, 1e-4):
        residuals = (
            median_residual(problem.model, train, test, regularization, preconditioner)
            for preconditioner in PRECONDITIONERS.values()
        )
        print(f"| {regularization:g} | " + " | ".join(f"{r:.2f}" for r in residuals) + " |")


if __name__ == "__main__":
    main()
