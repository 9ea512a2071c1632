r"""Losses whose predictive distribution is known, so that EK-FAC can draw labels for them.

Each is the mean over all numbers or positions of a batch, like the losses of PyTorch. Any other
function `loss(output, y)` that is a mean over samples will do as well; EK-FAC then takes the exact
form of the curvature.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    r"""Return the mean of \(-\log \mathrm{softmax}(z)_y\).

    Args:
        logits: z, the classes on the last axis, (n, ..., c).
        labels: y, integers, (n, ...).
    """
    log_p = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.take_along_axis(log_p, labels[..., None], axis=-1).mean()


def squared_error(output: jax.Array, y: jax.Array) -> jax.Array:
    """Return the mean of the squared differences.

    Args:
        output: Predictions, (n, ...).
        y: Targets of the same shape.
    """
    return jnp.square(output - y).mean()


def binary_cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    r"""Return the mean of \(-y \log \sigma(z) - (1 - y) \log(1 - \sigma(z))\).

    Args:
        logits: z, (n, ...).
        y: Probabilities or labels 0 and 1, of the same shape.
    """
    return (jax.nn.softplus(logits) - logits * y).mean()
