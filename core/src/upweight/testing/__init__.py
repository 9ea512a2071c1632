"""The conformance kit: what every backend must do, as tests that its author inherits.

Install it with `pip install "upweight[testing]"`; `python -m upweight.testing NAME` tries an
installed backend.
"""

import pytest

# Before they are imported, so that their assertions say what they compared.
pytest.register_assert_rewrite(
    *(
        f"upweight.testing.{group}"
        for group in (
            "plugin",
            "arrays",
            "primitives",
            "conduct",
            "methods",
            "saving",
            "calculators",
        )
    )
)

from upweight.testing.conformance import BackendConformance  # noqa: E402

__all__ = ["BackendConformance"]
