r"""The dense Hessian of networks whose parameters are those of linear layers.

With \(s_l = W_l a_l\) the output of layer l for one sample and \(g_l = \partial\ell/\partial s_l\),
the gradient is \(\nabla_{W_l}\ell = g_l a_l^\top\), and its derivative in the weights of layer m

.. math::

    \frac{\partial^2 \ell}{\partial W_{l,kq}\,\partial W_{m,ij}}
      = \frac{\partial g_{l,k}}{\partial s_{m,i}} a_{l,q} a_{m,j}
      + g_{l,k} \frac{\partial a_{l,q}}{\partial s_{m,i}} a_{m,j}
      + g_{m,i} \frac{\partial a_{m,j}}{\partial s_{l,k}} a_{l,q}.

The derivatives on the right are in the outputs of layers, of which there are far fewer than
parameters; what remains is one matrix product a pair of layers. A bias is a weight of the input 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.func import grad, vjp, vmap
from torch.nn.utils.parametrize import is_parametrized

from upweight.checks import batch_size
from upweight.trees import Tree
from upweight_torch.batches import losses_of_samples, sliced
from upweight_torch.functional import FunctionalModel, Parameters

Tensor = torch.Tensor
ByLayer = Mapping[str, Tensor]

#: Numbers in the products of inputs that are formed at a time.
PRODUCTS = 2**24


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


def dense_hessian(
    model: FunctionalModel,
    values: Parameters,
    parameters: list[LinearParameter],
    loss: Callable[[Any, Any], Tensor],
    x: Tree[Tensor],
    y: Tree[Tensor],
) -> Tensor | None:
    """Return the Hessian of the mean loss of a batch in the parameters, (p, p).

    Returns None where the formula does not hold: a layer is not used exactly once with one
    position a sample, or its weight has another use besides.
    """
    n = batch_size(x, y)
    layers = list(dict.fromkeys(parameter.layer for parameter in parameters))
    shapes = _shapes(model, values, layers, sliced(x, 0, 1))
    if shapes is None:
        return None
    widest = max(i for _, i in shapes.values())
    step = max(1, PRODUCTS // max(widest**2, sum(o for o, _ in shapes.values()) ** 2))
    hessian = 0
    for start in range(0, n, step):
        piece = sliced(x, start, start + step), sliced(y, start, start + step)
        statistics = _statistics(model, values, shapes, loss, *piece)
        if not _explains_gradient(model, values, parameters, statistics, loss, *piece):
            return None
        hessian = hessian + _assembled(statistics, parameters)
    return hessian / n


@dataclass(frozen=True)
class _Statistics:
    """First and second derivatives of the losses of n samples in the outputs of layers.

    Attributes:
        inputs: a, (n, i) by layer.
        gradients: g, (n, o) by layer.
        curvature: Derivatives of g of the first layer in outputs of the second, (n, o, o').
        influx: Derivatives of a of the first layer in outputs of the second, (n, i, o'), where
            they are not zero.
    """

    inputs: ByLayer
    gradients: ByLayer
    curvature: Mapping[tuple[str, str], Tensor]
    influx: Mapping[tuple[str, str], Tensor]

    def factors(self, parameter: LinearParameter) -> Tensor:
        """Return what the gradient of a layer output is multiplied with, (n, f)."""
        inputs = self.inputs[parameter.layer]
        return inputs.new_ones((len(inputs), 1)) if parameter.is_bias else inputs


def _shapes(
    model: FunctionalModel, values: Parameters, layers: list[str], x: Tree[Tensor]
) -> dict[str, tuple[int, int]] | None:
    """Return outputs and inputs (o, i) of each layer, or None if one is not used as it must be."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}

    def note(layer: str) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda inputs, output: seen[layer].append((output, inputs)) or output  # type: ignore[func-returns-value]  # append returns None

    with torch.no_grad():
        model.with_outputs_through({layer: note(layer) for layer in layers}, values, x)
    if any(len(uses) != 1 or uses[0][0].ndim != 2 for uses in seen.values()):
        return None
    return {
        layer: (output.shape[1], inputs.shape[1]) for layer, ((output, inputs),) in seen.items()
    }


def _statistics(
    model: FunctionalModel,
    values: Parameters,
    shapes: Mapping[str, tuple[int, int]],
    loss: Callable[[Any, Any], Tensor],
    x: Tree[Tensor],
    y: Tree[Tensor],
) -> _Statistics:
    n, some = batch_size(x, y), next(iter(values.values()))

    def layer_statistics(shifts: ByLayer) -> tuple[ByLayer, ByLayer]:
        def total(shifts: ByLayer) -> tuple[Tensor, ByLayer]:
            inputs: dict[str, Tensor] = {}

            def shift(layer: str) -> Callable[[Tensor, Tensor], Tensor]:
                def visit(entering: Tensor, output: Tensor) -> Tensor:
                    inputs[layer] = entering
                    return output + shifts[layer]

                return visit

            visits = {layer: shift(layer) for layer in shapes}
            output = model.with_outputs_through(visits, values, x)
            return losses_of_samples(loss, output, y).sum(), inputs

        return grad(total, has_aux=True)(shifts)

    zero = {layer: some.new_zeros((n, o)) for layer, (o, _) in shapes.items()}
    (gradients, inputs), pull = vjp(layer_statistics, zero)
    nothing = {layer: torch.zeros_like(g) for layer, g in gradients.items()}
    no_input = {layer: torch.zeros_like(a) for layer, a in inputs.items()}

    def of_gradient(layer: str, unit: Tensor) -> ByLayer:
        return pull(({**nothing, layer: unit.expand(n, -1)}, no_input))[0]

    def of_input(layer: str, unit: Tensor) -> ByLayer:
        return pull((nothing, {**no_input, layer: unit.expand(n, -1)}))[0]

    curvature, influx = {}, {}
    generator = torch.Generator().manual_seed(0)
    for layer, (o, i) in shapes.items():
        for other, value in vmap(lambda unit, at=layer: of_gradient(at, unit))(_units(o, some)).items():
            curvature[layer, other] = value.movedim(0, 1)
        probe = torch.randn(i, generator=generator, dtype=some.dtype).to(some.device)
        reached = {other for other, value in of_input(layer, probe).items() if bool(value.any())}
        if reached:
            pulled = vmap(lambda unit, at=layer: of_input(at, unit))(_units(i, some))
            for other in reached:
                influx[layer, other] = pulled[other].movedim(0, 1)
    return _Statistics(inputs, gradients, curvature, influx)


def _explains_gradient(
    model: FunctionalModel,
    values: Parameters,
    parameters: list[LinearParameter],
    statistics: _Statistics,
    loss: Callable[[Any, Any], Tensor],
    x: Tree[Tensor],
    y: Tree[Tensor],
) -> bool:
    """Return whether gᵀa is the whole gradient, which another use of a weight would add to."""
    free = {parameter.name: values[parameter.name] for parameter in parameters}
    truth = grad(
        lambda free: losses_of_samples(loss, model({**values, **free}, x), y).sum()
    )(free)
    for parameter, gradient in zip(parameters, truth.values(), strict=True):
        rebuilt = statistics.gradients[parameter.layer].T @ statistics.factors(parameter)
        error = torch.linalg.vector_norm(rebuilt.reshape_as(gradient) - gradient)
        if not error <= 1e-3 * torch.linalg.vector_norm(gradient) + 1e-6:
            return False
    return True


def _assembled(statistics: _Statistics, parameters: list[LinearParameter]) -> Tensor:
    """Return the sum of the Hessians of the samples, (p, p)."""
    p = parameters[-1].place.stop
    hessian = next(iter(statistics.inputs.values())).new_empty((p, p))
    for index, row in enumerate(parameters):
        for column in parameters[index:]:
            block = _block(statistics, row, column)
            hessian[row.place, column.place] = block
            hessian[column.place, row.place] = block.T
    return hessian


def _block(statistics: _Statistics, row: LinearParameter, column: LinearParameter) -> Tensor:
    left, right = statistics.factors(row), statistics.factors(column)
    curvature = statistics.curvature[row.layer, column.layer]
    block = _contract(curvature, _outer(left, right)).permute(0, 2, 1, 3)  # (o, i, o', i')
    through_left = statistics.influx.get((row.layer, column.layer))
    if through_left is not None and not row.is_bias:
        products = _outer(statistics.gradients[row.layer], right)
        block = block + _contract(products, through_left).permute(0, 2, 3, 1)
    through_right = statistics.influx.get((column.layer, row.layer))
    if through_right is not None and not column.is_bias:
        products = _outer(statistics.gradients[column.layer], left)
        block = block + _contract(products, through_right).permute(3, 1, 0, 2)
    return block.reshape(row.place.stop - row.place.start, -1)


def _outer(a: Tensor, b: Tensor) -> Tensor:
    """Return the products of each number in a (n, i) and each in b (n, j), (n, i, j)."""
    return a[:, :, None] * b[:, None, :]


def _contract(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum over samples of a (n, i, j) times b (n, k, l), (i, j, k, l)."""
    return (a.flatten(1).T @ b.flatten(1)).reshape(*a.shape[1:], *b.shape[1:])


def _units(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)
