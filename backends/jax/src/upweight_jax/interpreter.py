"""Evaluation of a traced model while products with its weights are seen and shifted.

A model is a list of equations, however it was written. Where a weight is multiplied with
something, that something is an input of a layer, and what is added to the result shifts its output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from upweight_jax.forms import MOVES, Indices, form_of

Array = jax.Array

#: Equations that call others, which are evaluated in their place if a parameter goes in.
CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}
CALLS |= {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}


@dataclass(frozen=True)
class Entries:
    """A value is made of entries of a parameter, which are these."""

    parameter: str
    index: Indices


@dataclass(frozen=True)
class Outputs:
    """A value is the result of a product, and its numbers are these outputs."""

    product: int
    index: Indices


@dataclass(frozen=True)
class Product:
    """One use of a weight: its inputs (t, i) and the shape of its outputs (t, o)."""

    weight: str
    transposed: bool
    inputs: Array
    shape: tuple[int, int]


Marked = tuple[Any, Entries | Outputs | None]


class Evaluation:
    """One evaluation of a traced model.

    Args:
        sizes: Number of entries of each parameter that is followed, by name.
        shifts: What to add to the outputs of products (t, o), in their order; by default nothing.

    Attributes:
        products: The products with parameters that are followed, in their order.
        biases: What is added to the result of a product alone, by its place in `products`.
        spoiled: Parameters with another use.
    """

    def __init__(self, sizes: Mapping[str, int], shifts: Sequence[Array] | None = None) -> None:
        self.products: list[Product] = []
        self.biases: dict[int, str] = {}
        self.spoiled: set[str] = set()
        self._sizes = sizes
        self._shifts: Iterator[Array] | None = None if shifts is None else iter(shifts)

    def run(self, traced: ClosedJaxpr, names: Sequence[str], values: Sequence[Any]) -> list[Any]:
        """Return the outputs.

        Args:
            traced: The model.
            names: Names of its first inputs, the parameters.
            values: All inputs.
        """
        marked: list[Marked] = [(value, None) for value in values]
        for place, name in enumerate(names):
            if name in self._sizes:
                index = np.arange(values[place].size).reshape(values[place].shape)
                marked[place] = (values[place], Entries(name, index))
        results = self._call(traced.jaxpr, traced.consts, marked)
        self._spoil(results)
        return [value for value, _ in results]

    def _call(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Marked]) -> list[Marked]:
        known: dict[Any, Marked] = dict(zip(jaxpr.invars, args, strict=True))
        known.update(
            (var, (value, None)) for var, value in zip(jaxpr.constvars, consts, strict=True)
        )

        def read(var: Any) -> Marked:
            return (var.val, None) if isinstance(var, Literal) else known[var]

        for equation in jaxpr.eqns:
            results = self._equation(equation, [read(var) for var in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return [read(var) for var in jaxpr.outvars]

    def _equation(self, equation: Any, args: Sequence[Marked]) -> list[Marked]:
        name, marks = equation.primitive.name, [mark for _, mark in args]
        if name in MOVES and marks[0] is not None:
            (value,) = _evaluated(equation, args)
            return [(value, _moved(marks[0], equation))]
        places = [place for place, mark in enumerate(marks) if isinstance(mark, Entries)]
        if not places:
            return [(value, None) for value in _evaluated(equation, args)]
        if name in CALLS:
            return self._inlined(equation, args)
        if len(places) == 1:
            found = self._product(equation, args, places[0])
            if found is not None:
                return [found]
        if name == "add" and self._is_bias(*marks):
            return [(value, None) for value in _evaluated(equation, args)]
        self._spoil(args)
        return [(value, None) for value in _evaluated(equation, args)]

    def _inlined(self, equation: Any, args: Sequence[Marked]) -> list[Marked]:
        inner = next(v for v in equation.params.values() if isinstance(v, Jaxpr | ClosedJaxpr))
        if isinstance(inner, ClosedJaxpr):
            return self._call(inner.jaxpr, inner.consts, args)
        return self._call(inner, (), args)

    def _product(self, equation: Any, args: Sequence[Marked], place: int) -> Marked | None:
        """Evaluate a product with a weight, and add the shift to its result."""
        mark = args[place][1]
        assert isinstance(mark, Entries)
        form = form_of(equation, place, mark.index, self._sizes[mark.parameter])
        if form is None:
            return None
        (value,) = _evaluated(equation, args)
        inputs = form.positions(jnp.asarray(args[1 - place][0]))
        shape = (inputs.shape[0], form.n_outputs)
        if self._shifts is not None:
            value = value + form.spread(next(self._shifts)).astype(value.dtype)
        self.products.append(Product(mark.parameter, form.transposed, inputs, shape))
        return value, Outputs(len(self.products) - 1, form.outputs)

    def _is_bias(self, *marks: Entries | Outputs | None) -> bool:
        """Note that a parameter is the bias of a layer, if its entries are one an output."""
        bias = next(mark for mark in marks if isinstance(mark, Entries))
        product = next((mark for mark in marks if isinstance(mark, Outputs)), None)
        if product is None or not _broadcasts(bias.index.shape, product.index.shape):
            return False
        if not np.all(bias.index == product.index):
            return False
        if self._sizes[bias.parameter] != self.products[product.product].shape[1]:
            return False
        self.biases[product.product] = bias.parameter
        return True

    def _spoil(self, values: Sequence[Marked]) -> None:
        self.spoiled |= {mark.parameter for _, mark in values if isinstance(mark, Entries)}


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    return len(shape) == len(to) and all(a in (1, b) for a, b in zip(shape, to, strict=True))


def _evaluated(equation: Any, args: Sequence[Marked]) -> list[Any]:
    bound = equation.primitive.get_bind_params(equation.params)
    # Before JAX 0.8 the functions that a call takes came apart from its options.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    with equation.ctx.manager:
        result = equation.primitive.bind(*functions, *(value for value, _ in args), **params)
    return list(result) if equation.primitive.multiple_results else [result]


def _moved(mark: Entries | Outputs, equation: Any) -> Entries | Outputs:
    index = MOVES[equation.primitive.name](mark.index, equation.params)
    if isinstance(mark, Entries):
        return Entries(mark.parameter, index)
    return Outputs(mark.product, index)
