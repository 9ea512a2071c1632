r"""Inputs and output gradients of layers, by one backward pass that forms no gradient of a weight.

With \(s = W a + b\) the output of a layer at one position, \(\nabla_W \ell = \sum_t g_t a_t^\top\)
and \(\nabla_b \ell = \sum_t g_t\), where \(g = \partial \ell / \partial s\). A zero is added to the
output of each layer, and gradients are taken in it. The model is traced for one sample, and what is
made of the trace is mapped over samples, so that every axis of an input is one of positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from upweight_jax.batches import flat_output, in_form_of, losses_of_samples, with_sample_axis
from upweight_jax.compiled import CompiledProblem, Problem
from upweight_jax.flat import Parameters
from upweight_jax.interpreter import Evaluation, Product

Array = jax.Array

#: How far gradients rebuilt from layers may be from the true ones, relative to these.
GRADIENT_RTOL = 1e-3


@dataclass(frozen=True)
class Layer:
    """A trainable weight, maybe with a bias; `transposed` if the weight is stored as (i, o)."""

    name: str
    weight: str
    bias: str | None
    transposed: bool


def layer_statistics(
    problem: Problem,
    free: Parameters,
    fixed: Parameters,
    x: Any,
    y: Any,
    directions: Array | None,
    *,
    layers: tuple[Layer, ...],
) -> dict[str, tuple[Array, Array]]:
    """Return inputs of layers (n, t, i) and gradients in their outputs (d, n, t, o), by layer.

    Args:
        problem: The model and its loss.
        free: The parameters that gradients are taken in.
        fixed: The other parameters.
        x: Inputs of n samples.
        y: Their labels.
        directions: What to pull back from the outputs of the model, (d, n, c); by default the
            gradient of the loss.
        layers: The layers, as `covered_layers` found them.
    """
    values = {**fixed, **free}

    def of_sample(x: Any, y: Any, rows: Array | None) -> tuple[list[Array], list[Array]]:
        def shifted(shifts: list[Array]) -> tuple[Array, Any]:
            output, seen = _evaluated(problem, values, layers, x, shifts)
            return flat_output(output)[0], (output, [product.inputs for product in seen.products])

        def loss(flat: Array) -> Array:
            of_one = in_form_of(output, flat[None])
            return losses_of_samples(problem.loss, of_one, with_sample_axis(y)).sum()

        products = _products(problem, values, layers, x)
        zeros = [jnp.zeros(product.shape, product.inputs.dtype) for product in products]
        flat, pull, (output, inputs) = jax.vjp(shifted, zeros, has_aux=True)
        rows = jax.grad(loss)(flat)[None] if rows is None else rows.astype(flat.dtype)
        gradients = jax.vmap(lambda row: pull(row)[0])(rows)
        of_layer = [
            [place for place, product in enumerate(products) if product.weight == layer.weight]
            for layer in layers
        ]
        return (
            [jnp.concatenate([inputs[place] for place in places]) for places in of_layer],
            [jnp.concatenate([gradients[place] for place in places], 1) for places in of_layer],
        )

    mapped = jax.vmap(of_sample, in_axes=(0, 0, 1), out_axes=(0, 1))
    inputs, gradients = mapped(x, y, directions)
    dtypes = [values[layer.weight].dtype for layer in layers]
    return {
        layer.name: (a.astype(dtype), g.astype(dtype))
        for layer, a, g, dtype in zip(layers, inputs, gradients, dtypes, strict=True)
    }


def covered_layers(
    compiled: CompiledProblem, free: Parameters, fixed: Parameters, x: Any
) -> tuple[Layer, ...]:
    """Return the layers from whose statistics the gradients of the samples can be rebuilt.

    Left out are weights with another use besides (an embedding, a penalty, a loop), and those that
    are not used at all. A bias with another use stays outside of its layer.

    Args:
        compiled: The model and its loss.
        free: The parameters that gradients are taken in.
        fixed: The other parameters.
        x: Some inputs to try this on.
    """
    found = _candidates(compiled.problem, free, fixed, x)
    if not found:
        return ()
    few = jax.tree.map(lambda leaf: leaf[np.arange(2) % len(leaf)], x)  # twice the same will do
    rng = np.random.default_rng(0)
    form = jax.eval_shape(
        lambda values, x: flat_output(compiled.problem.model(values, x)), {**fixed, **free}, few
    )
    directions = rng.standard_normal(form.shape).astype(form.dtype)
    weights = (0.5 + rng.random((2, 1))).astype(form.dtype)
    errors = compiled.run(_errors, free, fixed, few, directions, weights, layers=found)
    scale = max(float(norm) for _, norm in errors.values())
    floor = float(np.finfo(form.dtype).eps) ** 0.5 * scale

    def agrees(name: str) -> bool:
        error, norm = map(float, errors[name])
        return bool(error <= GRADIENT_RTOL * norm + floor)

    return tuple(
        Layer(
            layer.name,
            layer.weight,
            layer.bias if layer.bias and agrees(layer.bias) else None,
            layer.transposed,
        )
        for layer in found
        if agrees(layer.weight)
    )


def _candidates(problem: Problem, free: Parameters, fixed: Parameters, x: Any) -> tuple[Layer, ...]:
    """Return the layers that a trace shows, one for each weight."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x)
    seen: Evaluation | None = None

    def note(values: Mapping[str, Array], x: Any) -> None:
        nonlocal seen
        _, seen = _evaluated(problem, values, list(free), x, None)

    jax.eval_shape(note, {**fixed, **free}, one)
    assert seen is not None
    uses: dict[str, set[tuple[bool, str | None]]] = {}
    for place, product in enumerate(seen.products):
        use = (product.transposed, seen.biases.get(place))
        uses.setdefault(product.weight, set()).add(use)
    owners = [bias for found in uses.values() for bias in {bias for _, bias in found}]
    names = _layer_names(list(uses))
    layers = []
    for weight, found in uses.items():
        transposed, biases = {t for t, _ in found}, {bias for _, bias in found}
        bias = biases.pop() if len(biases) == 1 else None
        if bias in seen.spoiled or bias in uses or owners.count(bias) > 1:
            bias = None
        if weight not in seen.spoiled and weight not in owners and len(transposed) == 1:
            layers.append(Layer(names[weight], weight, bias, transposed.pop()))
    return tuple(layers)


