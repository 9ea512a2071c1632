r"""The derivatives of a model and its loss, as pure functions that are compiled as they stand.

One idea serves all but the gradients of single samples: a function of θ is linearised once, and
every row is pushed through the linear map. The functions are the losses for inner products, the
gradient in θ for Hessian products, and the gradient in x for input gradients.

The parameters come in two dictionaries: `free` are those that derivatives are taken in, `fixed` are
the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from upweight.trees import map_leaves
from upweight_jax.batches import (
    flat_output,
    in_form_of,
    loss_of_batch,
    losses_of_samples,
    with_sample_axis,
)
from upweight_jax.compiled import Problem
from upweight_jax.flat import Parameters, flatten, unflatten

Array = jax.Array


def losses(
    problem: Problem, free: Parameters, fixed: Parameters, x: Any, y: Any
) -> tuple[Array, Array]:
    """Return the loss of each sample (n,), and that of the batch."""
    output = problem.model({**fixed, **free}, x)
    n = jax.tree.leaves(x)[0].shape[0]
    of_batch = loss_of_batch(problem.loss, output, y, n)
    return losses_of_samples(problem.loss, output, y), of_batch


def gradients(
    problem: Problem,
    free: Parameters,
    fixed: Parameters,
    x: Any,
    y: Any,
    *,
    at_once: int,
) -> Array:
    """Return the gradient of the loss of each sample, (n, p), so many samples at once."""

    def gradient(sample: Any) -> Array:
        one = with_sample_axis(sample)
        return flatten(jax.grad(lambda free: problem.losses({**fixed, **free}, *one).sum())(free))

    return _mapped(gradient, (x, y), at_once)


def inner_products(
    problem: Problem,
    free: Parameters,
    fixed: Parameters,
    x: Any,
    y: Any,
    rows: Array,
    count: Array,
    *,
    at_once: int,
) -> Array:
    """Return ⟨row, gradient of sample⟩ for each pair, (k, n)."""
    _, push = jax.linearize(lambda free: problem.losses({**fixed, **free}, x, y), free)
    return _for_rows(push, free, rows, count, at_once)


def hessian_products(
    problem: Problem,
    free: Parameters,
    fixed: Parameters,
    x: Any,
    y: Any,
    rows: Array,
    count: Array,
    *,
    at_once: int,
) -> Array:
    """Return the Hessian of the mean loss times each row, (k, p)."""
    mean_gradient = jax.grad(lambda free: problem.losses({**fixed, **free}, x, y).mean())
    _, push = jax.linearize(mean_gradient, free)
    return _for_rows(lambda row: flatten(push(row)), free, rows, count, at_once)


def gauss_newton_products(
    problem: Problem,
    free: Parameters,
    fixed: Parameters,
    x: Any,
    y: Any,
    rows: Array,
    count: Array,
    *,
    at_once: int,
) -> Array:
    """Return the Gauss-Newton matrix of the mean loss times each row, (k, p)."""

    def forward(free: Parameters) -> tuple[Array, Any]:
        output = problem.model({**fixed, **free}, x)
        return flat_output(output), output

    def mean_loss(flat: Array) -> Array:
        return losses_of_samples(problem.loss, in_form_of(output, flat), y).mean()

    flat, push, output = jax.linearize(forward, free, has_aux=True)
    _, pull, _ = jax.vjp(forward, free, has_aux=True)
    _, curve = jax.linearize(jax.grad(mean_loss), flat)
    return _for_rows(lambda row: flatten(pull(curve(push(row)))[0]), free, rows, count, at_once)


def input_gradients(
    problem: Problem,
    free: Parameters,
    fixed: Parameters,
    x: Any,
    y: Any,
    rows: Array,
    count: Array,
    *,
    at_once: int,
) -> Array:
    """Return ∇x ⟨row, ∇θ loss⟩ for each pair, (k, n, *x), x being the floating-point input."""
    varied = next(leaf for leaf in jax.tree.leaves(x) if jnp.issubdtype(leaf.dtype, jnp.floating))

    def in_x(free: Parameters) -> Array:
        def total(value: Array) -> Array:
            moved = map_leaves(lambda leaf: value if leaf is varied else leaf, x)
            return problem.losses({**fixed, **free}, moved, y).sum()

        gradient: Array = jax.grad(total)(varied)
        return gradient

    _, push = jax.linearize(in_x, free)
    return _for_rows(push, free, rows, count, at_once)


def output_gradients(
    problem: Problem,
    free: Parameters,
    fixed: Parameters,
    x: Any,
    directions: Array,
    *,
    at_once: int,
) -> Array:
    """Return Jᵀu for each sample and direction (d, n, c), (d, n, p)."""

    def pulled_back(sample: Any) -> Array:
        x, rows = sample

        def output(free: Parameters) -> Array:
            return flat_output(problem.model({**fixed, **free}, with_sample_axis(x)))[0]

        _, pull = jax.vjp(output, free)
        return jax.vmap(lambda row: flatten(pull(row)[0]))(rows)

    pulled = _mapped(pulled_back, (x, jnp.moveaxis(directions, 0, 1)), at_once)
    return jnp.moveaxis(pulled, 1, 0)


def _mapped(function: Callable[[Any], Array], samples: Any, at_once: int) -> Array:
    """Map a function over samples, so many at once."""
    n = jax.tree.leaves(samples)[0].shape[0]
    whole = n <= at_once
    mapped: Array = (
        jax.vmap(function)(samples) if whole else lax.map(function, samples, batch_size=at_once)
    )
    return mapped


def _for_rows(
    function: Callable[[Any], Array], free: Parameters, rows: Array, count: Array, at_once: int
) -> Array:
    """Map a function over the first `count` of the rows, so many at once; the rest gives zeros.

    The number of rows changes from call to call, so it is no part of what is compiled.
    """

    def of_chunk(chunk: Array) -> Array:
        mapped: Array = jax.vmap(lambda row: function(unflatten(row, free)))(chunk)
        return mapped

    if len(rows) <= at_once:
        return of_chunk(rows)
    chunks = rows.reshape(-1, at_once, rows.shape[1])
    form = jax.eval_shape(of_chunk, chunks[0])
    empty = jnp.zeros((len(chunks), *form.shape), form.dtype)

    def add(index: Array, results: Array) -> Array:
        updated: Array = lax.dynamic_update_index_in_dim(results, of_chunk(chunks[index]), index, 0)
        return updated

    filled: Array = lax.fori_loop(0, -(-count // at_once), add, empty)
    joined: Array = filled.reshape(len(rows), *form.shape[1:])
    return joined
