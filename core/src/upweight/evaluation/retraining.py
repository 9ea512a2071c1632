"""Training again on subsets of the data: in parallel, several times each, and resumed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np

from upweight.errors import NonFiniteError
from upweight.evaluation.storing import outputs_for
from upweight.evaluation.subsets import checked_indices
from upweight.progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from upweight.stored import StoreLike

logger = logging.getLogger(__name__)

#: Trains on the samples of these indices, with this seed, and returns m measurements on test samples.
Train: TypeAlias = "Callable[[NDArray[np.int64], int], ArrayLike]"

#: Like the `map` of Python: applies a function to each item, here in any order.
Map: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Retrained:
    """What came out when a model was trained again.

    Attributes:
        subsets: Indices of the training samples of each subset, as many arrays as subsets.
        outputs: Measurements, (subsets, retrainings, m).
    """

    subsets: Sequence[NDArray[np.int64]]
    outputs: NDArray[np.float64]


class Job(NamedTuple):
    """One training."""

    place: tuple[int, int]
    subset: NDArray[np.int64]
    seed: int


def retrain(
    train: Train,
    subsets: Iterable[ArrayLike],
    *,
    retrainings: int = 1,
    seed: int = 0,
    store: StoreLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    map_jobs: Map = map,
    progress: bool = True,
) -> Retrained:
    """Train on each subset, and measure.

    Args:
        train: Called as `train(indices, seed)` with the indices of training samples in rising order;
            returns one number for each of m test samples, such as their losses. It has to take all
            its random numbers from the seed.
        subsets: Indices of the training samples of each subset, as from `random_subsets`.
        retrainings: How often to train on each subset. The j-th time has the seed `seed + j` for
            every subset, so that subsets differ in their data and not in their chance.
        seed: The first seed.
        store: Where each result is written as soon as it is there: a path, a URL that fsspec
            understands, or a Zarr store. Only in memory, if None.
        resume: Whether what an earlier run has written there is used, and the rest trained.
        overwrite: Whether what is there is replaced.
        settings: What tells this training from others, such as the learning rate, as JSON. A run with
            other settings does not go on where this one ended.
        map_jobs: Applies a function to all jobs, one after the other by default. In parallel with
            `concurrent.futures.ProcessPoolExecutor().map`, or `client.get_executor().map` on Dask;
            processes need a `train` that can be pickled. Results may come in any order.
        progress: Whether to show a bar.

    Raises:
        TypeError: a subset is no array of integers, or `map_jobs` returned something else than results.
        ValueError: a subset is empty or has a sample twice, `retrainings` is not positive, resuming
            is asked for without a store, or the number of measurements changes.
        NonFiniteError: a measurement is NaN or infinite; what came before is kept.
        FileExistsError: there is something at `store`, and neither `resume` nor `overwrite` is set.
        ResumeError: the stored run had other subsets, seeds, retrainings or settings.
    """
    chosen = [np.sort(checked_indices(subset)) for subset in subsets]
    if not chosen or retrainings < 1:
        raise ValueError(
            f"At least one subset is trained on at least once; got {len(chosen)} subsets and "
            f"retrainings={retrainings}."
        )
    shape = len(chosen), retrainings
    identity = {"subsets": _checksum(chosen), "seed": seed, "settings": dict(settings or {})}
    outputs = outputs_for(shape, identity, store, resume=resume, overwrite=overwrite)
    jobs = [
        Job((i, j), subset, seed + j)
        for i, subset in enumerate(chosen)
        for j in range(retrainings)
        if not outputs.has((i, j))
    ]
    if resume:
        logger.info("%d of %d trainings are still to be done", len(jobs), len(chosen) * retrainings)
    with progress_bar(len(jobs), label="Retraining", unit="run", show=progress) as advance:
        for place, measured in _results(map_jobs(partial(_run, train), jobs), len(jobs)):
            outputs.put(place, measured)
            advance(1)
    return Retrained(chosen, outputs.all())


def _run(train: Train, job: Job) -> tuple[tuple[int, int], NDArray[np.float64]]:
    """Train once. This function travels to other processes."""
    measured = np.asarray(train(job.subset, job.seed), dtype=np.float64)
    where = f"for subset {job.place[0]} with the seed {job.seed}"
    if measured.ndim != 1 or measured.size == 0:
        raise ValueError(
            "`train` must return one number for each test sample, of shape (m,); it returned "
            f"{measured.shape} {where}."
        )
    if not np.isfinite(measured).all():
        bad = np.flatnonzero(~np.isfinite(measured)).tolist()
        raise NonFiniteError(
            f"`train` returned NaN or infinity for test samples {bad[:10]} {where}. Results before "
            "it are kept where there is a store; mend the training, and resume."
        )
    return job.place, measured


def _results(found: Iterable[Any], expected: int) -> Iterator[Any]:
    """Yield results, and refuse what is not one."""
    count = 0
    for result in found:
        if not isinstance(result, tuple):
            raise TypeError(
                f"`map_jobs` must return results; got a {type(result).__name__!r}. Where it returns "
                "futures, as that of a Dask client does, pass `client.get_executor().map`."
            )
        count += 1
        yield result
    if count != expected:
        raise ValueError(f"`map_jobs` returned {count} results for {expected} trainings.")


def _checksum(subsets: Sequence[NDArray[np.int64]]) -> int:
    """Return a number that changes with any index, or with where a subset ends."""
    found = len(subsets)
    for subset in subsets:
        found = crc32(np.concatenate([[subset.size], subset]).astype("<i8").tobytes(), found)
    return found
