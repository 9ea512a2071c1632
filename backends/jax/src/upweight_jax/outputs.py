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
from typing import Any

import jax
import jax.numpy as jnp

from upweight.errors import UnsupportedCurvatureError
from upweight.protocols import RandomRows
from upweight_jax.batches import Loss, flat_output, in_form_of, losses_of_samples
from upweight_jax.compiled import Problem
from upweight_jax.flat import Parameters
from upweight_jax.losses import binary_cross_entropy, cross_entropy, squared_error

Array = jax.Array


def outputs(problem: Problem, free: Parameters, fixed: Parameters, x: Any) -> Any:
    """Return the output of the model."""
    return problem.model({**fixed, **free}, x)


def output_hessians(problem: Problem, free: Parameters, fixed: Parameters, x: Any, y: Any) -> Array:
    """Return the Hessian of the loss of each sample in its output, (n, c, c)."""
    output = outputs(problem, free, fixed, x)
    flat = flat_output(output)

    def total(flat: Array) -> Array:
        return losses_of_samples(problem.loss, in_form_of(output, flat), y).sum()

    _, push = jax.linearize(jax.grad(total), flat)
    unit = jnp.eye(flat.shape[1], dtype=flat.dtype)
    columns = jax.vmap(lambda row: push(jnp.broadcast_to(row, flat.shape)))(unit)
    return jnp.moveaxis(columns, 0, 1)


def sampled_directions(loss: Loss, output: Any, y: Any, rng: RandomRows) -> Array:
    """Return gradients in the output for labels drawn from the prediction, (n, c).

    Args:
        loss: One of `upweight_jax.losses`.
        output: The output of the model, one array with n samples.
        y: The labels, of which only the form matters.
        rng: Where randomness comes from, the same for any division into batches.

    Raises:
        UnsupportedCurvatureError: the loss is another one.
    """
    if isinstance(output, jax.Array) and isinstance(y, jax.Array):
        if loss is cross_entropy and not jnp.issubdtype(y.dtype, jnp.floating):
            return _categorical(output, rng)
        flat = output.reshape(len(output), -1)
        if loss is squared_error and output.shape == y.shape:
            noise = jnp.asarray(rng.standard_normal(flat.shape), flat.dtype)
            return noise * math.sqrt(2 / flat.shape[1])
        if loss is binary_cross_entropy and output.shape == y.shape:
            p = jax.nn.sigmoid(flat)
            drawn = jnp.asarray(rng.random(flat.shape), flat.dtype) < p
            return (p - drawn) / math.sqrt(flat.shape[1])
    raise UnsupportedCurvatureError(
        "Labels can be drawn for cross_entropy, squared_error and binary_cross_entropy of "
        f"upweight_jax, on an output that is one array; got the loss {loss!r}. Use the exact "
        "Fisher instead."
    )


def _categorical(output: Array, rng: RandomRows) -> Array:
    """Draw a class at each position of logits (n, *positions, c)."""
    n, c = output.shape[0], output.shape[-1]
    p = jax.nn.softmax(output.reshape(n, -1, c), axis=-1)  # (n, t, c)
    uniform = jnp.asarray(rng.random(p.shape[:2]), p.dtype)
    # Rounding may leave the sum of all probabilities below the number drawn.
    classes = (p.cumsum(axis=-1) < uniform[:, :, None]).sum(axis=-1).clip(max=c - 1)
    drawn = jax.nn.one_hot(classes, c, dtype=p.dtype)
    return ((p - drawn) / math.sqrt(p.shape[1])).reshape(n, -1)
