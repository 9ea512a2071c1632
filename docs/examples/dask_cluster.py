"""Fit, compute influences and rank training samples on a Dask cluster.

Two processes of this machine stand for a cluster; with the address of a real one instead, nothing
else changes. The workers fit the curvature where the training data is, write the influences to
Zarr block by block, and find the five training images that speak most for each test image. One
process that does the same in batches comes to the same numbers.

Run it with `python docs/examples/dask_cluster.py`; it needs scikit-learn.
"""

import argparse
from pathlib import Path

import dask.array as da
import numpy as np
import torch
from distributed import Client
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from upweight import (
    DaskInfluenceCalculator,
    DaskTrainingData,
    SequentialInfluenceCalculator,
    TopK,
    reduce_influences,
)
from upweight_torch import EkfacInfluence, TorchNumpyConverter, torch_dataset_to_dask_array

N_TRAIN, N_TEST, CHUNK, CHUNK_TEST, K = 1500, 200, 500, 100, 5


def load_images(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """Return digits of 8 x 8 pixels, to train on and to test on."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))[: N_TRAIN + N_TEST]
    x, y = torch.tensor(x[order] / 16, dtype=torch.float32), torch.tensor(y[order])
    return TensorDataset(x[:N_TRAIN], y[:N_TRAIN]), TensorDataset(x[N_TRAIN:], y[N_TRAIN:])


def train_network(data: TensorDataset, seed: int, epochs: int = 20) -> torch.nn.Sequential:
    """Train a small network."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(epochs):
        for x, y in DataLoader(data, batch_size=100, shuffle=True):
            optimizer.zero_grad()
            cross_entropy(network(x), y).backward()
            optimizer.step()
    return network


def on_a_cluster(
    network: torch.nn.Module, train: TensorDataset, test: TensorDataset, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return influences and the indices of the first training samples, found by the workers."""
    converter = TorchNumpyConverter()
    x, y = torch_dataset_to_dask_array(train, chunk_size=CHUNK)
    x_test, y_test = torch_dataset_to_dask_array(test, chunk_size=CHUNK_TEST)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        x, y = client.persist([x, y])  # read once, and kept by the workers
        model = EkfacInfluence(network, cross_entropy)
        model = model.fit(DaskTrainingData(x, y, converter, client))
        calculator = DaskInfluenceCalculator(model, converter, client)
        influences = calculator.influences(x_test, y_test, x, y)  # nothing is computed yet
        stored = calculator.to_zarr(influences, path, return_stored=True, overwrite=True)
        # The influences are on disk now. To keep only the first few, reduce `influences` itself.
        top = reduce_influences(da.from_zarr(path), TopK(K)).compute()
        return stored[:], top.indices


def in_one_process(
    network: torch.nn.Module, train: TensorDataset, test: TensorDataset
) -> tuple[np.ndarray, np.ndarray]:
    """Do the same in batches."""
    batches = DataLoader(train, batch_size=CHUNK)
    model = EkfacInfluence(network, cross_entropy).fit(batches)
    lazy = SequentialInfluenceCalculator(model).influences(
        DataLoader(test, batch_size=CHUNK_TEST), batches
    )
    converter = TorchNumpyConverter()
    rows = [[converter.to_numpy(block) for block in row] for row in lazy]
    return np.block(rows), lazy.reduce(TopK(K), converter).indices


def main() -> None:
    """Train, compute on the cluster and in one process, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--seed", type=int, default=0, help="of the split, weights and batches")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    train, test = load_images(options.seed)
    network = train_network(train, options.seed)
    influences, top = on_a_cluster(network, train, test, options.out / "cluster.zarr")
    expected, expected_top = in_one_process(network, train, test)

    digits, digits_test = train.tensors[1].numpy(), test.tensors[1].numpy()
    print("\ntest image   digits of the training images that speak most for its label")
    for i in range(5):
        print(f"{i:>5}, a {digits_test[i]}   {', '.join(map(str, digits[top[i]]))}")
    same_digit = (digits[top] == digits_test[:, None]).mean()
    print(f"Of all {top.size}, {same_digit:.0%} show the digit of their test image.")

    # float32 sums in another order; a difference is judged against the size of its row.
    error = np.abs(influences - expected).max(axis=1) / np.abs(expected).max(axis=1)
    agree = (top == expected_top).mean()
    print(f"\nCluster and one process: largest relative difference {error.max():.1e},")
    print(f"{agree:.1%} of the ranks equal.")
    if not (error.max() < 1e-3 and agree > 0.98):
        raise SystemExit("The cluster and the sequential calculator do not agree.")


if __name__ == "__main__":
    main()
