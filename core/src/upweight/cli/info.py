"""`upweight info`: what a store holds, who made it, and whether all of it is there."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from upweight.cli.output import add_store, command, write, write_json

if TYPE_CHECKING:
    from upweight.cli.output import Commands


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(
        commands,
        "info",
        run,
        about="Say what a store holds. That is a result (shape, axes, method, options, how much of\n"
        "it is written), a group of results with ids of samples, or a saved model.",
        examples=[
            "upweight info influences.zarr",
            "upweight info group.zarr --component influences",
            "upweight info ekfac.zarr --json",
        ],
        exit_codes="exit codes: 0 all of it is there; 1 it is not complete, or not known to be;\n"
        "2 wrong usage, or it cannot be read",
    )
    add_store(parser)


def run(options: argparse.Namespace) -> int:
    """Say what there is, and return 1 if it is incomplete."""
    from upweight.describing import described
    from upweight.finding import found_at

    told = described(found_at(options.store, options.component))
    if options.json:
        write_json(told)
    else:
        _show(told, "")
        if told.get("resumable") and not told["complete"]:
            write(
                "To have the rest computed, call to_zarr with resume=True in the program that wrote it."
            )
    return 0 if told["complete"] else 1


def _show(told: dict[str, Any], indent: str) -> None:
    for key, value in told.items():
        if key == "components":
            for name, one in value.items():
                write(f"{indent}{name}")
                _show(one, indent + "  ")
        elif isinstance(value, dict):
            write(f"{indent}{key.replace('_', ' ')}:")
            _show(value, indent + "  ")
        elif value is not None:
            write(f"{indent}{key.replace('_', ' ')}: {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "none" if value is None else str(value)
