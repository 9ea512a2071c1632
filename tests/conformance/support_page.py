"""The page of what is supported, compared with what a run of the kit has found."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs/support.py"


def assert_says(report, folder):
    found = folder / "found.json"
    found.write_text(json.dumps(report.as_dict()))
    command = [sys.executable, SCRIPT, "--check", found]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
