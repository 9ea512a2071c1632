"""The command line `upweight`, one command a file.

What is heavy is imported by a command when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from upweight.cli import backends, info, report, top
from upweight.cli.output import EXIT_CODES
from upweight.errors import IncompleteResultError, UpweightError
from upweight.version import __version__

__all__ = ["main"]

#: What may be wrong with what a command was given: none of them is worth a traceback.
REFUSALS = (UpweightError, OSError, ValueError, ImportError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 fine, 1 the answer is no, 2 it could not be told.

    Args:
        arguments: What follows the name of the program; by default that of this process.

    Raises:
        SystemExit: the arguments are wrong (2), or ask for help (0).
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except REFUSALS as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, IncompleteResultError):
            said = f"{said.partition(' Call ')[0]} Pass --incomplete to read what is there."
        sys.stderr.write(f"upweight {options.command}: {said}\n")
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="upweight",
        description="Look at what upweight has installed, and at what it wrote.",
        epilog="examples:\n"
        "  upweight backends\n"
        "  upweight info influences.zarr\n"
        "  upweight top influences.zarr --test 3 -k 10\n"
        "  upweight report influences.zarr -o page.html\n\n"
        f"`upweight COMMAND --help` says more.\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"upweight {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (backends, info, top, report):
        module.add_to(commands)
    return parser
