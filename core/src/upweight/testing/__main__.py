"""`python -m upweight.testing NAME`: try an installed backend, and say what was found."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from upweight.errors import UpweightError
from upweight.testing.report import GROUPS
from upweight.testing.running import run


def main(arguments: list[str] | None = None) -> int:
    """Print a report and return 0 if the backend conforms, 1 if it does not or is not there."""
    parser = argparse.ArgumentParser(prog="python -m upweight.testing", description=__doc__)
    parser.add_argument(
        "backend",
        help="name of an installed backend, or package.module:Class that inherits "
        "BackendConformance",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results for machines")
    parser.add_argument(
        "--group", choices=GROUPS, action="append", help="run this group of tests; may be repeated"
    )
    options = parser.parse_args(arguments)
    try:
        report = run(options.backend, options.group or GROUPS)
    except UpweightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    sys.stdout.write(report.as_text() + "\n")
    return 0 if report.conforms else 1


if __name__ == "__main__":
    sys.exit(main())
