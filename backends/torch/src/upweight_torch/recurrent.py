"""Recurrent layers under vmap."""

from __future__ import annotations

from typing import Any

import torch


def start_from_given_states(module: torch.nn.Module) -> None:
    """Give every recurrent layer of a module that starts from no state zeros to start from.

    The layer would make them itself, but not as part of the batch that vmap sees, and it then
    fails to write the states of the samples into them.
    """
    for layer in module.modules():
        if isinstance(layer, torch.nn.RNNBase):
            layer.register_forward_pre_hook(_with_states, with_kwargs=True)


def _with_states(
    layer: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    assert isinstance(layer, torch.nn.RNNBase)
    given = {**dict(zip(("input", "hx"), args, strict=False)), **kwargs}
    x = given["input"]
    if given.get("hx") is not None or not isinstance(x, torch.Tensor) or x.ndim != 3:
        return None
    n = x.shape[0 if layer.batch_first else 1]
    depth = layer.num_layers * (2 if layer.bidirectional else 1)
    hidden = x.new_zeros((depth, n, layer.proj_size or layer.hidden_size))
    if not isinstance(layer, torch.nn.LSTM):
        return (x, hidden), {}
    return (x, (hidden, x.new_zeros((depth, n, layer.hidden_size)))), {}
