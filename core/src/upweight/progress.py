"""Progress bars, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    total: int | None, *, label: str, show: bool = True
) -> Iterator[Callable[[int], object]]:
    """Show a bar on stderr while the block runs, and yield the function that advances it.

    Without a known total, or with `show=False`, there is no bar.
    """
    if not show or total is None:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label) as bar:
        yield bar.update


def length_of(items: object) -> int | None:
    """Return `len(items)`, or None where it is not known."""
    try:
        return len(items)  # type: ignore[arg-type]  # that it may have no length is the question
    except TypeError:
        return None
