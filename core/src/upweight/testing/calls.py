"""Every derivative that a backend claims, called in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

from upweight.testing.problem import Problem

#: Called with an objective, rows and a batch.
Call = Callable[[Any, Any, Any], Any]


def calls(problem: Problem) -> dict[str, Call]:
    """Return the derivatives of an objective by name; what holds several arrays gives the first."""
    every: dict[str, Call] = {
        "losses": lambda objective, _, batch: objective.losses(batch),
        "gradients": lambda objective, _, batch: objective.gradients(batch),
        "inner_products": lambda objective, rows, batch: objective.inner_products(rows, batch),
        "hessian_product": lambda objective, rows, batch: objective.hessian_product(rows, batch),
        "input_gradients": lambda objective, rows, batch: objective.input_gradients(rows, batch),
    }
    if problem.claims("SupportsGaussNewton"):
        every["gauss_newton_product"] = lambda objective, rows, batch: (
            objective.gauss_newton_product(rows, batch)
        )
    if problem.claims("SupportsDenseHessian"):
        every["hessian"] = lambda objective, _, batch: objective.hessian(batch)
    if problem.claims("SupportsLinearisedProducts"):
        every["hessian_products"] = lambda objective, rows, batch: objective.hessian_products(
            batch
        )(rows)
    if problem.claims("SupportsOutputGradients"):
        every["output_gradients"] = _output_gradients
    if problem.claims("SupportsLayers"):
        every["layers"] = _gradients_of_a_layer
        every["output_hessians"] = lambda objective, _, batch: objective.output_hessians(batch)
    return every


def _output_gradients(objective: Any, _: Any, batch: Any) -> Any:
    # A loss (n,) for each of three outputs is as good a direction as any.
    losses = objective.losses(batch)
    xp = array_namespace(losses)
    return objective.output_gradients(batch, xp.stack([losses] * 3, axis=1)[None, ...])


def _gradients_of_a_layer(objective: Any, _: Any, batch: Any) -> Any:
    return next(iter(objective.layers(batch).values())).gradients
