"""What a batch must look like to a model, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves, tree_map  # noqa: PLC2701  # the trees that torch.func maps over; they have no public name

from upweight.checks import batch_size
from upweight.errors import BatchError, LossError
from upweight.trees import Batch, Tree, map_leaves

Tensor = torch.Tensor

#: How far the mean of the losses of the samples may be from the loss of the batch.
LOSS_RTOL = 1e-3


def prepared_batch(batch: Batch[Tensor], like: Tensor) -> Batch[Tensor]:
    """Return the batch, detached, on the device of `like`.

    Raises:
        BatchError: an array is no tensor, or has a floating-point type other than that of `like`.
    """
    x, y = batch
    batch_size(x, y)

    def prepared(leaf: Tensor) -> Tensor:
        if not isinstance(leaf, torch.Tensor):
            raise BatchError(
                f"The arrays of a batch must be torch tensors; got {type(leaf).__name__!r}. "
                "Convert it with torch.as_tensor."
            )
        if leaf.is_floating_point() and leaf.dtype != like.dtype:
            raise BatchError(
                f"The model is {like.dtype}, and an array of the batch is {leaf.dtype}. "
                "Convert one to the type of the other."
            )
        return (leaf.clone() if leaf.is_inference() else leaf).detach().to(like.device)

    with torch.inference_mode(False):  # what is made in it cannot be differentiated
        return map_leaves(prepared, x), map_leaves(prepared, y)


def losses_of_samples(loss: Callable[[Any, Any], Tensor], output: Any, y: Tree[Tensor]) -> Tensor:
    """Return the loss of each sample, that is, of a batch of one, (n,)."""

    def of_one(output: Any, y: Any) -> Tensor:
        return loss(*tree_map(lambda leaf: leaf.unsqueeze(0), (output, y)))

    return torch.func.vmap(of_one)(output, y)


def check_loss(loss: Callable[[Any, Any], Tensor], output: Any, y: Tree[Tensor], n: int) -> None:
    """Check that the loss of a batch is the mean of the losses of its samples.

    Raises:
        LossError: it is not, for example because the loss sums over the samples.
    """
    for leaf in tree_leaves(output):
        if not isinstance(leaf, torch.Tensor) or leaf.ndim == 0 or leaf.shape[0] != n:
            raise LossError(
                f"Every output of the model must have the {n} samples as its first axis; got "
                f"{tuple(leaf.shape) if isinstance(leaf, torch.Tensor) else type(leaf).__name__}."
            )
    if n == 1:  # twice the same sample has the same mean loss, and twice the sum
        output, y = tree_map(lambda leaf: leaf[[0, 0]], (output, y))
    of_batch = loss(output, y)
    if of_batch.shape != ():
        raise LossError(
            f"The loss of a batch must be one number, the mean over its samples; got the shape "
            f"{tuple(of_batch.shape)}. Pass a loss with reduction='mean'."
        )
    mean = losses_of_samples(loss, output, y).mean()
    finite = bool(torch.isfinite(of_batch)) and bool(torch.isfinite(mean))
    if finite and not torch.isclose(of_batch, mean, rtol=LOSS_RTOL, atol=1e-7):
        raise LossError(
            f"The loss of a batch must be the mean of the losses of its samples, and of {n} "
            f"samples it is {float(of_batch):.6g}, while the mean is {float(mean):.6g}. "
            "Pass a loss with reduction='mean' and without weights that depend on the batch."
        )


def activation_bytes(run: Callable[[], object], constants: list[Tensor]) -> int:
    """Return the bytes that autograd keeps for the backward pass of `run`, without constants."""
    known = {constant.data_ptr() for constant in constants}
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        if tensor.data_ptr() not in known:
            total += tensor.nbytes
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return total


def sliced(tree: Tree[Tensor], start: int, stop: int) -> Tree[Tensor]:
    """Return the samples from `start` up to `stop`."""
    return map_leaves(lambda leaf: leaf[start:stop], tree)
