"""Whether what a method is about to build fits into memory."""

from __future__ import annotations

from typing import Any

from upweight.errors import MemoryLimitError
from upweight.protocols import ReportsMemory

#: Bytes that every machine has: not worth the time to ask it.
ALWAYS_THERE = 2**28


def check_memory(
    needed: int, objective: Any, *, limit: int | None, what: str, instead: str
) -> None:
    """Refuse what does not fit.

    Args:
        needed: Bytes.
        objective: The objective on whose device they are needed.
        limit: Bytes that may be taken; by default what is free.
        what: What needs them, for the message.
        instead: What to use instead, for the message.

    Raises:
        MemoryLimitError: more is needed than there is.
    """
    if limit is None and needed <= ALWAYS_THERE:
        return
    available = _available(objective) if limit is None else limit
    if needed > available:
        from dask.utils import format_bytes

        raise MemoryLimitError(
            f"{what} about {format_bytes(needed)}; {format_bytes(available)} are available. {instead}"
        )


def _available(objective: Any) -> int:
    on_device = None
    if isinstance(objective, ReportsMemory):
        on_device = objective.available_memory()
    return _free_main_memory() if on_device is None else on_device


def _free_main_memory() -> int:
    import psutil
    from distributed.system import MEMORY_LIMIT  # knows the limit of a container

    return int(min(psutil.virtual_memory().available, MEMORY_LIMIT))