def _layer_names(weights: Sequence[str]) -> dict[str, str]:
    """Return the path of the parent of each weight, or of itself where several share a parent."""
    parents = [weight.rpartition(".")[0] or "root" for weight in weights]
    return {
        weight: parent if parents.count(parent) == 1 else weight
        for weight, parent in zip(weights, parents, strict=True)
    }


def _evaluated(
    problem: Problem,
    values: Mapping[str, Array],
    followed: Sequence[Layer] | Sequence[str],
    x: Any,
    shifts: Sequence[Array] | None,
) -> tuple[Any, Evaluation]:
    """Return the output of the model for a batch of one sample, and what was seen on the way."""
    one = with_sample_axis(x)
    ordered = tuple(values.values())

    def model(ordered: Sequence[Array], x: Any) -> Any:
        return problem.model(dict(zip(values, ordered, strict=True)), x)

    traced, form = jax.make_jaxpr(model, return_shape=True)(ordered, one)
    weights = [each.weight if isinstance(each, Layer) else each for each in followed]
    seen = Evaluation({name: values[name].size for name in weights}, shifts)
    outputs = seen.run(traced, list(values), [*ordered, *jax.tree.leaves(one)])
    return jax.tree.unflatten(jax.tree.structure(form), outputs), seen


def _products(
    problem: Problem, values: Mapping[str, Array], layers: Sequence[Layer], x: Any
) -> list[Product]:
    """Return the products of layers by their shapes, without computing them."""
    seen: list[Product] = []

    def note(values: Mapping[str, Array], x: Any) -> None:
        seen.extend(_evaluated(problem, values, layers, x, None)[1].products)

    jax.eval_shape(note, dict(values), x)
    return seen


def _errors(
    problem: Problem,
    free: Parameters,
    fixed: Parameters,
    x: Any,
    directions: Array,
    weights: Array,
    *,
    layers: tuple[Layer, ...],
) -> dict[str, tuple[Array, Array]]:
    """Return how far the gradient of a function of the outputs is rebuilt, and its norm, by name.

    The samples have weights (n, 1), so that what belongs to one is not taken for another's.
    """

    def function(free: Parameters) -> Array:
        return (weights * directions * flat_output(problem.model({**fixed, **free}, x))).sum()

    truth = jax.grad(function)(free)
    statistics = layer_statistics(problem, free, fixed, x, x, directions[None], layers=layers)
    errors = {}
    for layer in layers:
        a, (g,) = statistics[layer.name]
        g = g * weights[:, :, None]
        weight = jnp.einsum("nto,nti->oi", g, a)
        rebuilt = {layer.weight: weight.T if layer.transposed else weight}
        if layer.bias:
            rebuilt[layer.bias] = g.sum((0, 1))
        for name, value in rebuilt.items():
            error = jnp.linalg.norm(value.ravel() - truth[name].ravel())
            errors[name] = error, jnp.linalg.norm(truth[name].ravel())
    return errors
