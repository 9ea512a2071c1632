"""What is not the fitted model, on the same parameters and data, is refused before it is used."""

import asyncio
import json
import subprocess

import numpy as np
import pytest
import zarr
from curvatures import problem
from saved_problems import Model, Objective, Plugin, saved_problem
from zarr.storage import MemoryStore

from upweight import load, plugins
from upweight.errors import (
    DataError,
    IncompleteResultError,
    NotFittedError,
    ParametersError,
    SavedModelError,
)
from upweight.models import CgInfluence, DirectInfluence, LissaInfluence

KEYS = ("weight", "bias", "scale")


@pytest.fixture(autouse=True)
def _backend():
    plugins.register(Plugin(), "saved")
    yield
    plugins.unregister("saved")


def fitted(method=DirectInfluence, dtype="float64", **options):
    model, data, _ = saved_problem(dtype)
    influence = method(Objective(model, 1.0), regularization=0.5, **options)
    return influence.fit(data, progress=False), model, data


@pytest.fixture
def saved():
    """Return a store with a saved model, and the model it belongs to."""
    influence, model, _ = fitted()
    store = MemoryStore()
    influence.save(store)
    return store, model


def noted(store, **changes):
    """Change what the file says of itself."""
    group = zarr.open_group(store, mode="r+")
    group.attrs["upweight"] = {**group.attrs["upweight"], **changes}


def test_a_model_that_is_not_fitted():
    model, *_ = saved_problem()
    with pytest.raises(NotFittedError, match="before `save`"):
        DirectInfluence(Objective(model, 1.0)).save(MemoryStore())


def test_an_objective_that_does_not_tell_its_parameters():
    objective, train, _ = problem()
    model = DirectInfluence(objective, regularization=0.5).fit([train], progress=False)
    with pytest.raises(TypeError, match="SupportsSaving"):
        model.save(MemoryStore())


class OwnMethod(DirectInfluence):
    """A method that nobody would find again."""


class OwnPreconditioner:
    def fit(self, operator):
        return CgInfluence


@pytest.mark.parametrize(
    ("method", "options"),
    [(OwnMethod, {}), (CgInfluence, {"preconditioner": OwnPreconditioner()})],
)
def test_parts_of_somebody_else(method, options):
    model, *_ = saved_problem()
    influence = method(Objective(model, 1.0), regularization=0.5, **options)
    influence._curvatures = {}
    store = MemoryStore()
    with pytest.raises(TypeError, match="Own"):
        influence.save(store)
    assert not store._store_dict


def test_a_saved_model_is_not_replaced_unless_told(tmp_path):
    influence, model, _ = fitted()
    influence.save(tmp_path / "model")
    other = influence.with_regularization(0.9)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        other.save(tmp_path / "model")
    assert load(tmp_path / "model", model, 1.0).regularization == {"full": 0.5}
    other.save(tmp_path / "model", overwrite=True)
    assert load(tmp_path / "model", model, 1.0).regularization == {"full": 0.9}


@pytest.mark.parametrize(
    "make", [zarr.create_group, lambda store: zarr.create_array(store, data=np.arange(3.0))]
)
def test_what_is_no_saved_model_is_never_replaced(make):
    store = MemoryStore()
    make(store)
    influence, model, _ = fitted()
    with pytest.raises(FileExistsError, match="no saved model"):
        influence.save(store, overwrite=True)
    with pytest.raises(SavedModelError, match="no model that `save` wrote"):
        load(store, model, 1.0)


def test_nothing_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved model"):
        load(tmp_path / "nowhere", saved_problem()[0], 1.0)


def test_a_save_that_broke_off_cannot_pass_for_a_model(monkeypatch):
    influence, model, _ = fitted()
    write, broke_off = MemoryStore.set, 0
    for allowed in range(20):
        store, left = MemoryStore(), [allowed]

        async def limited(self, *args, left=left, **options):
            if not left[0]:
                raise OSError("disk full")
            left[0] -= 1
            await write(self, *args, **options)

        monkeypatch.setattr(MemoryStore, "set", limited)
        try:
            influence.save(store)
        except OSError:
            broke_off += 1
            with pytest.raises((IncompleteResultError, FileNotFoundError)):
                load(store, model, 1.0)
        else:
            assert load(store, model, 1.0).is_fitted
    assert 3 < broke_off < 20


def test_replacing_that_broke_off_cannot_pass_for_a_model(saved, monkeypatch):
    store, model = saved
    monkeypatch.setattr(zarr, "create_group", None)  # after the old one was disowned
    with pytest.raises(TypeError):
        fitted()[0].save(store, overwrite=True)
    with pytest.raises(IncompleteResultError, match="overwrite=True"):
        load(store, model, 1.0)


def test_a_newer_format(saved):
    store, model = saved
    noted(store, format=99, version="7.0")
    with pytest.raises(SavedModelError, match=r"format 99, by upweight 7\.0"):
        load(store, model, 1.0)


