"""Which parameters are those of linear layers, and of what shape the layers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.utils.parametrize import is_parametrized

from upweight.trees import Tree
from upweight_torch.flat import Parameters
from upweight_torch.functional import FunctionalModel

Tensor = torch.Tensor


@dataclass(frozen=True)
class LinearParameter:
    """A trainable weight (o, i) or bias (o,) of a linear layer, and its place in the vector."""

    name: str
    layer: str
    is_bias: bool
    place: slice


def linear_parameters(
    model: FunctionalModel, trainable: Parameters
) -> list[LinearParameter] | None:
    """Return the trainable parameters if each belongs to one linear layer alone, else None."""
    owners = {
        f"{layer}.{attribute}" if layer else attribute: (layer, attribute == "bias")
        for layer, module in model.module.named_modules()
        if type(module) is torch.nn.Linear and not is_parametrized(module)
        for attribute in ("weight", "bias")
    }
    every_use = model.module.named_parameters(remove_duplicate=False)
    uses = Counter(id(parameter) for _, parameter in every_use)
    own = dict(model.module.named_parameters())
    found: list[LinearParameter] = []
    start = 0
    for name, value in trainable.items():
        if name not in owners or uses[id(own[name])] > 1:
            return None
        found.append(LinearParameter(name, *owners[name], slice(start, start + value.numel())))
        start += value.numel()
    return found


def layer_shapes(
    model: FunctionalModel, values: Parameters, layers: list[str], x: Tree[Tensor]
) -> dict[str, tuple[int, int]] | None:
    """Return outputs and inputs (o, i) of each layer, or None if one is not used as it must be.

    Args:
        model: The model.
        values: All parameters.
        layers: Names of the linear layers.
        x: The input of a single sample.
    """
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}

    def noting(layer: str) -> Callable[[Tensor, Tensor], Tensor]:
        def visit(entering: Tensor, output: Tensor) -> Tensor:
            seen[layer].append((output, entering))
            return output

        return visit

    with torch.no_grad():
        model.with_outputs_through({layer: noting(layer) for layer in layers}, values, x)
    shapes = {}
    for layer, uses in seen.items():
        if len(uses) != 1 or uses[0][0].ndim != 2 or len(uses[0][0]) != 1:
            return None
        output, entering = uses[0]
        shapes[layer] = (output.shape[1], entering.shape[1])
    return shapes
