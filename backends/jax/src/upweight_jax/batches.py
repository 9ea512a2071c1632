"""What a batch must look like to a model, and the losses of its samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from upweight.checks import batch_size
from upweight.errors import BatchError, LossError
from upweight.trees import Batch, Tree, map_leaves
from upweight_jax.precision import ENABLE_X64, loses_precision

Loss = Callable[[Any, Any], jax.Array]

#: How far the mean of the losses of the samples may be from the loss of the batch.
LOSS_RTOL = 1e-3


def prepared_batch(batch: Batch[Any], like: jax.Array) -> Batch[jax.Array]:
    """Return the batch as JAX arrays on the device of `like`.

    Raises:
        BatchError: an array is neither of JAX nor of NumPy, has a floating-point type other than
            that of `like`, or is float64 while JAX is set to single precision.
    """
    x, y = batch
    batch_size(x, y)
    (device,) = like.devices()

    def prepared(leaf: Any) -> jax.Array:
        if not isinstance(leaf, jax.Array | np.ndarray):
            raise BatchError(
                f"The arrays of a batch must be JAX or NumPy arrays; got {type(leaf).__name__!r}. "
                "Convert it with jax.numpy.asarray."
            )
        if loses_precision(leaf.dtype):
            raise BatchError(f"An array of the batch is float64. {ENABLE_X64}")
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != like.dtype:
            raise BatchError(
                f"The model is {like.dtype}, and an array of the batch is {leaf.dtype}. "
                "Convert one to the type of the other."
            )
        placed: jax.Array = jax.device_put(leaf, device)
        return placed

    return map_leaves(prepared, x), map_leaves(prepared, y)


def losses_of_samples(loss: Loss, output: Any, y: Tree[jax.Array]) -> jax.Array:
    """Return the loss of each sample, that is, of a batch of one, (n,)."""
    return jax.vmap(lambda output, y: loss(*with_sample_axis((output, y))))(output, y)


def with_sample_axis(tree: Any) -> Any:
    """Return one sample as a batch of one."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def loss_of_batch(loss: Loss, output: Any, y: Tree[jax.Array], n: int) -> jax.Array:
    """Return the loss of a batch as one number; a single sample counts twice.

    Twice the same sample has the same mean loss, and twice the sum.

    Raises:
        LossError: an output does not have the samples as its first axis, or the loss is not one
            number.
    """
    for leaf in jax.tree.leaves(output):
        if jnp.ndim(leaf) == 0 or leaf.shape[0] != n:
            raise LossError(
                f"Every output of the model must have the {n} samples as its first axis; got "
                f"{jnp.shape(leaf)}."
            )
    if n == 1:
        output, y = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), (output, y))
    of_batch = loss(output, y)
    if jnp.shape(of_batch) != ():
        raise LossError(
            f"The loss of a batch must be one number, the mean over its samples; got the shape "
            f"{jnp.shape(of_batch)}. Average what the loss returns, as in `loss(output, y).mean()`."
        )
    return of_batch


def check_loss(of_batch: jax.Array, losses: jax.Array) -> None:
    """Check that the loss of a batch is the mean of the losses (n,) of its samples.

    Raises:
        LossError: it is not, for example because the loss sums over the samples.
    """
    total, mean = float(of_batch), float(np.mean(losses))
    finite = np.isfinite(total) and np.isfinite(mean)
    if finite and not np.isclose(total, mean, rtol=LOSS_RTOL, atol=1e-7):
        raise LossError(
            f"The loss of a batch must be the mean of the losses of its samples, and of "
            f"{len(losses)} samples it is {total:.6g}, while the mean is {mean:.6g}. Pass a loss "
            "that averages, without weights that depend on the batch."
        )


def flat_output(output: Any) -> jax.Array:
    """Return all floating-point numbers that the model gives for each sample, (n, c)."""
    leaves = [leaf for leaf in jax.tree.leaves(output) if _is_floating(leaf)]
    return jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def in_form_of(output: Any, flat: jax.Array) -> Any:
    """Return numbers (n, c) in the form of the output of the model."""
    leaves, structure = jax.tree.flatten(output)
    widths = [leaf[0].size if _is_floating(leaf) else 0 for leaf in leaves]
    pieces = jnp.split(flat, np.cumsum(widths)[:-1], axis=1)
    shaped = [
        piece.reshape(leaf.shape) if _is_floating(leaf) else leaf
        for leaf, piece in zip(leaves, pieces, strict=True)
    ]
    return jax.tree.unflatten(structure, shaped)


def _is_floating(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))
