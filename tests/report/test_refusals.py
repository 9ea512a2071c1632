"""What is wrong is refused before anything is read or written, and the page is written as a whole."""

from pathlib import Path

import numpy as np
import pytest
from calculators.problems import problem
from calculators.stored_runs import influences, interrupted
from report.stores import stored

from upweight.errors import DataError, IncompleteResultError
from upweight.report import write_report

MATRIX = np.random.default_rng(0).standard_normal((3, 5))


@pytest.fixture
def store(tmp_path):
    return stored(MATRIX, tmp_path / "r")


@pytest.fixture
def page(tmp_path):
    return tmp_path / "p.html"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"k": 0}, ValueError, "`k` must be at least 1"),
        ({"k": 2.0}, TypeError, "`k` must be an integer"),
        ({"suspects": -1}, ValueError, "`suspects` must be at least 0"),
        ({"tests": [3]}, ValueError, "no test sample 3"),
        ({"tests": [-1]}, ValueError, "no test sample -1"),
        ({"tests": []}, ValueError, "names no test sample"),
        ({"tests": "12"}, TypeError, "got one string"),
        ({"train_labels": [1] * 4}, ValueError, "`train_labels` must hold one for each of the 5"),
        ({"test_labels": [1] * 4}, ValueError, "`test_labels` must hold one for each of the 3"),
        ({"predictions": [1] * 4}, ValueError, "`predictions` must hold one for each of the 3"),
        ({"component": "other"}, FileNotFoundError, "no Zarr array"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(store, page, options, error, said):
    with pytest.raises(error, match=said):
        write_report(store, page, progress=False, **options)
    assert not page.exists()


def test_what_is_wrong_is_found_before_numbers_are_read(store, page):
    (store / "c/0/0").write_bytes(b"no chunk")
    with pytest.raises(ValueError, match="train_labels"):
        write_report(store, page, train_labels=[1], progress=False)


def test_a_page_that_is_there_is_kept_unless_it_may_be_overwritten(store, page):
    page.write_text("mine")
    with pytest.raises(FileExistsError, match="already"):
        write_report(store, page, progress=False)
    assert page.read_text() == "mine"
    write_report(store, page, overwrite=True, progress=False)
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("place", [Path("nowhere/p.html"), Path()])
def test_places_that_no_file_can_be_at_are_refused(store, tmp_path, place):
    with pytest.raises(OSError, match="folder"):
        write_report(store, tmp_path / place, progress=False)


def test_a_page_that_cannot_be_finished_leaves_nothing(store, page, monkeypatch):
    def fail(self, target):
        raise OSError("no room")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no room"):
        write_report(store, page, progress=False)
    assert [one.name for one in page.parent.iterdir()] == ["r"]


def test_an_incomplete_result_is_refused(page, tmp_path):
    interrupted(influences(*problem()), tmp_path / "i", after=4)
    with pytest.raises(IncompleteResultError, match="incomplete=True"):
        write_report(tmp_path / "i", page, progress=False)


def test_perturbations_are_refused(page, tmp_path):
    influences(*problem(), "perturbation").to_zarr(tmp_path / "i", _Numpy())
    with pytest.raises(ValueError, match="each coordinate of a training input"):
        write_report(tmp_path / "i", page, progress=False)


@pytest.mark.parametrize(
    "options", [{"tests": [0]}, {"test_labels": [1]}, {"predictions": [1]}, {"suspects": 0}]
)
def test_numbers_of_samples_have_no_tests(page, tmp_path, options):
    with pytest.raises(ValueError, match=r"no test samples|empty"):
        write_report(stored(MATRIX[0], tmp_path / "n"), page, progress=False, **options)
    with pytest.raises(DataError, match="NaN"):
        write_report(stored(MATRIX[0] * np.nan, tmp_path / "m"), page, progress=False)


class _Numpy:
    def to_numpy(self, x):
        return x
