r"""Inputs and output gradients of linear and convolution layers, by one plain backward pass.

With \(s = W a + b\) the output of a layer at one position, \(\nabla_W \ell = \sum_t g_t a_t^\top\)
and \(\nabla_b \ell = \sum_t g_t\), where \(g = \partial \ell / \partial s\). A zero is added to the
output of each layer and the backward pass ends there: no gradient of a weight is ever formed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._pytree import tree_leaves  # noqa: PLC2701  # the trees that torch.func maps over; they have no public name

from upweight.checks import batch_size
from upweight.errors import ModelError
from upweight.protocols import LayerStatistics
from upweight.trees import Tree, map_leaves
from upweight_torch.batches import sliced
from upweight_torch.flat import Parameters
from upweight_torch.functional import FunctionalModel
from upweight_torch.kernels import twice_differentiable_kernels
from upweight_torch.patches import input_positions, output_positions, position_count

Tensor = torch.Tensor

#: How far gradients rebuilt from layers may be from the true ones, relative to these.
GRADIENT_RTOL = 1e-3

#: Samples that gradients are rebuilt for, to see whether this works.
PROBES = 4


@dataclass(frozen=True)
class Layer:
    """A layer whose weight, and maybe bias, is trainable.

    Attributes:
        name: Name of the module.
        weight: Name of the weight.
        bias: Name of the bias, or None.
        positions: At how many positions of a sample it was used when it was found.
    """

    name: str
    weight: str
    bias: str | None
    positions: int = 1


def layer_statistics(
    model: FunctionalModel,
    values: Parameters,
    layers: Sequence[Layer],
    x: Tree[Tensor],
    functions: Callable[[Any], Sequence[Tensor]],
) -> dict[str, LayerStatistics[Tensor]]:
    """Return inputs of layers, and gradients of functions of the model's output in their outputs.

    Args:
        model: The model.
        values: All parameters.
        layers: The layers, as `covered_layers` found them.
        x: Inputs of n samples.
        functions: From the output of the model to d sums over samples.

    Returns:
        By layer inputs (n, t, i) and gradients (d, n, t, o).

    Raises:
        ModelError: a layer sees no longer the samples on its first axis.
    """
    n = batch_size(x)
    uses, gradients = _pulled_back(model, values, layers, x, functions)
    statistics = {}
    for layer in layers:
        module = model.module.get_submodule(layer.name)
        if not all(position_count(module, entering, n) for entering in uses[layer.name]):
            raise ModelError(
                f"The layer {layer.name!r} does not see the {n} samples of this batch on its "
                "first axis, and it did when it was first called."
            )
        o, i = values[layer.weight].flatten(1).shape
        entering = [input_positions(module, a, n) for a in uses[layer.name]]
        leaving = [
            torch.stack([output_positions(module, g, n) for g in each])
            for each in gradients[layer.name]
        ]
        some = values[layer.weight]
        statistics[layer.name] = LayerStatistics(
            layer.weight,
            layer.bias,
            _joined(entering, 1, some, (n, 0, i)),
            _joined(leaving, 2, some, (1, n, 0, o)),
        )
    return statistics


def covered_layers(
    model: FunctionalModel, values: Parameters, trainable: Parameters, x: Tree[Tensor]
) -> tuple[Layer, ...]:
    """Return the layers from whose statistics the gradients of the samples can be rebuilt.

    Left out are layers of other kinds, layers whose parameters have another use besides (a tied
    weight, a penalty), and those that do not see the samples on their first axis.

    Args:
        model: The model.
        values: All parameters.
        trainable: Those that gradients are taken in.
        x: Some inputs to try this on.
    """
    candidates = _candidates(model, trainable)
    few = sliced(x, 0, PROBES)
    if batch_size(few) == 1:  # two samples show whether a layer tells samples apart
        with _recording():
            few = map_leaves(lambda leaf: leaf[[0, 0]], few)
    n = batch_size(few)
    uses, _ = _pulled_back(model, values, candidates, few, lambda _: [])
    usable = [
        layer
        for layer in candidates
        if uses[layer.name]
        and all(
            position_count(model.module.get_submodule(layer.name), entering, n)
            for entering in uses[layer.name]
        )
    ]
    return _explained(model, values, usable, few)


def flat_output(output: Any) -> Tensor:
    """Return all numbers that the model gives for each sample, (n, c)."""
    leaves = [leaf for leaf in tree_leaves(output) if leaf.is_floating_point()]
    return torch.cat([leaf.reshape(len(leaf), -1) for leaf in leaves], dim=1)


def _candidates(model: FunctionalModel, trainable: Parameters) -> list[Layer]:
    modules = dict(model.module.named_modules())
    owners = Counter(id(p) for m in modules.values() for p in m.parameters(recurse=False))
    found = []
    for name, module in modules.items():
        own = dict(module.named_parameters(recurse=False))
        path = f"{name}." if name else ""
        supported = (
            type(module) in {torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d}
            and not is_parametrized(module)
            and getattr(module, "groups", 1) == 1
            and all(owners[id(parameter)] == 1 for parameter in own.values())
        )
        if supported and f"{path}weight" in trainable:
            bias = f"{path}bias" if f"{path}bias" in trainable else None
            found.append(Layer(name, f"{path}weight", bias))
    return found


def _pulled_back(
    model: FunctionalModel,
    values: Parameters,
    layers: Sequence[Layer],
    x: Tree[Tensor],
    functions: Callable[[Any], Sequence[Tensor]],
) -> tuple[dict[str, list[Tensor]], dict[str, list[list[Tensor]]]]:
    """Return, for each use of each layer, its input and the gradients in its output."""
    uses: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    shifts: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}

    def shifting(name: str) -> Callable[[Tensor, Tensor], Tensor]:
        def visit(entering: Tensor, output: Tensor) -> Tensor:
            shift = output.new_zeros(()).requires_grad_().expand_as(output)
            uses[name].append(entering.detach())
            shifts[name].append(shift)
            return output + shift

        return visit

    with _recording(), twice_differentiable_kernels():
        visits = {layer.name: shifting(layer.name) for layer in layers}
        output = model.with_outputs_through(visits, values, x)
        every = [shift for name in shifts for shift in shifts[name]]
        pulled = [
            iter(_gradients(function, every, retain_graph=True)) for function in functions(output)
        ]
    return uses, {name: [[next(each) for each in pulled] for _ in shifts[name]] for name in shifts}


@contextmanager
def _recording() -> Iterator[None]:
    """Have autograd record, even where the caller has turned it off or is in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _gradients(
    function: Tensor, points: Sequence[Tensor], *, retain_graph: bool
) -> Sequence[Tensor]:
    if not function.requires_grad:
        return [torch.zeros_like(point) for point in points]
    return torch.autograd.grad(function, points, retain_graph=retain_graph, materialize_grads=True)


