"""Models of every kind as pure functions of named parameters and inputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from upweight.errors import ModelError
from upweight.trees import Tree
from upweight_jax.flat import Parameters
from upweight_jax.kinds import kind_of
from upweight_jax.precision import ENABLE_X64, loses_precision

#: Which parameters influences are taken over: names of parameters or of layers, or a predicate.
Trainable: TypeAlias = Sequence[str] | Callable[[str], bool]


@dataclass(frozen=True)
class JaxModel:
    """A pure function and its parameters.

    Attributes:
        apply: Called as `apply(params, x)` with a batch, `apply(params, *x)` if x is a tuple and
            `apply(params, **x)` if it is a mapping; the samples are the first axis of every array
            that goes in and comes out.
        params: A pytree; its floating-point arrays are the parameters. A parameter is named by its
            path, as in "encoder.0.kernel", and parameters of one layer are those that share all but
            the last part of it.
    """

    apply: Callable[..., Any]
    params: Any


class FunctionalModel:
    """A snapshot of a model of any kind.

    Args:
        model: A `JaxModel`, an Equinox module, a Flax nnx module, or a pair of a Flax linen module
            and its variables. Equinox modules are called with one sample, all others with a batch.
            Equinox and nnx modules are put into inference mode.

    Raises:
        TypeError: this is no model of these kinds.
        ModelError: a parameter is float64, and JAX is set to single precision.
    """

    def __init__(self, model: object) -> None:
        self._call, tree, rest = _opened(model)
        self.values: Parameters = OrderedDict()
        self.constants: Parameters = OrderedDict()

        def emptied(path: tuple[Any, ...], leaf: Any) -> Any:
            if not _is_floating(leaf):
                return leaf
            name = _name(path)
            if loses_precision(leaf.dtype):
                raise ModelError(f"The parameter {name!r} is float64. {ENABLE_X64}")
            self.values[name] = jnp.array(leaf)
            return _Place(name)

        def set_aside(leaf: Any) -> Any:
            if not isinstance(leaf, jax.Array | np.ndarray):
                return leaf
            name = f"constant {len(self.constants)}"  # no name in Flax has a space
            self.constants[name] = jnp.array(leaf)
            return _Place(name)

        self._template = (
            jax.tree_util.tree_map_with_path(emptied, tree),
            jax.tree.map(set_aside, rest),
        )
        self._double = any(value.dtype == np.float64 for value in self.values.values())

    def __call__(self, values: Mapping[str, jax.Array], x: Tree[jax.Array]) -> Any:
        """Return the output of the model for a batch of inputs, given values and constants."""
        params, rest = jax.tree.map(
            lambda leaf: values[leaf.name] if isinstance(leaf, _Place) else leaf, self._template
        )
        if isinstance(x, Mapping):
            return self._call(params, rest, **x)
        return self._call(params, rest, *(x if isinstance(x, tuple | list) else (x,)))

    @property
    def function(self) -> tuple[object, ...]:
        """What is equal for models that are the same function of their values, maybe unhashable."""
        leaves, structure = jax.tree.flatten(self._template)
        return self._call, structure, *((type(leaf), leaf) for leaf in leaves)

    def without_values(self) -> FunctionalModel:
        """Return the same function, which keeps no values alive."""
        bare = copy(self)
        bare.values, bare.constants = OrderedDict(), OrderedDict()
        return bare

    def selected(self, trainable: Trainable | None) -> Parameters:
        """Return the parameters that influences are taken over.

        Raises:
            ValueError: a name is that of no parameter or layer.
        """
        if trainable is None:
            return OrderedDict(self.values)
        if callable(trainable):
            return self._only(trainable)
        asked = [trainable] if isinstance(trainable, str) else list(trainable)
        chosen = {a: [n for n in self.values if n == a or n.startswith(f"{a}.")] for a in asked}
        unknown = [name for name, parameters in chosen.items() if not parameters]
        if unknown:
            raise ValueError(
                f"`trainable` names no parameters or layers {unknown}; there are "
                f"{list(self.values)}."
            )
        names = {name for parameters in chosen.values() for name in parameters}
        return self._only(names.__contains__)

    def _only(self, chosen: Callable[[str], bool]) -> Parameters:
        return OrderedDict((name, value) for name, value in self.values.items() if chosen(name))

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["_double"] and loses_precision(np.dtype(np.float64)):
            raise ModelError(
                f"A float64 model was sent to a process that works in float32. {ENABLE_X64}"
            )
        self.__dict__.update(state)


@dataclass(frozen=True)
class _Place:
    """Where a parameter goes in the pytree of a model."""

    name: str


@dataclass(frozen=True)
class _Plain:
    """The call of a `JaxModel`."""

    apply: Callable[..., Any]

    def __call__(self, params: Any, _: Any, *args: Any, **kwargs: Any) -> Any:
        return self.apply(params, *args, **kwargs)


@dataclass(frozen=True)
class _PerSample:
    """The call of an Equinox module, which takes one sample."""

    def __call__(self, module: Any, _: Any, *args: Any, **kwargs: Any) -> Any:
        return jax.vmap(module)(*args, **kwargs)


@dataclass(frozen=True)
class _Merged:
    """The call of an nnx module, from its parameters and the rest of its state."""

    graph: Any

    def __call__(self, params: Any, rest: Any, *args: Any, **kwargs: Any) -> Any:
        from flax import nnx

        return nnx.merge(self.graph, params, *rest)(*args, **kwargs)


@dataclass(frozen=True)
class _Applied:
    """The call of a linen module, from its parameters and its other collections."""

    module: Any

    def __call__(self, params: Any, rest: Any, *args: Any, **kwargs: Any) -> Any:
        return self.module.apply({**rest, "params": params}, *args, **kwargs)


def _opened(model: Any) -> tuple[Callable[..., Any], Any, Any]:
    """Return a function of parameters, constants and inputs, and the first two as pytrees."""
    match kind_of(model):
        case "plain":
            return _Plain(model.apply), model.params, ()
        case "equinox":
            import equinox

            return _PerSample(), equinox.nn.inference_mode(model), ()
        case "nnx":
            from flax import nnx

            snapshot = nnx.clone(model)
            snapshot.eval()
            graph, params, *rest = nnx.split(snapshot, nnx.Param, ...)
            return _Merged(graph), params, tuple(rest)
        case "linen":
            module, variables = model[0], model[1]
            others = {name: value for name, value in variables.items() if name != "params"}
            return _Applied(module), variables.get("params", {}), others
    raise TypeError(
        "The model must be an Equinox module, a Flax nnx module, a pair (module, variables) of Flax "
        f"linen, or JaxModel(apply, params); got {type(model).__name__!r}."
    )


def _is_floating(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _name(path: tuple[Any, ...]) -> str:
    # The value of an nnx variable is an attribute of a leaf of its state.
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator=".")
