"""`upweight top`: the training samples that matter most to one test sample."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from upweight.cli.output import add_store, command, write, write_json, write_table

if TYPE_CHECKING:
    from upweight.cli.output import Commands
    from upweight.cli.ranking import Ranking


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(
        commands,
        "top",
        run,
        about="List the largest influences on a test sample. Also, without --test, the largest of a\n"
        "result with one number a sample, such as self-influences. One row is read, block by\n"
        "block. Samples that are NaN (marked, or not written yet) are left out and counted.",
        examples=[
            "upweight top influences.zarr --test 3 -k 10",
            "upweight top influences.zarr --test 3 --bottom",
            "upweight top group.zarr --component influences --test digit-3",
            "upweight top self_influences.zarr -k 20 --json",
        ],
        exit_codes="exit codes: 0 fine; 1 there is no number to list, as all are NaN;\n"
        "2 wrong usage, or it cannot be read",
    )
    add_store(parser)
    parser.add_argument(
        "--test",
        metavar="SAMPLE",
        help="the test sample: its index from 0; where there are ids beside the result, its id, or "
        "else its index if ids are no integers",
    )
    parser.add_argument("-k", type=int, default=10, help="how many to list (default: %(default)s)")
    parser.add_argument("--bottom", action="store_true", help="list the smallest, not the largest")
    parser.add_argument(
        "--incomplete", action="store_true", help="read what there is of a result that lacks blocks"
    )


def run(options: argparse.Namespace) -> int:
    """List the samples, and return 1 if there is none with a number."""
    from upweight.cli.ranking import ranked

    ranking = ranked(
        options.store,
        options.component,
        options.test,
        options.k,
        bottom=options.bottom,
        incomplete=options.incomplete,
    )
    if options.json:
        write_json(_as_dict(ranking))
    else:
        _show(ranking)
    return 0 if ranking.indices else 1


def _as_dict(ranking: Ranking) -> dict[str, Any]:
    ids = ranking.ids or [None] * len(ranking.indices)
    samples = [
        {"index": index, **({} if ranking.ids is None else {"id": name}), "value": value}
        for index, name, value in zip(ranking.indices, ids, ranking.values, strict=True)
    ]
    test = None if ranking.test is None else {"index": ranking.test, "id": ranking.test_id}
    return {
        "test": test,
        "order": "smallest first" if ranking.bottom else "largest first",
        "samples": samples,
        "left_out": ranking.left_out,
        "complete": ranking.complete,
    }


def _show(ranking: Ranking) -> None:
    extreme = "Smallest" if ranking.bottom else "Largest"
    name = "" if ranking.test_id is None else f" ({ranking.test_id})"
    on = "" if ranking.test is None else f" influences on test sample {ranking.test}{name}"
    write(f"{extreme}{on or ' values'}:" if ranking.indices else "There are no numbers.")
    numbers = [f"{value:.6g}" for value in ranking.values]
    if ranking.ids is None:
        rows: list[tuple[object, ...]] = [("index", "value")]
        rows += zip(ranking.indices, numbers, strict=True)
    else:
        rows = [("index", "id", "value")]
        rows += zip(ranking.indices, ranking.ids, numbers, strict=True)
    if ranking.indices:
        write_table(rows)
    if ranking.left_out:
        why = "marked" if ranking.complete else "marked, or not written yet"
        write(f"Left out: {ranking.left_out} of {ranking.n} samples, which are NaN ({why}).")
    elif not ranking.complete:
        write("The result is not complete.")
