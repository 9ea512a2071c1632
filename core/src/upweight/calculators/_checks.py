"""What both calculators check before they start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upweight.errors import ModelError, NotFittedError, ThreadSafetyViolationError
from upweight.influence import InfluenceFunctionModel

if TYPE_CHECKING:
    from distributed import Client


def check_fitted(model: InfluenceFunctionModel[Any]) -> None:
    """Refuse a model that is not fitted.

    Raises:
        TypeError: this is no influence model.
        NotFittedError: the model is not fitted.
    """
    if not isinstance(model, InfluenceFunctionModel):
        raise TypeError(
            f"Pass an InfluenceFunctionModel, such as DirectInfluence; got {type(model).__name__!r}."
        )
    if not model.is_fitted:
        raise NotFittedError("Call `fit(data)` on the model before passing it to a calculator.")


def check_local(model: InfluenceFunctionModel[Any]) -> None:
    """Refuse a model that must stay where the client is.

    Raises:
        ModelError: its solves compute on a cluster.
    """
    if model.solves_on_workers:
        raise ModelError(
            f"A task cannot solve with this {type(model).__name__}, whose solves are sums over the "
            "workers themselves. Compute factors here, with `model.influence_factors`, and pass "
            "them to `influences_from_factors` of a calculator whose model is a GradientInfluence "
            "of the same network; or use SequentialInfluenceCalculator."
        )


def bytes_of(size: int | str) -> int:
    """Return a number of bytes, given as a number or as a string such as "2 GiB"."""
    if isinstance(size, str):
        from dask.utils import parse_bytes

        size = int(parse_bytes(size))
    if size <= 0:
        raise ValueError(f"`max_memory` must be positive; got {size}.")
    return size


def checked_client(client: Any) -> Client:
    """Return the client.

    Raises:
        TypeError: this is something else.
    """
    from distributed import Client

    if not isinstance(client, Client):
        raise TypeError(
            "`client` must be a distributed.Client, or the class DisableClientSingleThreadCheck "
            f"to use another scheduler; got {client!r}."
        )
    return client


def check_single_threaded(client: Client) -> None:
    """Refuse a cluster whose workers have several threads.

    Raises:
        ThreadSafetyViolationError: a worker has several threads.
    """
    threads = {worker: n for worker, n in client.nthreads().items() if n > 1}
    if threads:
        raise ThreadSafetyViolationError(
            f"The model is not thread-safe, and workers have several threads: {threads}. "
            "Start the cluster with threads_per_worker=1, or pass DisableClientSingleThreadCheck."
        )


def scattered(model: object, client: Client) -> Any:
    """Send a model to every worker and return the future of it.

    Raises:
        ModelError: it cannot be pickled.
    """
    try:
        return client.scatter(model, broadcast=True, hash=False)
    except TypeError as error:
        raise ModelError(
            "The model cannot be sent to the worker processes, because something that it or its "
            f"loss refers to cannot be pickled: {error.__cause__ or error}. Make that inside of "
            "the function that uses it, define model and loss in a module that the workers can "
            "import, or use threads: `Client(processes=False)`."
        ) from error
