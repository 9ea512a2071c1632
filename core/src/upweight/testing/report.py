"""What a run of the kit has found, for people and for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

#: The groups of tests, each of a file, in the order of a report.
GROUPS = ("plugin", "arrays", "primitives", "conduct", "methods", "saving", "calculators")

#: What may become of a test; a known gap is one that fails as expected.
OUTCOMES = ("passed", "failed", "skipped", "known gap")


@dataclass(frozen=True)
class Result:
    """What became of one test.

    Attributes:
        group: One of `GROUPS`.
        test: Its name, with parameters in brackets.
        method: Registered name of the method that it is about, if there is one.
        case: Name of the case in which it is tried, if there is one.
        outcome: One of `OUTCOMES`.
        reason: Why it was skipped, is expected to fail, or how it failed, in one line.
    """

    group: str
    test: str
    method: str | None
    case: str | None
    outcome: str
    reason: str = ""


@dataclass
class Recorder:
    """A plugin of pytest that runs the tests of some groups and keeps the result of each."""

    groups: tuple[str, ...] = GROUPS
    results: list[Result] = field(default_factory=list)

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        """Leave out the tests of other groups."""
        items[:] = [item for item in items if _group(item) in self.groups]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep what the call tells, and from before and after it what is not well."""
        report = yield
        if report.when == "call" or report.outcome != "passed":
            params = getattr(getattr(item, "callspec", None), "params", {})
            case = params.get("case")
            method, name = (case.method, case.name) if case else (params.get("method"), None)
            self.results.append(Result(_group(item), item.name, method, name, *_told(report)))
        return report


@dataclass(frozen=True)
class Report:
    """The results of a backend.

    Attributes:
        backend: Its name.
        distribution: What it was installed from, with the version.
        dtypes: The types it was tried in.
        capabilities: Those that it claims.
        results: What became of each test.
        seconds: How long that took.
    """

    backend: str
    distribution: str
    dtypes: tuple[str, ...]
    capabilities: tuple[str, ...]
    results: tuple[Result, ...]
    seconds: float

    @property
    def conforms(self) -> bool:
        """Whether tests were run and none of them failed."""
        outcomes = {result.outcome for result in self.results}
        return "passed" in outcomes and "failed" not in outcomes

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        return {**asdict(self), "conforms": self.conforms}

    def as_text(self) -> str:
        """Return it for people: counts by group, each failure, and why tests were skipped."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.backend}, from {self.distribution}, in {' and '.join(self.dtypes)}\n"
        for group in GROUPS:
            found = [result for result in self.results if result.group == group]
            if found:
                yield f"  {group:<12} {_counted(found)}"
        for title, outcome in (("Failed", "failed"), ("Known gaps", "known gap")):
            found = [result for result in self.results if result.outcome == outcome]
            if found:
                yield f"\n{title}"
            for result in found:
                yield f"  {result.group}: {result.test}\n      {result.reason}"
        reasons = Counter(result.reason for result in self.results if result.outcome == "skipped")
        if reasons:
            yield "\nSkipped"
        for reason, count in reasons.most_common():
            yield f"{count:>6} {reason}"
        verdict = "conforms" if self.conforms else "does not conform"
        yield f"\n{self.backend} {verdict}: {_counted(self.results)}, in {self.seconds:.0f} s"


def _group(item: pytest.Function) -> str:
    return str(item.function.__module__).rpartition(".")[2]


def _counted(results: Any) -> str:
    counts = Counter(result.outcome for result in results)
    return ", ".join(f"{counts[o]} {o}" for o in OUTCOMES if counts[o]) or "no test"


def _told(report: pytest.TestReport) -> tuple[str, str]:
    """Return the outcome of a test, and the reason in one line."""
    if report.outcome == "skipped":
        if hasattr(report, "wasxfail"):
            return "known gap", report.wasxfail.removeprefix("reason: ")
        longrepr: Any = report.longrepr
        return "skipped", str(longrepr[2]).removeprefix("Skipped: ")
    if report.outcome == "failed":
        crash = getattr(report.longrepr, "reprcrash", None)
        message = str(crash.message if crash is not None else report.longrepr)
        return "failed", message.strip().splitlines()[0].removeprefix("Failed: ")
    return "passed", ""
