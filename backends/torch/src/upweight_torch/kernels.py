"""Attention by kernels that can be differentiated twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import torch.backends.cuda as sdp  # despite its name it rules attention on the CPU, too
from torch.backends import mha

#: For each flag: how it is read, how it is set, and what it must be.
_FLAGS: tuple[tuple[Callable[[], bool], Callable[[bool], None], bool], ...] = (
    (sdp.math_sdp_enabled, sdp.enable_math_sdp, True),
    (sdp.flash_sdp_enabled, sdp.enable_flash_sdp, False),
    (sdp.mem_efficient_sdp_enabled, sdp.enable_mem_efficient_sdp, False),
    (sdp.cudnn_sdp_enabled, sdp.enable_cudnn_sdp, False),
    (mha.get_fastpath_enabled, mha.set_fastpath_enabled, False),
)


class _Flags:
    """The flags as they were found, and how many threads are inside."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.inside = 0
        self.found: list[bool] = []

    def enter(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.found = [read() for read, _, _ in _FLAGS]
                for _, write, needed in _FLAGS:
                    write(needed)
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                for (_, write, _), found in zip(_FLAGS, self.found, strict=True):
                    write(found)


_flags = _Flags()


@contextmanager
def twice_differentiable_kernels() -> Iterator[None]:
    """Have attention computed by plain matrix products while the block runs.

    The fused kernels have no second derivative. torch selects kernels by flags of the whole
    process, so the first thread that comes in sets them and the last one that leaves puts them
    back as they were.
    """
    _flags.enter()
    try:
        yield
    finally:
        _flags.leave()
