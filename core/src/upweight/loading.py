"""Fitted models, as they were saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from upweight.checks import check_reusable
from upweight.digests import check_data, check_parameters, parameter_records
from upweight.errors import DataError, ParametersError, SavedModelError
from upweight.plugins import Backend, backends, get_backend, owner_of
from upweight.protocols import SupportsSaving
from upweight.saved import array_reader, opened_group

if TYPE_CHECKING:
    from upweight.models._data import TrainingData
    from upweight.stored import StoreLike


def load(
    path_or_url: StoreLike,
    model: object,
    loss: Callable[..., Any],
    *,
    data: Iterable[Any] | None = None,
    measurement: Callable[..., Any] | None = None,
) -> Any:
    """Return the fitted influence model that `save` wrote, on a model with the same parameters.

    Its methods give what those of the saved one gave; nothing is fitted again. It is an object of
    the method's class in the backend that the model belongs to.

    Args:
        path_or_url: What `save` was given.
        model: The trained model, with the parameters and buffers that it had when it was fitted.
        loss: The loss that it was fitted with. A loss cannot be compared; another one gives
            wrong influences.
        data: The training data, for methods that walk it in every solve: the same samples in the
            same order.
        measurement: What was measured on test samples instead of the loss.

    Raises:
        FileNotFoundError: there is nothing.
        SavedModelError: there is something else, it is damaged, or it was written by a newer
            version.
        IncompleteResultError: it was not written to its end.
        ParametersError: the model has other parameters or buffers.
        DataError: the training data is missing, or is not that of the fit.
        ValueError: the measurement is missing.
        TypeError: no backend knows the model.
    """
    group, notes = opened_group(path_or_url)
    _check_arguments(notes, data, measurement)
    backend = _backend_of(model)
    objective = backend.objective(model, loss)
    if not isinstance(objective, SupportsSaving):
        raise TypeError(
            f"The backend {backend.name!r} does not tell parameters "
            "(`upweight.protocols.SupportsSaving`), so its models cannot be loaded."
        )
    told = notes["model"]
    objective = _restricted(objective, told["parameters"])
    check_parameters(notes["parameters"], parameter_records(objective.parameter_values()))
    from upweight.models._state import Decoder

    reader = array_reader(group, notes, objective.numpy_converter())
    kept = _training_data(notes["data"], data, objective)
    measured = None if measurement is None else backend.objective(model, measurement)
    return Decoder(reader, objective, kept).method(
        told, _class_of(told["method"], backend), measured
    )


def _check_arguments(notes: Mapping[str, Any], data: object, measurement: object) -> None:
    from upweight.models._parts import METHODS

    method = notes["model"]["method"]
    if method not in METHODS:
        raise SavedModelError(
            f"The saved model is of the unknown method {method!r}; there are {sorted(METHODS)}."
        )
    if notes["data"] is not None and data is None:
        raise DataError(
            f"{method} walks the training data in every solve, and it is not saved. Pass the data "
            "of the fit: load(path, model, loss, data=...)."
        )
    if notes["measured"] and measurement is None:
        raise ValueError(
            "The saved model has a measurement, which cannot be saved. Pass it: "
            "load(path, model, loss, measurement=...)."
        )


def _backend_of(model: object) -> Backend:
    owner = owner_of(model)
    if owner is None:
        raise TypeError(
            f"No backend knows a model of type {type(model).__name__!r}; there are "
            f"{list(backends())}."
        )
    return get_backend(owner)


def _class_of(method: str, backend: Backend) -> type[Any]:
    """Return the class of a method in a backend, or that of core."""
    from upweight.models._parts import METHODS

    core = METHODS[method]
    known = (each for each in backend.models.values() if isinstance(each, type))
    return next((each for each in known if issubclass(each, core)), core)


def _restricted(objective: Any, names: list[str]) -> Any:
    """Return the objective as a function of the parameters that influences were taken over."""
    missing = [name for name in names if name not in objective.parameters]
    if missing:
        raise ParametersError(
            f"Influences were taken over the parameters {missing}, which the model does not have "
            "or which are frozen (`requires_grad`)."
        )
    if list(objective.parameters) == names:
        return objective
    restricted = objective.restrict(names)
    if list(restricted.parameters) != names:
        raise ParametersError(
            f"The model has its parameters in another order, {list(restricted.parameters)}, than "
            f"the one that was saved, {names}."
        )
    return restricted


def _training_data(
    saved: Mapping[str, Any] | None, data: Iterable[Any] | None, objective: Any
) -> TrainingData[Any] | None:
    """Return the training data of the fit, if the method needs it."""
    if saved is None or data is None:
        return None
    from upweight.models._data import TrainingData

    check_reusable(data)
    check_data(saved["batches"], data, same_batches=not saved["joined"])
    return TrainingData(data, objective, progress=False, join=saved["joined"])
