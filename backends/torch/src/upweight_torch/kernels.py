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

_lock = Lock()
_inside = 0
_found: list[bool] = []


@contextmanager
def twice_differentiable_kernels() -> Iterator[None]:
    """Have attention computed by plain matrix products while the block runs.

    The fused kernels have no second derivative. torch selects kernels by flags of the whole
    process, so the first thread that comes in sets them and the last one that leaves puts them
    back as they were.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _found[:] = [read() for read, _, _ in _FLAGS]
            for _, write, needed in _FLAGS:
                write(needed)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for (_, write, _), found in zip(_FLAGS, _found, strict=True):
                    write(found)
