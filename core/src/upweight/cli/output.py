"""What commands share: how they are declared, and the one place where they write."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXIT_CODES = (
    "exit codes: 0 fine; 1 the answer is no (something is incomplete, broken or not there);\n"
    "2 wrong usage, or it cannot be read"
)


def command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    about: str,
    examples: Sequence[str],
    exit_codes: str = EXIT_CODES,
) -> argparse.ArgumentParser:
    """Add a command with the option `--json`, and return its parser for further ones.

    Args:
        commands: Those of the program.
        name: What the user types.
        run: Does it, and returns the exit code.
        about: A paragraph for `--help`; its first sentence is also that of the list of commands.
        examples: Command lines.
        exit_codes: What they mean here.
    """
    shown = "\n".join(f"  {example}" for example in examples)
    parser = commands.add_parser(
        name,
        help=about.partition(". ")[0].rstrip("."),
        description=about,
        epilog=f"examples:\n{shown}\n\n{exit_codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="write JSON, for machines")
    parser.set_defaults(run=run)
    return parser


def add_store(parser: argparse.ArgumentParser) -> None:
    """Let a command take a store, and the name of an array in it."""
    parser.add_argument("store", metavar="STORE", help="a path, or a URL that fsspec understands")
    parser.add_argument("--component", metavar="NAME", help="the array inside a group")


def write(text: str) -> None:
    """Write text to stdout, and end the line."""
    sys.stdout.write(text + "\n")


def write_json(value: Any) -> None:
    """Write JSON to stdout, with null for what is no number."""
    write(json.dumps(_finite(value), indent=2, allow_nan=False, ensure_ascii=False))


def write_table(rows: Sequence[Sequence[object]]) -> None:
    """Write rows of cells, each column as wide as it needs to be."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        write("  ".join(padded).rstrip())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
