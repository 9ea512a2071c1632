"""The scripts of docs/examples run to their end, and what they claim of their results holds."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
#: With sessions of their own, `example` and `example_jax`.
APART = {"mislabeled_digits.py", "mislabeled_digits_jax.py"}


@pytest.mark.parametrize(
    "script", sorted({path.name for path in EXAMPLES.glob("*.py")} - APART, reverse=True)
)
def test_an_example_runs_and_finds_what_it_says(script, tmp_path):
    ended = subprocess.run(
        [sys.executable, EXAMPLES / script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
