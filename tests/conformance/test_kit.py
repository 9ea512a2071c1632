"""The kit passes what is right, skips what is not claimed, and expects gaps that are known."""

import json
import sys
from types import MappingProxyType

import pytest
from conformance.handmade import Plugin

from upweight import plugins
from upweight.testing import BackendConformance
from upweight.testing.__main__ import main
from upweight.testing.report import GROUPS
from upweight.testing.running import run


@pytest.fixture
def handmade():
    plugins.register(Plugin(), "handmade")
    yield
    plugins.unregister("handmade")


def test_a_correct_backend_conforms(tried):
    report = tried(Plugin())
    assert [result for result in report.results if result.outcome == "failed"] == []
    assert report.conforms
    assert {result.group for result in report.results} == set(GROUPS)


def test_capabilities_that_are_not_claimed_are_skipped_by_name(tried):
    report = tried(Plugin("reticent", capabilities=frozenset({"SupportsLayers"})), "primitives")
    skipped = {result.reason for result in report.results if result.outcome == "skipped"}
    assert "reticent does not claim SupportsGaussNewton" in skipped
    assert report.conforms


GAPPY = """
from upweight.testing import BackendConformance

class Gappy(BackendConformance):
    backend, dtypes = "handmade", ("float64",)
    known_gaps = {"test_losses[float64-all]": "another bias", "test_zeros": "no gap at all"}

    def build(self, weights):
        return super().build({**weights, "head.bias": weights["head.bias"] + [0, 0, 1]})
"""


@pytest.fixture
def gappy(handmade, tmp_path, monkeypatch):
    """Write a class of an author to a module, and return its name."""
    (tmp_path / "gappy.py").write_text(GAPPY)
    monkeypatch.syspath_prepend(tmp_path)
    yield "gappy:Gappy"
    sys.modules.pop("gappy", None)


def test_a_known_gap_is_expected_with_its_reason(gappy):
    results = {result.test: result for result in run(gappy, ["primitives"]).results}
    assert results["test_losses[float64-all]"].outcome == "known gap"
    assert results["test_losses[float64-all]"].reason == "another bias"
    assert results["test_losses[float64-some]"].outcome == "failed"


def test_a_known_gap_that_is_none_is_a_failure(gappy):
    outcomes = {r.outcome for r in run(gappy, ["primitives"]).results if "test_zeros" in r.test}
    assert outcomes == {"failed"}


def test_a_class_may_choose_its_types(gappy):
    assert not [r for r in run(gappy, ["primitives"]).results if "float32" in r.test]


def test_gaps_in_tests_that_are_not_there_are_refused():
    with pytest.raises(TypeError, match="test_of_nothing"):

        class Gappy(BackendConformance):
            backend = "handmade"
            known_gaps = MappingProxyType({"test_of_nothing": "there is none"})


def test_the_command_prints_a_report_and_succeeds(handmade, capsys):
    assert main(["handmade", "--group", "plugin"]) == 0
    printed = capsys.readouterr().out
    assert "plugin       17 passed, 2 skipped" in printed
    assert "handmade conforms" in printed


def test_the_command_says_what_failed_and_how(tried, capsys):
    plugin = Plugin("spoilt", capabilities=frozenset({"SupportsDenseHessian"}))
    report = tried(plugin, "plugin").as_text()
    assert "plugin: test_what_is_claimed_is_what_is_there[SupportsDenseHessian]" in report
    assert "SupportsDenseHessian is claimed, and the objective does not implement it" in report
    assert main(["spoilt", "--group", "plugin"]) == 1


def test_the_command_writes_results_for_machines(handmade, tmp_path):
    main(["handmade", "--group", "plugin", "--json", str(tmp_path / "r.json")])
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["conforms"]
    assert told["capabilities"] == sorted(Plugin().backend.capabilities)
    assert {result["group"] for result in told["results"]} == {"plugin"}


def test_a_backend_that_is_not_there_is_an_error_with_its_reason(capsys):
    assert main(["nowhere"]) == 1
    assert 'pip install "upweight[nowhere]"' in capsys.readouterr().err


def test_a_backend_without_a_reference_must_be_built(tried):
    report = tried(Plugin("bare", reference=None), "conduct")
    assert all("Write `build(self, weights)`" in result.reason for result in report.results)