@pytest.mark.parametrize(
    ("part", "other", "said"),
    [
        ('"DirectInfluence"', '"HiddenInfluence"', "unknown method 'HiddenInfluence'"),
        ('"DenseCurvature"', '"Popen"', "unknown kind 'Popen'"),
        ('"class"', '"call"', "something unknown"),
        ('"_curvatures"', '"_objective"', "unknown part '_objective'"),
    ],
)
def test_only_what_is_listed_is_made(saved, part, other, said, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    store, model = saved
    told = zarr.open_group(store, mode="r").attrs["upweight"]["model"]
    noted(store, model=json.loads(json.dumps(told).replace(part, other)))
    with pytest.raises(SavedModelError, match=said):
        load(store, model, 1.0)


@pytest.mark.parametrize("damage", ["chunk", "array", "values"])
def test_damaged_arrays(saved, damage):
    store, model = saved
    if damage == "values":
        array = zarr.open_group(store, mode="r+")["0"]
        array[0, 0] += 1e-12
    else:
        key = "0/c/0/0" if damage == "chunk" else "0/zarr.json"
        asyncio.run(store.delete(key))
    with pytest.raises(SavedModelError, match="array 0 is missing or not"):
        load(store, model, 1.0)


@pytest.mark.parametrize("name", KEYS)
def test_other_parameters_are_named(saved, name):
    store, model = saved
    other = getattr(model, name).copy()
    other.ravel()[-1:] += 1e-12
    with pytest.raises(ParametersError, match=f"differ: '{name}', which has other values"):
        load(store, model._replace(**{name: other}), 1.0)


def test_other_shapes_and_types_are_told(saved):
    store, model = saved
    single = Model(*(value.astype("float32") for value in model))
    with pytest.raises(ParametersError, match=r"\(3, 4\) float64 then, \(3, 4\) float32 now"):
        load(store, single, 1.0)


def test_a_model_of_no_backend(saved):
    with pytest.raises(TypeError, match="No backend knows a model of type 'object'"):
        load(saved[0], object(), 1.0)


def test_a_measurement_that_is_missing():
    model, data, _ = saved_problem()
    store = MemoryStore()
    measured = DirectInfluence(
        Objective(model, 1.0), regularization=0.5, measurement=Objective(model, 3.0)
    )
    measured.fit(data, progress=False).save(store)
    with pytest.raises(ValueError, match="measurement"):
        load(store, model, 1.0)


@pytest.mark.parametrize("method", [CgInfluence, LissaInfluence])
def test_data_that_is_missing(method):
    influence, model, _ = fitted(method)
    store = MemoryStore()
    influence.save(store)
    with pytest.raises(DataError, match=r"Pass the data of the fit: load\(path"):
        load(store, model, 1.0)


def changed(data):
    (x, y), second = data
    other = x.copy()
    other[-1, 0] += 1e-12
    return {
        "a value": ([(other, y), second], "batch 0 differs"),
        "a label": ([(x, y), (second[0], second[1][::-1].copy())], "batch 1 differs"),
        "the order": ([second, (x, y)], "batch 0 differs"),
        "fewer": ([(x, y)], "it has 12 samples, and had 30"),
        "more": ([*data, data[0]], "it has 42 samples, and had 30"),
        "names": ([({"x": x}, y), ({"x": second[0]}, second[1])], "batch 0 differs"),
        "types": ([(x, y.astype("int32")), second], "batch 0 differs"),
    }


@pytest.mark.parametrize("change", changed(saved_problem()[1]))
def test_other_data(change):
    influence, model, data = fitted(LissaInfluence)
    store = MemoryStore()
    influence.save(store)
    other, said = changed(data)[change]
    with pytest.raises(DataError, match=said):
        load(store, model, 1.0, data=other)


def test_data_that_can_be_read_only_once():
    influence, model, data = fitted(CgInfluence)
    store = MemoryStore()
    influence.save(store)
    with pytest.raises(DataError, match="only once"):
        load(store, model, 1.0, data=iter(data))


def test_how_samples_fall_into_batches_matters_where_it_does():
    for method, refused in ((CgInfluence, False), (LissaInfluence, True)):
        influence, model, data = fitted(method)
        store = MemoryStore()
        influence.save(store)
        x, y = (np.concatenate(arrays) for arrays in zip(*data, strict=True))
        others = [(x[:7], y[:7]), (x[7:29], y[7:29]), (x[29:], y[29:])]
        if refused:
            with pytest.raises(DataError, match=r"end after \[7, 29, 30\] samples"):
                load(store, model, 1.0, data=others)
        else:
            again = load(store, model, 1.0, data=others)
            first, second = (m.self_influences(x, y) for m in (influence, again))
            np.testing.assert_allclose(first, second, rtol=1e-3)
