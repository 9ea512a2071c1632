"""Linear and convolution layers as one linear map at many positions."""

from __future__ import annotations

import torch
from torch.nn import functional

Tensor = torch.Tensor


def position_count(module: torch.nn.Module, entering: Tensor, n: int) -> int:
    """Return how many rows a layer has for each of n samples, 0 if it cannot tell samples apart.

    Args:
        module: A Linear, Conv1d or Conv2d layer.
        entering: What it is called with.
        n: Number of samples; the layer may see them folded with other axes, samples first.
    """
    if isinstance(module, torch.nn.Linear):
        rows = entering.numel() // entering.shape[-1] if entering.ndim > 1 else 1
    else:
        batched = entering.ndim == (3 if isinstance(module, torch.nn.Conv1d) else 4)
        rows = entering.shape[0] if batched else 1
    return rows // n if rows % n == 0 else 0


def input_positions(module: torch.nn.Module, entering: Tensor, n: int) -> Tensor:
    """Return what the weight is multiplied with at each of t positions, (n, t, i)."""
    if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d):
        entering = _patches(module, entering).transpose(1, 2)
    return entering.reshape(n, -1, entering.shape[-1])


def output_positions(module: torch.nn.Module, leaving: Tensor, n: int) -> Tensor:
    """Return the outputs, or their gradients, at each of t positions, (n, t, o)."""
    if not isinstance(module, torch.nn.Linear):
        leaving = leaving.flatten(2).transpose(1, 2)
    return leaving.reshape(n, -1, leaving.shape[-1])


def _patches(module: torch.nn.Conv1d | torch.nn.Conv2d, entering: Tensor) -> Tensor:
    """Return the patches that a convolution multiplies with its weight, (n, i, t)."""
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(entering, _padding(module), mode=mode)
    if isinstance(module, torch.nn.Conv1d):  # an image of one line
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
        padded = padded.unsqueeze(2)
    return functional.unfold(padded, kernel, dilation=dilation, stride=stride)


def _padding(module: torch.nn.Conv1d | torch.nn.Conv2d) -> list[int]:
    """Return the padding before and after, last axis first."""
    pairs = []
    for axis, (k, d) in enumerate(zip(module.kernel_size, module.dilation, strict=True)):
        if module.padding == "same":
            total = d * (k - 1)
            pairs.append((total // 2, total - total // 2))
        elif isinstance(module.padding, str):  # "valid"
            pairs.append((0, 0))
        else:
            pairs.append((module.padding[axis], module.padding[axis]))
    return [side for pair in reversed(pairs) for side in pair]
