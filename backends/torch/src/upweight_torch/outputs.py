r"""The loss as a function of the output of the model: its second derivative, whole and sampled.

Sampled directions u have \(\mathbb{E}[u u^\top] = H_\ell\), the Hessian of the loss of a sample in
its output: gradients for a label drawn from the model's own prediction. A loss that is the mean
over m numbers or positions of a sample has a Hessian 1/m that of their sum, so such gradients have
the factor \(1/\sqrt m\).

References:
    Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature",
    ICML 2015, section 2.1; Martens, "New Insights and Perspectives on the Natural Gradient Method",
    JMLR 21 (2020), section 9.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.func import grad, vjp, vmap
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_unflatten  # noqa: PLC2701  # the trees that torch.func maps over; they have no public name

from upweight.errors import MemoryLimitError, UnsupportedCurvatureError
from upweight.protocols import RandomRows
from upweight.trees import Tree
from upweight_torch.batches import losses_of_samples
from upweight_torch.layers import flat_output

Tensor = torch.Tensor
Loss = Callable[[Any, Any], Tensor]

#: Bytes of Hessians in the output that are formed at most.
HESSIAN_BYTES = 2 * 2**30


def output_hessians(loss: Loss, output: Any, y: Tree[Tensor]) -> Tensor:
    """Return the Hessian of the loss of each sample in its output, (n, c, c).

    Raises:
        MemoryLimitError: they would take more than `HESSIAN_BYTES`.
    """
    flat = flat_output(output)
    n, c = flat.shape
    needed = n * c**2 * flat.element_size()
    if needed > HESSIAN_BYTES:
        raise MemoryLimitError(
            f"The Hessians of the loss in {c:,} outputs of {n:,} samples need "
            f"{needed / 2**30:,.1f} GiB, and at most {HESSIAN_BYTES / 2**30:,.1f} GiB are formed. "
            "Draw labels instead (fisher='sampled', with a loss whose labels can be drawn), or use "
            "fisher='empirical'."
        )

    def total(flat: Tensor) -> Tensor:
        return losses_of_samples(loss, _like(output, flat), y).sum()

    _, pull, *_ = vjp(grad(total), flat)
    unit = torch.eye(flat.shape[1], dtype=flat.dtype, device=flat.device)
    hessians: Tensor = vmap(lambda row: pull(row.expand_as(flat))[0])(unit)
    return hessians.movedim(0, 1)


def sampled_directions(loss: Loss, output: Any, y: Tree[Tensor], rng: RandomRows) -> Tensor:
    """Return gradients in the output for labels drawn from the prediction, (n, c).

    Args:
        loss: A cross-entropy, squared error or binary cross-entropy of logits.
        output: The output of the model, one tensor with n samples.
        y: The labels, of which only the form matters.
        rng: Where randomness comes from, the same for any division into batches.

    Raises:
        UnsupportedCurvatureError: the loss is another one, or has weights.
    """
    if isinstance(output, torch.Tensor) and isinstance(y, torch.Tensor):
        if (
            _is(loss, functional.cross_entropy, torch.nn.CrossEntropyLoss)
            and not y.is_floating_point()
        ):
            return _categorical(output, y, getattr(loss, "ignore_index", -100), rng)
        if _is(loss, functional.mse_loss, torch.nn.MSELoss) and output.shape == y.shape:
            flat = output.reshape(len(output), -1)
            return _tensor(rng.standard_normal(flat.shape), flat) * math.sqrt(2 / flat.shape[1])
        if _is(loss, functional.binary_cross_entropy_with_logits, torch.nn.BCEWithLogitsLoss):
            flat = output.reshape(len(output), -1)
            p = torch.sigmoid(flat)
            drawn = (_tensor(rng.random(flat.shape), flat) < p).to(flat)
            return (p - drawn) / math.sqrt(flat.shape[1])
    raise UnsupportedCurvatureError(
        f"Labels can be drawn for F.cross_entropy, F.mse_loss and "
        "F.binary_cross_entropy_with_logits without weights, and their modules, on an output that "
        f"is one tensor; got the loss {loss!r}. Use the exact Fisher instead."
    )


def _categorical(output: Tensor, y: Tensor, ignored: int, rng: RandomRows) -> Tensor:
    """Draw a class at each position of outputs (n, c, *positions)."""
    logits = output.flatten(2) if output.ndim > 2 else output[:, :, None]  # (n, c, t)
    p = torch.softmax(logits, dim=1)
    uniform = _tensor(rng.random((len(p), p.shape[2])), p)
    # Rounding may leave the sum of all probabilities below the number drawn.
    classes = (p.cumsum(dim=1) < uniform[:, None, :]).sum(dim=1).clamp_(max=p.shape[1] - 1)
    drawn = functional.one_hot(classes, p.shape[1]).movedim(2, 1).to(p)
    counted = (y.reshape(len(y), 1, -1) != ignored).to(p)
    total = counted.sum(dim=2, keepdim=True).clamp_(min=1)
    return ((p - drawn) * counted / total.sqrt()).reshape(len(p), -1)


def _is(loss: Loss, function: object, module: type[torch.nn.Module]) -> bool:
    """Return whether a loss is this function, or its module without weights."""
    if loss is function:
        return True
    return type(loss) is module and not any(
        getattr(loss, name, None) is not None for name in ("weight", "pos_weight")
    )


def _tensor(values: np.ndarray[Any, Any], like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def _like(output: Any, flat: Tensor) -> Any:
    """Return numbers (n, c) in the form of the output of the model."""
    leaves, form = tree_flatten(output)
    widths = [leaf[0].numel() if leaf.is_floating_point() else 0 for leaf in leaves]
    pieces = flat.split(widths, dim=1)
    shaped = [
        piece.reshape(-1, *leaf.shape[1:]) if width else leaf
        for leaf, piece, width in zip(leaves, pieces, widths, strict=True)
    ]
    return tree_unflatten(shaped, form)
