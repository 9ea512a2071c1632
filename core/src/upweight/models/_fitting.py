"""What is shown and logged while a model is fitted."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from upweight.progress import showing

logger = logging.getLogger(__name__)


@contextmanager
def fitting(method: str, *, parameters: int, blocks: int, progress: bool) -> Iterator[None]:
    """Let the block that fits a model show progress, and log what it did.

    Args:
        method: Name of the method.
        parameters: Number of parameters.
        blocks: Number of blocks that they are divided into.
        progress: Whether bars are shown.
    """
    start = time.perf_counter()
    with showing(progress):
        yield
    seconds = time.perf_counter() - start
    logger.info(
        "%s: fitted %d parameters in %d blocks in %.1f s", method, parameters, blocks, seconds
    )
