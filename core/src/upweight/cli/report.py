"""`upweight report`: one HTML page about a stored result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upweight.cli.output import add_store, command, write, write_json

if TYPE_CHECKING:
    from upweight.cli.output import Commands


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(
        commands,
        "report",
        run,
        about="Write an HTML page about a result. It lists who speaks for and against each test\n"
        "sample, and suspicious training samples; it loads nothing from elsewhere. Samples,\n"
        "labels and predictions are files, .npy or text with one line a sample, in the order of\n"
        "the data; with them the page shows images, texts or rows of a table.",
        examples=[
            "upweight report influences.zarr -o page.html",
            "upweight report group.zarr --component influences -o page.html --test digit-3",
            "upweight report influences.zarr -o page.html --train-samples images.npy \\\n"
            "      --train-labels labels.npy",
        ],
        exit_codes="exit codes: 0 it is written; 2 wrong usage, or it cannot be read or written",
    )
    add_store(parser)
    parser.add_argument("-o", "--output", metavar="PAGE", required=True, help="the page, .html")
    parser.add_argument(
        "--test",
        metavar="SAMPLE",
        action="append",
        help="a test sample to show, by index or id as in `upweight top`; may be repeated "
        "(default: all, or the first 200)",
    )
    for name, what in (
        ("train-samples", "the training samples"),
        ("test-samples", "the test samples"),
        ("train-labels", "labels of the training samples"),
        ("test-labels", "labels of the test samples"),
        ("predictions", "what the model says of the test samples"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", help=what)
    parser.add_argument(
        "-k", type=int, default=10, help="most of each side of a test sample (default: %(default)s)"
    )
    parser.add_argument(
        "--suspects",
        metavar="N",
        type=int,
        default=50,
        help="most suspicious training samples (default: %(default)s)",
    )
    parser.add_argument("--title", help="of the page (default: it names the store)")
    parser.add_argument("--overwrite", action="store_true", help="replace a page that is there")
    parser.add_argument(
        "--incomplete", action="store_true", help="read what there is of a result that lacks blocks"
    )


def run(options: argparse.Namespace) -> int:
    """Write the page, and say where it is."""
    from upweight.report import write_report

    written = write_report(
        options.store,
        options.output,
        component=options.component,
        train_samples=_items(options.train_samples),
        test_samples=_items(options.test_samples),
        train_labels=_items(options.train_labels),
        test_labels=_items(options.test_labels),
        predictions=_items(options.predictions),
        tests=options.test,
        k=options.k,
        suspects=options.suspects,
        title=options.title,
        incomplete=options.incomplete,
        overwrite=options.overwrite,
        progress=False,
    )
    told = {
        "path": str(written.path),
        "tests": written.tests,
        "tests_in_result": written.tests_in_result,
        "suspects": written.suspects,
        "bytes": written.bytes,
    }
    if options.json:
        write_json(told)
    else:
        write(
            f"Wrote {told['path']}, {written.bytes:,} bytes: {written.tests} of "
            f"{written.tests_in_result} test samples, {written.suspects} suspicious samples."
        )
    return 0


def _items(path: str | None) -> Any:
    """Return what a file holds of each sample, an array that is read where it is indexed, or lines."""
    if path is None:
        return None
    if path.endswith(".npy"):
        import numpy as np

        return np.load(path, mmap_mode="r", allow_pickle=False)
    # Not `splitlines`, which ends lines at characters that may stand in a text.
    return Path(path).read_text("utf-8").removesuffix("\n").split("\n")
