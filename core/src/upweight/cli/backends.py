"""`upweight backends`: what is installed, what it can do, or why it is broken."""

from __future__ import annotations

import argparse
import warnings
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from upweight.cli.output import command, write, write_json

if TYPE_CHECKING:
    from upweight.cli.output import Commands


def add_to(commands: Commands) -> None:
    """Add the command."""
    command(
        commands,
        "backends",
        run,
        about="List the backends that are installed. Each framework is imported, to say which\n"
        "methods and optional protocols there are, or why it cannot be used.",
        examples=["upweight backends", "upweight backends --json"],
        exit_codes="exit codes: 0 all can be used; 1 one is broken, or none is installed; "
        "2 wrong usage",
    )


def run(options: argparse.Namespace) -> int:
    """List the backends, and return 1 if one is broken or there is none."""
    from upweight.plugins import backends

    found = [_described(name) for name in backends()]
    if options.json:
        write_json({"backends": found})
    elif not found:
        write('No backend is installed. Try `pip install "upweight[torch]"`.')
    else:
        for one in found:
            _show(one)
    return 0 if found and all(one["usable"] for one in found) else 1


def _described(name: str) -> dict[str, Any]:
    from upweight.plugins import GROUP, get_backend

    entries = entry_points(group=GROUP, name=name)
    told: dict[str, Any] = {
        "name": name,
        "distributions": sorted(f"{e.dist.name} {e.dist.version}" for e in entries if e.dist),
    }
    try:
        with warnings.catch_warnings():
            # The other plugins are loaded as well; those that are broken have their own lines.
            warnings.filterwarnings("ignore", message="Left out", category=RuntimeWarning)
            backend = get_backend(name)
    except Exception as error:  # whatever a plugin of others does wrong
        return {**told, "usable": False, "error": " ".join(str(error).split())}
    return {
        **told,
        "usable": True,
        "methods": sorted(backend.models),
        "capabilities": sorted(backend.capabilities),
    }


def _show(one: dict[str, Any]) -> None:
    write(f"{one['name']} ({', '.join(one['distributions']) or 'registered in this process'})")
    if not one["usable"]:
        write(f"  broken: {one['error']}")
        return
    write(f"  methods: {', '.join(one['methods']) or 'none'}")
    write(f"  capabilities: {', '.join(one['capabilities']) or 'none'}")
