"""What is loaded is what was saved, bit for bit, for every method that needs no framework."""

import json
from dataclasses import fields, is_dataclass
from zlib import crc32

import numpy as np
import pytest
from saved_problems import Objective, Plugin, saved_problem
from zarr.storage import MemoryStore

from upweight import load, plugins
from upweight.models import (
    ArnoldiInfluence,
    CgInfluence,
    DirectInfluence,
    GradientInfluence,
    GramInfluence,
    InverseHarmonicMeanInfluence,
    JacobiPreconditioner,
    LissaInfluence,
    NystroemPreconditioner,
    NystroemSketchInfluence,
    _parts,
    harmonic,
)
from upweight.saved import FORMAT

FISHER = {"second_order_mode": "empirical_fisher"}
BLOCKS = {"block_structure": "parameter_wise", "regularization": {"weight": 0.4, "bias": 0.7}}

CASES = {
    "direct": (DirectInfluence, {"max_memory": 10**6}),
    "direct, by block": (DirectInfluence, BLOCKS),
    "direct, some parameters": (DirectInfluence, {"block_structure": {"some": ["bias"]}}),
    "cg": (CgInfluence, {"rtol": 1e-6, "solver": "block"}),
    "cg, by block": (CgInfluence, BLOCKS | {"preconditioner": JacobiPreconditioner(probes=5)}),
    "cg, Nyström": (CgInfluence, FISHER | {"preconditioner": NystroemPreconditioner(rank=4)}),
    "lissa": (LissaInfluence, {"seed": 3, "repeats": 2}),
    "lissa, by block": (LissaInfluence, BLOCKS),
    "arnoldi": (ArnoldiInfluence, {"rank": 4, "krylov_dimension": 9}),
    "arnoldi, dropped": (ArnoldiInfluence, {"rank": 4, "outside": "dropped", "seed": 2}),
    "nystroem": (NystroemSketchInfluence, {"rank": 4, "indefinite": "shift"}),
    "harmonic": (InverseHarmonicMeanInfluence, BLOCKS),
    "gradient": (GradientInfluence, {"normalize": True}),
    "gram": (GramInfluence, FISHER | {"damping": "absolute"}),
    "gram, landmarks": (GramInfluence, FISHER | {"landmarks": 6, "seed": 1}),
}
NEED_DATA = {"cg", "cg, by block", "cg, Nyström", "lissa", "lissa, by block"}


@pytest.fixture(autouse=True)
def _backend():
    plugins.register(Plugin(), "saved")
    yield
    plugins.unregister("saved")


def fitted(case, dtype="float64", **options):
    method, chosen = CASES[case]
    model, data, test = saved_problem(dtype)
    damped = {} if method is GradientInfluence else {"regularization": 0.5}
    influence = method(Objective(model, 1.0), **{**damped, **chosen, **options})
    return influence.fit(data, progress=False), model, data, test


def loaded(influence, model, data=None, **options):
    store = MemoryStore()
    influence.save(store)
    return load(store, model, 1.0, data=data, **options)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_loaded_is_what_was_saved(case, dtype):
    influence, model, data, test = fitted(case, dtype)
    again = loaded(influence, model, data if case in NEED_DATA else None)
    assert type(again) is type(influence)
    assert again.describe() == influence.describe()
    assert again.fit_diagnostics == influence.fit_diagnostics
    whole = "some" not in influence.block_names
    for mode in ("up", "perturbation") if whole else ("up",):
        first, second = (m.influences(*test, *data[0], mode=mode) for m in (influence, again))
        np.testing.assert_array_equal(first, second, strict=True)
    np.testing.assert_array_equal(influence.self_influences(*test), again.self_influences(*test))


@pytest.mark.parametrize("case", CASES)
def test_another_damping_needs_no_fit_after_loading(case):
    influence, model, data, test = fitted(case)
    again = loaded(influence, model, data if case in NEED_DATA else None)
    first, second = (m.with_regularization(0.9).self_influences(*test) for m in (influence, again))
    np.testing.assert_array_equal(first, second)


def test_another_damping_is_saved():
    influence, model, _, test = fitted("gradient", normalize=False)
    damped = influence.with_regularization(2.0)
    again = loaded(damped, model)
    assert again.regularization == {"full": 2.0}
    np.testing.assert_array_equal(again.self_influences(*test), damped.self_influences(*test))


@pytest.mark.parametrize("case", CASES)
def test_a_loaded_model_can_be_fitted_and_saved_again(case):
    influence, model, data, test = fitted(case)
    again = loaded(influence, model, data if case in NEED_DATA else None)
    other = data[:1]
    refitted = loaded(again.fit(other, progress=False), model, other)
    expected = fitted(case)[0].fit(other, progress=False)
    np.testing.assert_array_equal(refitted.self_influences(*test), expected.self_influences(*test))


def test_the_measurement_is_passed_again():
    model, data, test = saved_problem()
    measured = DirectInfluence(
        Objective(model, 1.0), regularization=0.5, measurement=Objective(model, 3.0)
    ).fit(data, progress=False)
    again = loaded(measured, model, measurement=3.0)
    first, second = (m.influences(*test, *data[0]) for m in (measured, again))
    np.testing.assert_array_equal(first, second)


def test_gradients_that_are_too_many_to_keep_are_taken_from_the_data(monkeypatch):
    monkeypatch.setattr(harmonic, "GRADIENT_BYTES", 0)
    influence, model, data, test = fitted("harmonic")
    again = loaded(influence, model, data)
    np.testing.assert_array_equal(influence.self_influences(*test), again.self_influences(*test))


def test_data_that_is_not_kept_is_walked_again(monkeypatch):
    monkeypatch.setattr("upweight.models._data.KEEP_BYTES", 0)
    influence, model, data, test = fitted("cg")
    again = loaded(influence, model, data)
    np.testing.assert_array_equal(influence.self_influences(*test), again.self_influences(*test))


def test_a_fitted_preconditioner_is_not_fitted_again(monkeypatch):
    influence, model, data, test = fitted("cg, Nyström")
    monkeypatch.setattr(NystroemPreconditioner, "fit", None)
    again = loaded(influence, model, data)
    np.testing.assert_array_equal(influence.self_influences(*test), again.self_influences(*test))


def test_every_method_is_listed():
    from upweight import models

    methods = {name for name in models.__all__ if name.endswith("Influence")}
    assert set(_parts.METHODS) == methods


def test_the_format_changes_with_the_attributes_that_it_is_made_of():
    names = {
        name: [field.name for field in fields(part)]
        for name, part in sorted(_parts.CLASSES.items())
        if is_dataclass(part)
    }
    # If this fails, raise `FORMAT`: what older versions have saved can no longer be read.
    assert (FORMAT, crc32(json.dumps(names).encode())) == (1, 706228224)


def test_no_two_classes_have_one_name():
    assert len(_parts.TAGS) == len(_parts.CLASSES) == len(set(_parts.CLASSES.values()))
