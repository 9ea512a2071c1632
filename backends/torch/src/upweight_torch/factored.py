r"""Gradients of layers and their products with rows, from inputs and output gradients.

The gradient of a weight for a sample is \(\sum_t g_t a_t^\top\), and that of a bias
\(\sum_t g_t\). A matrix of all gradients is written only where it is asked for: products with rows
are summed over pieces of one layer that stay in the cache of a processor.
"""

from __future__ import annotations

import torch

from upweight.protocols import LayerStatistics
from upweight_torch.costs import LayerSize, forming_pays

Tensor = torch.Tensor
Statistics = LayerStatistics[Tensor]

#: Numbers of an intermediate result that are formed at a time.
PIECE_NUMBERS = {"cpu": 2**19, "other": 2**26}


def write_gradients(layer: Statistics, weight: Tensor, bias: Tensor | None) -> None:
    """Write the gradients of n samples in the parameters of a layer.

    Args:
        layer: Its inputs (n, t, i) and output gradients (n, t, o).
        weight: Where those of the weight go, (n, o · i).
        bias: Where those of the bias go, (n, o).
    """
    a, g = layer.inputs, layer.gradients
    _outer(g, a, weight.unflatten(1, (g.shape[2], a.shape[2])))
    if bias is not None:
        torch.sum(g, dim=1, out=bias)


def add_products(layer: Statistics, weight: Tensor, bias: Tensor | None, total: Tensor) -> None:
    """Add to a total ⟨row, gradient of sample⟩ in the parameters of a layer.

    Args:
        layer: Its inputs (n, t, i) and output gradients (n, t, o).
        weight: The columns of the rows that belong to the weight, (k, o · i).
        bias: Those that belong to the bias, (k, o).
        total: What to add to, (k, n).
    """
    a, g = layer.inputs, layer.gradients
    if bias is not None:
        total.addmm_(bias, g.sum(dim=1).T)
    (n, t, i), o = a.shape, g.shape[2]
    if t == 0:  # the samples of this batch do not pass through the layer
        return
    if forming_pays(LayerSize(t, o, i), n, len(weight)):
        _add_by_forming(a, g, weight, total)
    else:
        _add_by_mapping(a, g, weight.unflatten(1, (o, i)), total)


def _add_by_forming(a: Tensor, g: Tensor, weight: Tensor, total: Tensor) -> None:
    """Form the gradients for some samples and outputs at a time."""
    n, _, i = a.shape
    o = g.shape[2]
    numbers = _piece_numbers(a)
    # Samples enough for an efficient product; then all outputs that fit.
    samples = min(n, max(1, numbers // i))
    outputs = min(o, max(1, numbers // (samples * i)))
    piece = a.new_empty(samples * outputs * i)
    for start in range(0, n, samples):
        some = slice(start, min(n, start + samples))
        for low in range(0, o, outputs):
            high = min(o, low + outputs)
            shape = (some.stop - start, high - low, i)
            formed = piece[: shape[0] * shape[1] * i].view(shape)
            _outer(g[some, :, low:high], a[some], formed)
            total[:, some].addmm_(weight[:, low * i : high * i], formed.flatten(1).T)


def _add_by_mapping(a: Tensor, g: Tensor, weight: Tensor, total: Tensor) -> None:
    """Map the smaller side to the larger, for some rows and samples at a time."""
    if g.shape[2] > a.shape[2]:
        a, g, weight = g, a, weight.mT
    n, t, _ = a.shape
    k, narrow, _ = weight.shape
    numbers = _piece_numbers(a)
    samples = min(n, max(1, numbers // (t * narrow)))
    rows = min(k, max(1, numbers // (samples * t * narrow)))
    for start in range(0, n, samples):
        some = slice(start, start + samples)
        for first in range(0, k, rows):
            part = slice(first, first + rows)
            total[part, some] += _mapped_products(a[some], g[some], weight[part])


def _mapped_products(a: Tensor, g: Tensor, weight: Tensor) -> Tensor:
    """Return the sum over t of ⟨g_t, W a_t⟩ for each row W (k, o, i) and sample, (k, n)."""
    mapped = a.flatten(0, 1) @ weight.mT  # (k, n · t, o)
    products = mapped.mul_(g.flatten(0, 1)).sum(2)
    summed: Tensor = products.unflatten(1, a.shape[:2]).sum(2)
    return summed


def _outer(g: Tensor, a: Tensor, out: Tensor) -> None:
    """Write the sum over t of the products of g (n, t, o) and a (n, t, i), (n, o, i)."""
    if g.shape[1] == 1:
        torch.mul(g.mT, a, out=out)
    else:
        torch.bmm(g.mT, a, out=out)


def _piece_numbers(some: Tensor) -> int:
    return PIECE_NUMBERS["cpu" if some.device.type == "cpu" else "other"]
