"""Compare influences with what happens when a sample is left out and the model is trained again.

Logistic regression has one minimum, so leaving a sample out has a definite answer. Here it is
found for 100 of 300 rows of a table by training 100 times. Influence predicts all of it from the
one model that was trained on everything.

Run it with `python docs/examples/leave_one_out.py`; it needs scikit-learn.
"""

import argparse

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from upweight.evaluation import leave_one_out_correlation, leave_one_out_subsets, retrain
from upweight_torch import CgInfluence, GradientInfluence

N_TRAIN, N_TEST, N_LEFT_OUT = 300, 50, 100
PENALTY = 0.01  # of the squared parameters, in the training loss
EXPECTED = 0.95


def load_table(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """Return rows of a table with 30 columns and two classes, to train on and to test on."""
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = torch.tensor(scale(x)[order]), torch.tensor(y[order])
    return (
        TensorDataset(x[:N_TRAIN], y[:N_TRAIN]),
        TensorDataset(x[N_TRAIN : N_TRAIN + N_TEST], y[N_TRAIN : N_TRAIN + N_TEST]),
    )


def train_network(x: torch.Tensor, y: torch.Tensor) -> torch.nn.Linear:
    """Minimise the penalised loss so exactly that the change by one row of many is seen."""
    network = torch.nn.Linear(30, 2, dtype=torch.float64)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def penalised_loss() -> torch.Tensor:
        optimizer.zero_grad()
        squares = sum(parameter.square().sum() for parameter in network.parameters())
        loss = cross_entropy(network(x), y) + PENALTY / 2 * squares
        loss.backward()
        return loss

    optimizer.step(penalised_loss)
    return network


def main() -> None:
    """Compute influences, leave samples out one by one, and print how well the two agree."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the split and the rows left out")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are small: a second thread costs more than it brings

    train, test = load_table(options.seed)
    (x, y), (x_test, y_test) = train.tensors, test.tensors

    def losses_without_others(indices: np.ndarray, _: int) -> np.ndarray:
        """Train on the rows of these indices only; nothing is random, so no seed is needed."""
        network = train_network(x[indices], y[indices])
        with torch.no_grad():
            return cross_entropy(network(x_test), y_test, reduction="none").numpy()

    network = train_network(x, y)
    # The penalty is the damping, and is left out of the loss: docs/concepts.md says why.
    models = {
        "influence, by conjugate gradients": CgInfluence(
            network, cross_entropy, regularization=PENALTY, rtol=1e-8
        ),
        "inner products of gradients": GradientInfluence(network, cross_entropy),
    }
    influences = {
        name: model.fit([(x, y)]).influences(x_test, y_test, x, y).numpy()
        for name, model in models.items()
    }

    left_out = np.random.default_rng(options.seed).choice(N_TRAIN, N_LEFT_OUT, replace=False)
    retrained = retrain(losses_without_others, leave_one_out_subsets(N_TRAIN, np.sort(left_out)))
    scores = {
        name: leave_one_out_correlation(values, retrained, positive="lowers")
        for name, values in influences.items()
    }
    print(f"\n{'correlation with leaving one out':<40}{'':>7}{'95 % interval':>18}")
    for name, score in scores.items():
        print(f"{name:<40}{score.value:>7.3f}{score.low:>10.3f} to {score.high:.3f}")

    found = scores["influence, by conjugate gradients"]
    print(f"\nExpected of influence: more than {EXPECTED}.")
    if not found.value > EXPECTED:
        raise SystemExit("Influence does not predict what leaving a sample out does.")


if __name__ == "__main__":
    main()
