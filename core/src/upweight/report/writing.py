"""A stored result, written as a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upweight.errors import DataError
from upweight.finding import axes_of, ids_at, influences_at, rows_of
from upweight.progress import progress_bar
from upweight.report._contents import Given
from upweight.report._data import influence_data, value_data
from upweight.report._page import page
from upweight.report._ranking import rank_samples, rank_tests
from upweight.stored import notes_of

if TYPE_CHECKING:
    import zarr

    from upweight.stored import StoreLike

#: So many test samples are shown if the caller does not choose.
FIRST = 200


@dataclass(frozen=True)
class WrittenReport:
    """What was written.

    Attributes:
        path: Of the page.
        tests: Number of test samples shown.
        tests_in_result: Number of test samples of the result.
        suspects: Number of suspicious training samples shown.
        bytes: Size of the page.
    """

    path: Path
    tests: int
    tests_in_result: int
    suspects: int
    bytes: int


def write_report(
    store: StoreLike,
    path: str | os.PathLike[str],
    *,
    component: str | None = None,
    train_samples: Any = None,
    test_samples: Any = None,
    train_labels: Any = None,
    test_labels: Any = None,
    predictions: Any = None,
    columns: Sequence[str] | None = None,
    tests: Sequence[str | int] | None = None,
    k: int = 10,
    suspects: int = 50,
    title: str | None = None,
    incomplete: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> WrittenReport:
    """Write one HTML page about a stored result, which loads nothing from elsewhere.

    Proponents are the training samples of the largest positive influences, more weight on which
    lowers the loss of the test sample; opponents are those of the largest negative ones. Suspicious
    are training samples whose mean influence on all test samples is the lowest, and negative. A
    result with one number a sample, such as self-influences, has the largest listed, and nothing else.

    The result is read block by block. Numbers that are NaN or infinite are left out, and told. Of
    samples, those that are shown are read, one by one; it is their text and pixels that the page
    holds, so give it to nobody who may not see them.

    Args:
        store: What `to_zarr` was given.
        path: Of the page, by custom ending in .html. It is there as a whole, or not at all.
        component: What `to_zarr` was given. Ids that were stored with the result are shown.
        train_samples: The training samples: images (n, h, w) or (n, h, w, c) of 1, 3 or 4 channels; n
            texts; or rows of a table (n, d). Anything with a length that an integer indexes, which may
            read samples when asked for them. Images are shown in at most 96 pixels a side, texts in
            at most 600 characters. For a result (n,), its samples.
        test_samples: Likewise, the test samples.
        train_labels: One for each training sample, (n,), of any type.
        test_labels: One for each test sample.
        predictions: What the model says of each test sample.
        columns: Names of the columns of a table; those of a data frame are known.
        tests: The test samples to show, by index, or by id where they have ids; by default all, or
            the first 200 where there are more, which the page then says.
        k: Most proponents, and most opponents, of each.
        suspects: Most suspicious training samples. With 0 there are none, and only influences on the
            test samples that are shown are read.
        title: Of the page; by default it names the store.
        incomplete: Whether a result that lacks blocks may be read.
        overwrite: Whether a file that is there may be replaced.
        progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: there is no result, or no folder for the page.
        FileExistsError: there is a file at `path`.
        IncompleteResultError: the result is not complete.
        ValueError: what is there has no influences to rank, as with mode "perturbation", or an
            argument does not fit to it.
        TypeError: samples or labels are of no kind that can be shown.
        DataError: there is no number but NaN.
    """
    target = _target(path, overwrite=overwrite)
    _check_count("k", k, least=1)
    _check_count("suspects", suspects, least=0)
    array = influences_at(store, component, incomplete=incomplete)
    if 0 in array.shape:
        raise DataError(f"The result has shape {array.shape}: there is nothing to report.")
    train = Given(train_samples, train_labels, None, columns)
    test = Given(test_samples, test_labels, predictions, columns)
    complete = bool(notes_of(array).get("complete", False))
    train.check("train", array.shape[-1], complete=complete)
    last_axis = axes_of(array)[-1] or ""
    train_ids = ids_at(store, component, last_axis)
    if array.ndim == 1:
        _check_without_tests(test, tests, suspects)
        with progress_bar(1, label="Report", unit="row", show=progress) as advance:
            ranked, left_out = rank_samples(array, suspects)
            advance(1)
        data = value_data(array, ranked, left_out, train, train_ids)
    else:
        test.check("test", array.shape[0], complete=complete)
        test_ids = ids_at(store, component, "test")
        chosen = _chosen(tests, test_ids, array.shape[0])
        with progress_bar(array.shape[0], label="Report", unit="row", show=progress) as advance:
            rankings, ranked = rank_tests(array, chosen, k, suspects, advance)
        if tests is None and not complete:  # rows of which nothing is written may be no samples
            rankings = [one for one in rankings if one.left_out < array.shape[1]]
        known = (test, test_ids), (train, train_ids)
        data = influence_data(array, rankings, ranked, *known, k=k, want_suspects=suspects > 0)
    written = _write(target, page(array, data, title=title or _title(store)))
    return WrittenReport(
        path=target,
        tests=len(data.embedded["tests"]),
        tests_in_result=array.shape[0] if array.ndim == 2 else 0,
        suspects=len(ranked),
        bytes=written,
    )


def _target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {target.parent} to write {target.name} to.")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; give the path of a file, page.html.")
    if target.exists() and not overwrite:
        raise FileExistsError(f"There is a file at {target} already; allow it to be overwritten.")
    return target


def _check_count(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be an integer; got {value!r}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}; got {value}.")


def _check_without_tests(test: Given, tests: object, suspects: int) -> None:
    """Refuse arguments that are about test samples, for a result that has none."""
    given = {"test_samples": test.samples, "test_labels": test.labels, "tests": tests}
    given["predictions"] = test.predictions
    if wrong := [name for name, value in given.items() if value is not None]:
        raise ValueError(
            f"The result has one number a sample and no test samples; leave out {', '.join(wrong)}."
        )
    if not suspects:
        raise ValueError("The page would be empty: `suspects`, how many are listed, is 0.")


def _chosen(
    tests: Sequence[str | int] | None, ids: zarr.Array[Any] | None, n: int
) -> Sequence[int]:
    """Return the indices of the test samples to show, each once."""
    if isinstance(tests, str):
        raise TypeError(f"`tests` must be several test samples; got one string, {tests!r}.")
    if tests is None:
        return range(min(FIRST, n))
    if not len(tests):
        raise ValueError("`tests` names no test sample.")
    return list(dict(rows_of(tests, ids, n)))


def _title(store: StoreLike) -> str:
    # No folders: the page may be handed on to people whom they do not concern.
    if isinstance(store, str | os.PathLike):
        return f"Report on {Path(store).name}"
    return "Report on influences"


def _write(target: Path, text: bytes) -> int:
    """Write a file beside the target and put it in its place."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return len(text)
