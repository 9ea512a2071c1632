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
        """The reference problem in each type."""
        return self.shared(dtype)

    @pytest.fixture
    def first(self) -> Problem:
        """The reference problem in the first type of the backend."""
        return self.shared(self.dtypes[0])

    def shared(self, dtype: str) -> Problem:
        """Return the reference problem in a type, built once for all tests of a class."""
        key = type(self), dtype
        if key not in _PROBLEMS:
            built = self.build(reference_weights(dtype))
            _PROBLEMS[key] = problem_of(get_backend(self.backend), built, dtype)
        return _PROBLEMS[key]


_PROBLEMS: dict[tuple[type[Conformance], str], Problem] = {}
