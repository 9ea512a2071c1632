"""CPU seconds of the same influences with the torch and with the JAX backend.

The digits network 64-256-128-10 with tanh and the same weights: EK-FAC, fit and all pairs of test and
training samples, and factors of some test samples by conjugate gradients. The backends take turns on one
thread; the first turn of JAX, which compiles, is shown by itself.

    python tests/benchmarks/frameworks.py
"""

import argparse
import os
import time
from statistics import median

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import numpy as np
import optax
import torch
from digits import LARGE, TRAIN, trained_network
from torch.nn.functional import cross_entropy

import upweight
import upweight_jax
import upweight_torch

ROWS = 32
BATCH = 64


def apply(parameters, x):
    *hidden, (weight, bias) = parameters
    for w, b in hidden:
        x = jax.numpy.tanh(x @ w.T + b)
    return x @ weight.T + bias


def jax_loss(output, y):
    return optax.softmax_cross_entropy_with_integer_labels(output, y).mean()


def batches(x, y, start, stop):
    cuts = [slice(first, min(first + BATCH, stop)) for first in range(start, stop, BATCH)]
    return [(x[cut], y[cut]) for cut in cuts]


def ekfac(backend, model, loss, x, y, to_numpy):
    influence = backend.EkfacInfluence(model, loss, fisher="empirical")
    test, train = batches(x, y, TRAIN, len(y)), batches(x, y, 0, TRAIN)

    def run():
        influence.fit(train, progress=False)
        calculator = upweight.SequentialInfluenceCalculator(influence, progress=False)
        rows = calculator.influences(test, train).compute()
        return np.block([[to_numpy(chunk) for chunk in row] for row in rows])

    return run


def conjugate_gradients(backend, model, loss, x, y, to_numpy):
    influence = backend.CgInfluence(
        model, loss, regularization=0.1, second_order_mode="gauss_newton", rtol=1e-3
    )
    train = batches(x, y, 0, TRAIN)

    def run():
        influence.fit(train, progress=False)
        return to_numpy(
            influence.influence_factors(x[TRAIN : TRAIN + ROWS], y[TRAIN : TRAIN + ROWS])
        )

    return run


JOBS = {"EK-FAC, 297 x 1500": ekfac, f"CG, {ROWS} rows": conjugate_gradients}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    problem = trained_network(LARGE, rate=1e-3, batch=BATCH)
    layers = [layer for layer in problem.model if isinstance(layer, torch.nn.Linear)]
    parameters = [
        tuple(jax.numpy.asarray(p.detach().numpy()) for p in (layer.weight, layer.bias))
        for layer in layers
    ]
    as_jax = [jax.numpy.asarray(part.numpy()) for part in (problem.x, problem.y)]
    sides = {
        "torch": (
            upweight_torch,
            problem.model,
            cross_entropy,
            problem.x,
            problem.y,
            torch.Tensor.numpy,
        ),
        "JAX": (
            upweight_jax,
            upweight_jax.JaxModel(apply, parameters),
            jax_loss,
            *as_jax,
            np.asarray,
        ),
    }
    print(f"torch {torch.__version__}, JAX {jax.__version__}, NumPy {np.__version__}\n")
    print("| job | torch | JAX | ratio | first call of JAX | largest difference |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, job in JOBS.items():
        seconds, results = {side: [] for side in sides}, {}
        runs = {side: job(*arguments) for side, arguments in sides.items()}
        for _ in range(options.repeats + 1):
            for side, run in runs.items():
                start = time.process_time()
                results[side] = run()
                seconds[side].append(time.process_time() - start)
        first, (ours, theirs) = seconds["JAX"][0], (median(times[1:]) for times in seconds.values())
        error = np.abs(results["JAX"] - results["torch"]).max() / np.abs(results["torch"]).max()
        print(
            f"| {name} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.2f} | {first:.1f} | {error:.0e} |"
        )


if __name__ == "__main__":
    main()
