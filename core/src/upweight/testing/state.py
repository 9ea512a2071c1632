"""What a model holds and what surrounds it, to be compared before and after a call."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from upweight.testing.reference import Array

#: Objects that are not looked into.
CLOSED = (type, ModuleType, FunctionType, property, np.dtype)


def arrays_in(model: object) -> list[Any]:
    """Return the arrays that a model is made of, found in its attributes and collections."""
    return [value for _, value in _walk(model, "model", set()) if is_array_api_obj(value)]


def state_of(model: object, to_numpy: Callable[[Any], Array]) -> dict[str, object]:
    """Return the numbers and settings that a model is made of, by where they are."""
    state: dict[str, object] = {}
    for place, value in _walk(model, "model", set()):
        if is_array_api_obj(value):
            values = to_numpy(value)
            state[place] = values.dtype.str, values.shape, values.tobytes()
            state[f"{place}.requires_grad"] = getattr(value, "requires_grad", None)
        else:
            state[place] = value
    return state


def surroundings() -> dict[str, object]:
    """Return the global settings of Python and NumPy that calls have no business to change."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  # the one that others may rely on
    return {
        "random state of NumPy": (kind, np.asarray(keys).tobytes(), *rest),
        "random state of Python": random.getstate(),
        "floating-point errors of NumPy": np.geterr(),
        "filters of warnings": list(warnings.filters),
    }


def changes(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return the names of what is not the same, has gone or has come."""
    missing = object()
    return [
        name
        for name in {**before, **after}
        if before.get(name, missing) != after.get(name, missing)
    ]


def _walk(thing: object, place: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield arrays and plain values, by where they are; each object is visited once."""
    if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
        yield place, thing
        return
    if id(thing) in seen or isinstance(thing, CLOSED):
        return
    seen.add(id(thing))
    if is_array_api_obj(thing):
        yield place, thing
        gradient = getattr(thing, "grad", None)
        if is_array_api_obj(gradient):
            yield f"{place}.grad", gradient
        return
    if isinstance(thing, Mapping):
        inside = [(str(key), value) for key, value in thing.items()]
    elif isinstance(thing, list | tuple | set | frozenset):
        inside = [(str(i), value) for i, value in enumerate(thing)]
    else:
        inside = list(getattr(thing, "__dict__", {}).items())
    for name, value in inside:
        yield from _walk(value, f"{place}.{name}", seen)
