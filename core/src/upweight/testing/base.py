"""What the groups of the conformance kit share: the author's answers, and the problem they build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
from numpy.typing import NDArray

from upweight.plugins import get_backend
from upweight.testing.problem import Problem, problem_of
from upweight.testing.reference import reference_weights


class Conformance:
    """The answers of an author, and the fixtures made of them; see `BackendConformance`."""

    backend: ClassVar[str]
    dtypes: ClassVar[Sequence[str]] = ("float64", "float32")
    known_gaps: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse gaps in tests that there are not, and other types than the two."""
        super().__init_subclass__(**options)
        unknown = [name for name in cls.known_gaps if not hasattr(cls, name.partition("[")[0])]
        if unknown:
            raise TypeError(f"`known_gaps` names tests that the kit does not have: {unknown}.")
        if not cls.dtypes or set(cls.dtypes) - {"float64", "float32"}:
            raise TypeError(
                f'`dtypes` must be some of "float64" and "float32"; got {cls.dtypes!r}.'
            )

    def build(self, weights: Mapping[str, NDArray[Any]]) -> tuple[Any, Any, Sequence[str]]:
        """Rebuild the reference problem; by default as the backend itself says."""
        reference = get_backend(self.backend).reference
        if reference is None:
            raise NotImplementedError(
                f"Write `build(self, weights)`, or give the backend {self.backend!r} a "
                "`reference` that does the same."
            )
        return reference(weights)

    def settings(self) -> object:
        """Return the global settings of the framework, which no call may change."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test that asks for a type with each type that the backend has."""
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", self.dtypes)

    @pytest.fixture(autouse=True)
    def _expect_known_gaps(self, request: pytest.FixtureRequest) -> None:
        for name in (request.node.originalname, request.node.name):
            if name in self.known_gaps:
                request.applymarker(pytest.mark.xfail(reason=self.known_gaps[name], strict=True))

    @pytest.fixture
    def problem(self, dtype: str) -> Problem:
        """The reference problem, shared by the tests of a class."""
        return _shared(type(self), dtype)

    @pytest.fixture
    def fresh(self) -> Problem:
        """The reference problem in the first type, built for one test alone."""
        return _built(type(self), self.dtypes[0])

    @pytest.fixture
    def first(self) -> Problem:
        """The reference problem in the first type, shared by the tests of a class."""
        return _shared(type(self), self.dtypes[0])


def _built(author: type[Conformance], dtype: str) -> Problem:
    backend = get_backend(author.backend)
    return problem_of(backend, author().build(reference_weights(dtype)), dtype)


def _shared(author: type[Conformance], dtype: str) -> Problem:
    if (author, dtype) not in _PROBLEMS:
        _PROBLEMS[author, dtype] = _built(author, dtype)
    return _PROBLEMS[author, dtype]


_PROBLEMS: dict[tuple[type[Conformance], str], Problem] = {}
