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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.func import grad, vjp, vmap

from upweight.checks import batch_size
from upweight.trees import Tree
from upweight_torch.batches import losses_of_samples, sliced
from upweight_torch.flat import Parameters
from upweight_torch.functional import FunctionalModel
from upweight_torch.linear import LinearParameter, layer_shapes

Tensor = torch.Tensor
ByLayer = Mapping[str, Tensor]

#: Numbers in the products of inputs that are formed at a time.
PRODUCTS = 2**24


def dense_hessian(
    model: FunctionalModel,
    values: Parameters,
    parameters: list[LinearParameter],
    loss: Callable[[Any, Any], Tensor],
    x: Tree[Tensor],
    y: Tree[Tensor],
) -> Tensor | None:
    """Return the Hessian of the mean loss of a batch in the parameters, (p, p).

    Returns None where a layer is not used exactly once with one position a sample. The formula also
    assumes that a weight has no other use besides its layer, which is not checked here.
    """
    n = batch_size(x, y)
    layers = list(dict.fromkeys(parameter.layer for parameter in parameters))
    shapes = layer_shapes(model, values, layers, sliced(x, 0, 1))
    if shapes is None:
        return None
    widest = max(i for _, i in shapes.values())
    step = max(1, PRODUCTS // max(widest**2, sum(o for o, _ in shapes.values()) ** 2))
    total = next(iter(values.values())).new_zeros(())
    for start in range(0, n, step):
        piece = sliced(x, start, start + step), sliced(y, start, start + step)
        network = _ShiftedNetwork(model, values, loss, *piece)
        statistics = _statistics(network, network.no_shifts(shapes))
        total = total + _assembled(statistics, parameters)
    return total / n


@dataclass(frozen=True)
class _ShiftedNetwork:
    """The losses of samples as a function of shifts added to the outputs of layers."""

    model: FunctionalModel
    values: Parameters
    loss: Callable[[Any, Any], Tensor]
    x: Tree[Tensor]
    y: Tree[Tensor]

    def __call__(self, shifts: ByLayer) -> tuple[Tensor, ByLayer]:
        """Return the sum of the losses, and the inputs of the layers."""
        inputs: dict[str, Tensor] = {}

        def shifting(layer: str) -> Callable[[Tensor, Tensor], Tensor]:
            def visit(entering: Tensor, output: Tensor) -> Tensor:
                inputs[layer] = entering
                return output + shifts[layer]

            return visit

        visits = {layer: shifting(layer) for layer in shifts}
        output = self.model.with_outputs_through(visits, self.values, self.x)
        return losses_of_samples(self.loss, output, self.y).sum(), inputs

    def no_shifts(self, shapes: Mapping[str, tuple[int, int]]) -> ByLayer:
        """Return zero for each output of each layer and sample."""
        n, some = batch_size(self.x, self.y), next(iter(self.values.values()))
        return {layer: some.new_zeros((n, o)) for layer, (o, _) in shapes.items()}


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


def _statistics(run: Callable[[ByLayer], tuple[Tensor, ByLayer]], zero: ByLayer) -> _Statistics:
    """Differentiate the losses of n samples twice in shifts of the outputs of layers.

    Args:
        run: Returns the sum of the losses, and the inputs of all layers, for given shifts (n, o).
        zero: The shifts to differentiate at.
    """

    def first_order(shifts: ByLayer) -> tuple[ByLayer, ByLayer]:
        gradients, inputs = grad(run, has_aux=True)(shifts)
        return gradients, inputs

    (gradients, inputs), pull, *_ = vjp(first_order, zero)
    no_gradients = {layer: torch.zeros_like(g) for layer, g in gradients.items()}
    no_inputs = {layer: torch.zeros_like(a) for layer, a in inputs.items()}

    def of_gradient(layer: str, unit: Tensor) -> dict[str, Tensor]:
        pulled: dict[str, Tensor]
        weights = unit.expand_as(no_gradients[layer])
        (pulled,) = pull(({**no_gradients, layer: weights}, no_inputs))
        return pulled

    def of_input(layer: str, unit: Tensor) -> dict[str, Tensor]:
        pulled: dict[str, Tensor]
        weights = unit.expand_as(no_inputs[layer])
        (pulled,) = pull((no_gradients, {**no_inputs, layer: weights}))
        return pulled

    curvature, influx = {}, {}
    for layer, a in inputs.items():
        units = _units(gradients[layer])
        for other, value in vmap(partial(of_gradient, layer))(units).items():
            curvature[layer, other] = value.movedim(0, 1)
        reached = {other for other, v in of_input(layer, _random_like(a[0])).items() if v.any()}
        pulled = vmap(partial(of_input, layer))(_units(a)) if reached else {}
        influx.update({(layer, other): pulled[other].movedim(0, 1) for other in reached})
    return _Statistics(inputs, gradients, curvature, influx)


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


def _units(like: Tensor) -> Tensor:
    """Return the unit vectors of the space of the rows of `like`."""
    return torch.eye(like.shape[1], dtype=like.dtype, device=like.device)


def _random_like(vector: Tensor) -> Tensor:
    """Return the same random vector whenever it is asked for, without global random state."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(vector.shape, generator=generator, dtype=vector.dtype).to(vector.device)
