"""What is shown and logged of fits and solves that take long."""

import logging

import pytest
from reference import softmax_problem

from upweight import progress
from upweight.models import CgInfluence, DirectInfluence, LissaInfluence, _data
from upweight.progress import progress_bar


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0)


def fitted(method, **options):
    objective, (x, y) = softmax_problem()
    return method(objective, **options).fit([(x[:20], y[:20]), (x[20:], y[20:])]), x, y


@pytest.mark.parametrize(
    ("method", "label"), [(CgInfluence, "Conjugate gradients: "), (LissaInfluence, "Recursion: ")]
)
def test_a_long_solve_shows_its_steps_below_what_asks_for_it(capsys, method, label):
    model, x, y = fitted(method, regularization=0.1)
    with progress_bar(1, label="Influences"):
        model.influence_factors(x[:3], y[:3])
    assert label in capsys.readouterr().err
    model.influence_factors(x[:3], y[:3])
    assert capsys.readouterr().err == ""


def test_each_pass_of_a_fit_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(_data, "KEEP_BYTES", 0)
    fitted(CgInfluence, regularization=0.1)
    assert capsys.readouterr().err.count("2/2") == 1
    model, x, y = fitted(CgInfluence, regularization=0.1)
    capsys.readouterr()
    with progress_bar(1, label="Influences"):
        model.influence_factors(x[:3], y[:3])
    assert "Training data" in capsys.readouterr().err


def test_a_fit_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="upweight"):
        model, _, _ = fitted(DirectInfluence, regularization=0.1)
    (record,) = caplog.records
    assert record.name.startswith("upweight.")
    assert f"DirectInfluence: fitted {model.n_parameters} parameters in 1 blocks" in record.message
