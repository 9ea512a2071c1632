"""The networks on scikit-learn's digits that the benchmarks share."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

#: The first 1,500 samples are for training, the other 297 for testing.
TRAIN = 1500

SMALL, LARGE = (64, 32, 10), (64, 256, 128, 10)


@dataclass(frozen=True)
class Problem:
    """A trained network, and the samples that its influences are asked for."""

    model: torch.nn.Sequential
    x: torch.Tensor
    y: torch.Tensor
    batch: int

    @property
    def n_parameters(self) -> int:
        return sum(prod(parameter.shape) for parameter in self.model.parameters())

    @property
    def accuracy(self) -> float:
        """Share of the test samples whose label is predicted."""
        with torch.no_grad():
            return (self.model(self.x[TRAIN:]).argmax(1) == self.y[TRAIN:]).double().mean().item()

    def train(self, n: int = TRAIN) -> DataLoader:
        """Return the first n training samples."""
        return self._loader(0, n)

    def test(self, n: int) -> DataLoader:
        """Return the first n test samples."""
        return self._loader(TRAIN, TRAIN + n)

    def _loader(self, start: int, stop: int) -> DataLoader:
        data = TensorDataset(self.x[start:stop], self.y[start:stop])
        return DataLoader(data, batch_size=self.batch)


def trained_network(
    widths: Sequence[int],
    activation: type[torch.nn.Module] = torch.nn.Tanh,
    *,
    batch: int = 64,
    steps: int = 100,
    rate: float = 1e-2,
    kept: Sequence[int] | slice = slice(TRAIN),
    seed: int = 0,
) -> Problem:
    """Train a network by Adam on all kept samples together, always to the same parameters."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for i, o in pairwise(widths):
        layers += [torch.nn.Linear(i, o), activation()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(x[kept]), y[kept]).backward()
        optimizer.step()
    return Problem(model, x, y, batch)
