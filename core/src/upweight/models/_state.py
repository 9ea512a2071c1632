"""Fitted methods as JSON and arrays, and back; only what `_parts` lists is ever made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from inspect import signature
from numbers import Integral, Real
from typing import Any

from array_api_compat import is_array_api_obj

from upweight.errors import SavedModelError
from upweight.models._base import CurvatureInfluence
from upweight.models._data import TrainingData
from upweight.models._parts import CLASSES, ENUMS, LEARNT, METHODS, TAGS
from upweight.protocols import SupportsSaving


class Encoder:
    """Turns a fitted method into JSON, and sets arrays aside.

    Attributes:
        arrays: The arrays that the JSON has the numbers of, each once.
        data: The training data that the method walks in every solve, if it does.
    """

    def __init__(self) -> None:
        self.arrays: list[Any] = []
        self.data: TrainingData[Any] | None = None
        self._places: dict[int, int] = {}

    def method(self, method: CurvatureInfluence[Any]) -> dict[str, Any]:
        """Return name, parameters, options and state of a fitted method.

        Raises:
            TypeError: it has parts that `_parts` does not list.
        """
        name = type(method).__name__
        if not isinstance(method, METHODS.get(name, ())):
            raise TypeError(f"{name} cannot be saved: it is none of the methods of upweight.")
        state = {key: value for key, value in vars(method).items() if key in LEARNT}
        return {
            "method": name,
            "parameters": list(method._objective.parameters),
            "options": self.encode(_options(method, METHODS[name])),
            "learnt": self.encode(state),
        }

    def encode(self, value: Any) -> Any:
        """Return a value as JSON; what is no JSON becomes an object with one key for its kind."""
        if isinstance(value, Enum):
            return {"enum": type(value).__name__, "value": value.value}
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            return float(value) if math.isfinite(value) else {"float": repr(float(value))}
        if isinstance(value, Mapping):
            return {"mapping": [[self.encode(k), self.encode(v)] for k, v in value.items()]}
        if isinstance(value, list | tuple):
            return {type(value).__name__: [self.encode(item) for item in value]}
        if is_array_api_obj(value):
            return {"array": self._place(value)}
        return self._object(value)

    def _object(self, value: Any) -> dict[str, Any]:
        if type(value) in TAGS:
            fields = [[name, self.encode(part)] for name, part in vars(value).items()]
            return {"class": TAGS[type(value)], "fields": fields}
        if isinstance(value, CurvatureInfluence):
            return self.method(value)
        if isinstance(value, SupportsSaving):
            return {"objective": list(value.parameters)}  # type: ignore[attr-defined]  # an Objective
        if isinstance(value, TrainingData):
            self.data = value
            return {"data": None}
        raise TypeError(
            f"An object of type {type(value).__name__!r} cannot be saved: it is none of upweight. "
            "Only the preconditioners of upweight can."
        )

    def _place(self, array: Any) -> int:
        if id(array) not in self._places:
            self._places[id(array)] = len(self.arrays)
            self.arrays.append(array)
        return self._places[id(array)]


class Decoder:
    """Turns JSON back into a fitted method.

    Args:
        array: Returns the array of a number.
        objective: The mean loss as a function of the parameters that the method was fitted for.
        data: The training data, if the method needs it.
    """

    def __init__(
        self,
        array: Callable[[int], Any],
        objective: Any,
        data: TrainingData[Any] | None,
    ) -> None:
        self._array = array
        self._data = data
        self._objective = objective

    def method(
        self,
        told: Mapping[str, Any],
        kind: type[CurvatureInfluence[Any]],
        measurement: Any = None,
    ) -> CurvatureInfluence[Any]:
        """Return a fitted method.

        Args:
            told: What the encoder made of it.
            kind: The class listed for it, or one derived from it that is made of model and loss.
            measurement: The measurement, as an objective.
        """
        method = object.__new__(kind)  # classes of backends only make the objective themselves
        options = self.decode(told["options"])
        made: Any = METHODS[told["method"]].__init__
        made(method, self._restricted(told["parameters"]), measurement=measurement, **options)
        for name, value in self.decode(told["learnt"]).items():
            if name not in LEARNT:
                raise SavedModelError(f"The saved model has an unknown part {name!r}.")
            setattr(method, name, value)
        method._inverses = method._inverted(method._fitted())
        return method

    def decode(self, told: Any) -> Any:
        """Return the value that became this JSON.

        Raises:
            SavedModelError: it holds what `_parts` does not list.
        """
        if not isinstance(told, dict):
            return told
        if "method" in told:
            return self.method(told, METHODS[told["method"]])
        kind = next((kind for kind in KINDS if kind in told), None)
        if kind is None:
            raise SavedModelError(f"The saved model holds something unknown, {sorted(told)}.")
        return KINDS[kind](self, told)

    def _of_class(self, told: Mapping[str, Any]) -> Any:
        if told["class"] not in CLASSES:
            raise SavedModelError(f"The saved model has a part of unknown kind {told['class']!r}.")
        kind = CLASSES[told["class"]]
        fields = {name: self.decode(value) for name, value in told["fields"]}
        if is_dataclass(kind):
            return kind(**fields)
        value = object.__new__(kind)
        vars(value).update(fields)
        return value

    def _restricted(self, names: Iterable[str]) -> Any:
        whole = self._objective
        return whole if list(whole.parameters) == list(names) else whole.restrict(list(names))


KINDS: Mapping[str, Callable[[Decoder, Any], Any]] = {
    "enum": lambda _, told: ENUMS[told["enum"]](told["value"]),
    "float": lambda _, told: float(told["float"]),
    "mapping": lambda d, told: {d.decode(k): d.decode(v) for k, v in told["mapping"]},
    "list": lambda d, told: [d.decode(item) for item in told["list"]],
    "tuple": lambda d, told: tuple(d.decode(item) for item in told["tuple"]),
    "array": lambda d, told: d._array(told["array"]),
    "objective": lambda d, told: d._restricted(told["objective"]),
    "data": lambda d, _: d._data,
    "class": Decoder._of_class,
}


def _options(method: CurvatureInfluence[Any], kind: type[Any]) -> dict[str, Any]:
    """Return the options that make such a method on an objective, but for the measurement."""
    told = method.describe()
    told["block_structure"] = told["blocks"]
    told |= {
        name: getattr(method, f"_{name}")
        for name in ("max_memory", "preconditioner")
        if hasattr(method, f"_{name}")
    }
    return {name: told[name] for name in signature(kind).parameters if name in told}