def _joined(pieces: list[Tensor], axis: int, some: Tensor, empty: tuple[int, ...]) -> Tensor:
    if not pieces:
        return some.new_zeros(empty)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=axis)


def _explained(
    model: FunctionalModel, values: Parameters, layers: Sequence[Layer], x: Tree[Tensor]
) -> tuple[Layer, ...]:
    """Return the layers whose statistics give the whole gradient of a random function.

    The samples have random weights, so that what belongs to one is not taken for another's.
    """
    generator = torch.Generator().manual_seed(0)
    weights = 0.5 + torch.rand(batch_size(x), 1, generator=generator)

    def random(output: Tensor) -> Tensor:
        directions = torch.randn(output.shape, generator=generator.manual_seed(1))
        return directions.to(output)

    def function(output: Any) -> list[Tensor]:
        flat = flat_output(output)
        return [(random(flat) * flat).sum()]

    statistics = layer_statistics(model, values, layers, x, function)
    names = [name for layer in layers for name in (layer.weight, layer.bias) if name]
    with _recording():
        free = {name: values[name].clone().requires_grad_() for name in names}
    with _recording(), twice_differentiable_kernels():
        flat = flat_output(model({**values, **free}, x))
        weighted = (weights.to(flat) * random(flat) * flat).sum()
        truth = dict(
            zip(free, _gradients(weighted, list(free.values()), retain_graph=False), strict=True)
        )
    scale = max((float(torch.linalg.vector_norm(value)) for value in truth.values()), default=0.0)

    def agrees(name: str, rebuilt: Tensor) -> bool:
        error = float(torch.linalg.vector_norm(rebuilt.reshape_as(truth[name]) - truth[name]))
        floor = 100 * torch.finfo(rebuilt.dtype).eps * scale
        return error <= GRADIENT_RTOL * float(torch.linalg.vector_norm(truth[name])) + floor

    def is_explained(layer: Layer) -> bool:
        a = statistics[layer.name].inputs
        g = statistics[layer.name].gradients[0] * weights[:, :, None].to(a)
        return agrees(layer.weight, g.flatten(0, 1).T @ a.flatten(0, 1)) and (
            layer.bias is None or agrees(layer.bias, g.sum(dim=(0, 1)))
        )

    return tuple(
        replace(layer, positions=statistics[layer.name].inputs.shape[1])
        for layer in layers
        if is_explained(layer)
    )
