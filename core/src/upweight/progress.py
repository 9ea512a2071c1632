"""Progress bars, in one place: how they look, how they nest, and the switch for all of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Seconds after which a bar below another one appears.
PATIENCE = 1.0

Advance = Callable[[int], object]


class _Switch:
    on = os.environ.get("UPWEIGHT_PROGRESS", "1").lower() not in ("0", "false", "no", "off")


class _Here(threading.local):
    """What is shown in this thread: the bars that are open, and what asked for bars or for none."""

    def __init__(self) -> None:
        self.bars: list[object] = []
        self.asked: list[_Asked] = []


@dataclass(frozen=True, eq=False)
class _Asked:
    show: bool


_here = _Here()


def set_progress(show: bool) -> None:
    """Show progress bars in this process, or none of them, from now on.

    A bar appears where both this and the `progress` of a call allow it. Whoever starts a program
    turns all bars off by `UPWEIGHT_PROGRESS=0` in its environment.

    Args:
        show: Whether there are bars.
    """
    _Switch.on = bool(show)


@contextmanager
def progress_bar(
    total: int | None, *, label: str, unit: str = "batch", show: bool = True
) -> Iterator[Advance]:
    """Show a bar on stderr while the block runs, and yield the function that advances it.

    Without a known total, it counts. A bar that is opened within another one goes away at its end.
    """
    with showing(show):
        if not _wanted():
            yield _nothing
            return
        with _bar(total, label=label, unit=unit, leave=not _here.bars, delay=0) as advance:
            yield advance


@contextmanager
def inner_bar(total: int | None, *, label: str, unit: str = "batch") -> Iterator[Advance]:
    """Show what takes long within something that shows bars; elsewhere, nothing.

    The bar appears after a second, below the one that is open, and goes away with the block.
    """
    if not _wanted():
        yield _nothing
        return
    with _bar(total, label=label, unit=unit, leave=False, delay=PATIENCE) as advance:
        yield advance


@contextmanager
def showing(show: bool) -> Iterator[None]:
    """Say whether what the block runs shows bars, within it."""
    asked, mine = _here.asked, _Asked(show)
    asked.append(mine)
    try:
        yield
    finally:
        asked.remove(mine)  # not always the last: a generator may end later than who called it


def _wanted() -> bool:
    return _Switch.on and bool(_here.asked) and _here.asked[-1].show


@contextmanager
def _bar(
    total: int | None, *, label: str, unit: str, leave: bool, delay: float
) -> Iterator[Advance]:
    from tqdm.auto import tqdm

    bars, mine = _here.bars, object()
    with tqdm(total=total, desc=label, unit=f" {unit}", leave=leave, delay=delay) as bar:
        bars.append(mine)
        try:
            yield bar.update
        finally:
            bars.remove(mine)


def _nothing(_: int) -> None:
    """Advance no bar."""


def length_of(items: object) -> int | None:
    """Return `len(items)`, or None where it is not known."""
    try:
        return len(items)  # type: ignore[arg-type]  # that it may have no length is the question
    except TypeError:
        return None
