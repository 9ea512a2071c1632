"""The linear datamodeling score of every method, of kronfluence and of TRAK, on the same subsets.

The tanh network 64-256-128-10 on scikit-learn's digits is trained on 100 random halves of the 1,500
training samples, from three other initialisations each, and its losses on 100 test samples are compared
with what the attributions of the network trained on all of them predict.

Damping is chosen beforehand. A method that has a default keeps it. All others get what is the default
of GramInfluence: the trace of the Gauss-Newton matrix over the number of samples.

    python tests/benchmarks/datamodeling.py --store retrained.zarr
"""

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from against_kronfluence import kronfluence_scores
from digits import LARGE, TRAIN, Problem, trained_network
from exact import gauss_newton_directions
from torch.nn.functional import cross_entropy
from trak import TRAKer

import upweight_torch as methods
from upweight import ConvergenceWarning
from upweight.evaluation import linear_datamodeling_score, random_subsets, retrain
from upweight.models import EkfacPreconditioner

TEST, RATE = 100, 1e-3
#: The networks that are trained again begin elsewhere than the one that is explained, whose seed is 0.
SEED = 1

Attribute = Callable[[], np.ndarray]


def losses(indices: np.ndarray, seed: int) -> np.ndarray:
    """Train on some of the samples, and return the losses of the test samples."""
    problem = trained_network(LARGE, rate=RATE, kept=torch.from_numpy(indices), seed=seed)
    x, y = problem.x[TRAIN : TRAIN + TEST], problem.y[TRAIN : TRAIN + TEST]
    with torch.no_grad():
        return cross_entropy(problem.model(x).double(), y, reduction="none").numpy()


def influences(problem: Problem, method: str, **options) -> np.ndarray:
    """Return what a method of this library says, (100, 1500)."""
    model = getattr(methods, method)(problem.model, cross_entropy, **options)
    model.fit(problem.train(), progress=False)
    test = problem.x[TRAIN : TRAIN + TEST], problem.y[TRAIN : TRAIN + TEST]
    return model.influences(*test, problem.x[:TRAIN], problem.y[:TRAIN]).numpy()


def trak_scores(problem: Problem) -> np.ndarray:
    """Return TRAK's attributions of the margin from one network and 512 dimensions, (100, 1500)."""
    state = problem.model.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(
            model=problem.model,
            task="image_classification",
            train_set_size=TRAIN,
            save_dir=folder,
            device="cpu",
            proj_dim=512,
            use_half_precision=False,
        )
        traker.load_checkpoint(state, model_id=0)
        for x, y in problem.train():
            traker.featurize(batch=(x, y), num_samples=len(x))
        traker.finalize_features()
        traker.start_scoring_checkpoint("test", state, model_id=0, num_targets=TEST)
        for x, y in problem.test(TEST):
            traker.score(batch=(x, y), num_samples=len(x))
        return np.array(traker.finalize_scores("test")).T


def contestants(problem: Problem, damping: float) -> Mapping[str, Attribute]:
    """Return what is compared, by name."""

    def ours(method: str, **options) -> Attribute:
        return partial(influences, problem, method, **options)

    def gauss_newton(method: str, **options) -> Attribute:
        return ours(method, regularization=damping, second_order_mode="gauss_newton", **options)

    def kronfluence(damping_factor: float | None) -> Attribute:
        return partial(
            kronfluence_scores, problem, empirical=False, batch=64, damping=damping_factor
        )

    return {
        "gradients": ours("GradientInfluence"),
        "gradients, cosine": ours("GradientInfluence", normalize=True),
        "harmonic mean": ours("InverseHarmonicMeanInfluence", regularization=damping),
        "LiSSA, 100 steps": gauss_newton("LissaInfluence", maxiter=100),
        "Nyström sketch, rank 100": gauss_newton("NystroemSketchInfluence", rank=100),
        "Arnoldi, rank 100": gauss_newton("ArnoldiInfluence", rank=100),
        "EK-FAC, defaults": ours("EkfacInfluence"),
        "EK-FAC, exact Fisher": ours("EkfacInfluence", fisher="exact"),
        "Gram, defaults": ours("GramInfluence"),
        "Gram, 5 directions": ours("GramInfluence", directions=5),
        "CG, preconditioned by EK-FAC": gauss_newton(
            "CgInfluence", solver="block", preconditioner=EkfacPreconditioner()
        ),
        "CG, blocks by layer": gauss_newton(
            "CgInfluence", solver="block", block_structure="layer_wise"
        ),
        "kronfluence, EK-FAC, damping 1e-8, its default": kronfluence(1e-8),
        "kronfluence, EK-FAC, 0.1 of the mean eigenvalue": kronfluence(None),
        "TRAK, one network, 512 dimensions": partial(trak_scores, problem),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of names, as in 'EK-FAC'")
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--retrainings", type=int, default=3)
    parser.add_argument("--store", help="where losses after retraining are kept and looked for")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of kronfluence, one for each call
    warnings.simplefilter("ignore", ConvergenceWarning)  # few steps are not meant to converge
    problem = trained_network(LARGE, rate=RATE)
    damping = float(gauss_newton_directions(problem).squared_norms().sum()) / TRAIN**2
    retrained = retrain(
        losses,
        random_subsets(TRAIN, count=options.subsets),
        retrainings=options.retrainings,
        seed=SEED,
        store=options.store,
        resume=options.store is not None,
        settings={"widths": LARGE, "rate": RATE, "test": TEST},
    )
    print(f"test accuracy {problem.accuracy:.3f}, damping {damping:.4g}\n")
    print("| method | score | 95 % interval | seconds |\n|---|---|---|---|", flush=True)
    for name, attribute in contestants(problem, damping).items():
        if options.only and not any(part in name for part in options.only):
            continue
        start = time.process_time()
        block = attribute()[:TEST]
        seconds = time.process_time() - start
        score = linear_datamodeling_score(block, retrained, positive="lowers")
        interval = f"{score.low:.3f} to {score.high:.3f}"
        print(f"| {name} | {score.value:.3f} | {interval} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
