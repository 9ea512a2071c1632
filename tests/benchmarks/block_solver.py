"""Steps and time of conjugate gradients in lockstep and by blocks.

The digits network 64-256-128-10 with ReLU, the Gauss-Newton matrix of 1,500 samples, 32 test rows.
"""

import time

import torch
from digits import LARGE, TRAIN, trained_network
from torch.nn.functional import cross_entropy

from upweight_torch import CgInfluence

ROWS = 32


def solve(network, train, test, regularization, solver):
    """Return the steps of the longest row and the CPU seconds of a solve."""
    model = CgInfluence(
        network,
        cross_entropy,
        regularization=regularization,
        second_order_mode="gauss_newton",
        solver=solver,
    ).fit([train], progress=False)
    start = time.process_time()
    model.influence_factors(*test)
    seconds = time.process_time() - start
    return max(model.solve_diagnostics["full"].steps), seconds


def main():
    torch.set_num_threads(1)
    problem = trained_network(LARGE, torch.nn.ReLU, steps=30)
    x, y = problem.x, problem.y
    train, test = (x[:TRAIN], y[:TRAIN]), (x[TRAIN : TRAIN + ROWS], y[TRAIN : TRAIN + ROWS])
    print("| regularization | steps, lockstep | block | seconds, lockstep | block |")
    print("|---" * 5 + "|")
    for regularization in (1e-1, 1e-2, 1e-3):
        steps, seconds = zip(
            *(
                solve(problem.model, train, test, regularization, solver)
                for solver in ("lockstep", "block")
            ),
            strict=True,
        )
        figures = [f"{regularization:g}", *map(str, steps), *(f"{s:.1f}" for s in seconds)]
        print("| " + " | ".join(figures) + " |")


if __name__ == "__main__":
    main()
