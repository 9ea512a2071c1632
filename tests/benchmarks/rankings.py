"""How close the order of approximate influences comes to that of the exact Gauss-Newton influences.

The tanh network 64-256-128-10 on scikit-learn's digits, 32 test and 1,500 training samples: the mean
over test samples of Spearman's correlation with the exact answer, which is NumPy's in float64.

    python tests/benchmarks/rankings.py --only EK-FAC
"""

import argparse
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from digits import LARGE, TRAIN, Problem, trained_network
from exact import gauss_newton_influences
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy

import upweight_torch as methods
from upweight import ConvergenceWarning
from upweight.models import EkfacPreconditioner, NystroemPreconditioner

ROWS, DAMPINGS = 32, (0.1, 0.01)

Build = Callable[[torch.nn.Module, float], Any]


def with_options(method: str, **options: Any) -> Build:
    """Return a way to build a method for a model and a damping."""

    def build(model: torch.nn.Module, damping: float) -> Any:
        return getattr(methods, method)(model, cross_entropy, regularization=damping, **options)

    return build


def gauss_newton(method: str, **options: Any) -> Build:
    """Return the same with the Gauss-Newton matrix."""
    return with_options(method, second_order_mode="gauss_newton", **options)


def kronecker(**options: Any) -> Build:
    """Return EK-FAC with the damping in units of the curvature."""
    return with_options("EkfacInfluence", damping="absolute", **options)


def approximations() -> Mapping[str, Build]:
    """Return what is compared, by name."""
    found = {
        "gradients": lambda model, _: methods.GradientInfluence(model, cross_entropy),
        "gradients, cosine": lambda model, _: methods.GradientInfluence(
            model, cross_entropy, normalize=True
        ),
        "harmonic mean": with_options("InverseHarmonicMeanInfluence"),
        "K-FAC": kronecker(corrected=False),
        "EK-FAC": kronecker(),
        "EK-FAC, 10 draws": kronecker(draws=10),
        "EK-FAC, exact Fisher": kronecker(fisher="exact"),
        "EK-FAC, empirical Fisher": kronecker(fisher="empirical"),
        "EK-FAC, 0.1 of the mean eigenvalue": lambda model, _: methods.EkfacInfluence(
            model, cross_entropy
        ),
        "Nyström sketch, rank 50": gauss_newton("NystroemSketchInfluence", rank=50),
        "Nyström sketch, rank 200": gauss_newton("NystroemSketchInfluence", rank=200),
        "Arnoldi, rank 50": gauss_newton("ArnoldiInfluence", rank=50),
        "LiSSA, 100 steps": gauss_newton("LissaInfluence", maxiter=100),
        "CG, 5 steps": gauss_newton("CgInfluence", maxiter=5),
        "CG, 5 steps, EK-FAC": gauss_newton(
            "CgInfluence", maxiter=5, preconditioner=EkfacPreconditioner()
        ),
        "CG, 5 steps, Nyström of rank 100": gauss_newton(
            "CgInfluence", maxiter=5, preconditioner=NystroemPreconditioner(rank=100)
        ),
        "CG, blocks by layer": gauss_newton("CgInfluence", block_structure="layer_wise"),
        "CG": gauss_newton("CgInfluence"),
    }
    if hasattr(methods, "GramInfluence"):
        for directions in (1, 2, 5):
            found[f"Gram, directions: {directions}"] = with_options(
                "GramInfluence", damping="absolute", directions=directions
            )
    return found


def scores(build: Build, problem: Problem, damping: float) -> tuple[np.ndarray, float]:
    """Return the influences, (32, 1500), and the CPU seconds of fit and influences."""
    test = problem.x[TRAIN : TRAIN + ROWS], problem.y[TRAIN : TRAIN + ROWS]
    start = time.process_time()
    model = build(problem.model, damping).fit(problem.train(), progress=False)
    influences = model.influences(*test, problem.x[:TRAIN], problem.y[:TRAIN])
    return influences.numpy(), time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="methods whose name starts so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)  # few steps are not meant to converge
    problem = trained_network(LARGE, rate=1e-3)
    exact = gauss_newton_influences(problem, rows=ROWS, columns=TRAIN, dampings=DAMPINGS)
    print(f"test accuracy {problem.accuracy:.3f}\n")
    print("| method | " + " | ".join(f"λ = {damping:g}" for damping in DAMPINGS) + " | seconds |")
    print("|---" * (len(DAMPINGS) + 2) + "|", flush=True)
    for name, build in approximations().items():
        if options.only and not name.startswith(tuple(options.only)):
            continue
        means, seconds = [], []
        for damping, truth in zip(DAMPINGS, exact, strict=True):
            block, spent = scores(build, problem, damping)
            pairs = zip(block, truth, strict=True)
            means.append(np.mean([spearmanr(a, b).statistic for a, b in pairs]))
            seconds.append(spent)
        values = " | ".join(f"{mean:.3f}" for mean in means)
        print(f"| {name} | {values} | {max(seconds):.1f} |", flush=True)


if __name__ == "__main__":
    main()
