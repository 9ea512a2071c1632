"""Checksums of parameters and training data, by which a saved model knows them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace, is_jax_array, to_device

from upweight.checks import as_batch, batch_size
from upweight.errors import DataError, ParametersError
from upweight.trees import Batch, Tree, leaves, map_leaves

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Parameters that an error names.
NAMED = 3


def as_numpy(array: Any) -> NDArray[Any]:
    """Return the values of an array of any framework, on any device."""
    if not is_jax_array(array):  # JAX arrays go to NumPy from any device, and have no "cpu" device
        array = to_device(array, "cpu")
    try:
        return np.asarray(array)
    except TypeError:  # a type that NumPy does not have, such as bfloat16
        xp = array_namespace(array)
        return np.asarray(xp.astype(array, xp.float32))


def digest(values: NDArray[Any]) -> str:
    """Return a checksum of values, shape and type, as hexadecimal digits."""
    running = _started(values.dtype, values.shape)
    running.update(_raw(values))
    digits: str = running.hexdigest()
    return digits


def parameter_records(values: Iterable[tuple[str, NDArray[Any]]]) -> list[dict[str, Any]]:
    """Return name, shape, type and checksum of each parameter, as JSON."""
    return [
        {
            "name": name,
            "shape": list(value.shape),
            "dtype": value.dtype.name,
            "digest": digest(value),
        }
        for name, value in values
    ]


def check_parameters(saved: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> None:
    """Refuse parameters that are not those that were saved.

    Raises:
        ParametersError: a parameter differs, is missing or was not there.
    """
    then, present = ({record["name"]: record for record in each} for each in (saved, now))
    differing = [
        f"{name!r}, {_difference(then.get(name), present.get(name))}"
        for name in {**then, **present}
        if then.get(name) != present.get(name)
    ]
    if differing:
        more = f"; and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
        raise ParametersError(
            "The model is not the one that was fitted and saved. Its parameters and buffers "
            f"differ: {'; '.join(differing[:NAMED])}{more}. Load the weights that it had "
            "then, or fit this model."
        )


def data_records(batches: Iterable[Batch[Any]]) -> list[dict[str, Any]]:
    """Return, for each batch, the number of samples up to its end and a checksum of all of them."""
    running = _Running()
    return [running.add(batch) for batch in batches]


def check_data(
    saved: Sequence[Mapping[str, Any]], data: Iterable[Any], *, same_batches: bool
) -> None:
    """Refuse training data that is not that of the fit.

    Args:
        saved: What `data_records` returned.
        data: The batches.
        same_batches: Whether the samples must fall into the same batches, too.

    Raises:
        DataError: a sample differs, there are fewer or more of them, or batches have other sizes.
    """
    ends = [record["samples"] for record in saved]
    found: list[int] = []
    running = _Running()
    for item in data:
        x, y = as_batch(item)
        begin, end = running.samples, running.samples + batch_size(x, y)
        found.append(end)
        cuts = [begin, *(cut for cut in ends if begin < cut < end), end]
        for start, stop in pairwise(cuts):
            piece = slice(start - begin, stop - begin)
            now = running.add((_rows(x, piece), _rows(y, piece)))
            if stop in ends and now != saved[ends.index(stop)]:
                first = ends.index(stop)
                raise _other_data(f"batch {first} differs, which ended with sample {stop - 1}")
    if running.samples != ends[-1]:
        raise _other_data(f"it has {running.samples} samples, and had {ends[-1]}")
    if same_batches and found != ends:
        raise DataError(
            f"The batches of the training data end after {found} samples, and those of the fit "
            f"that was saved after {ends}; this method depends on them. Pass the same batches."
        )


def _other_data(where: str) -> DataError:
    return DataError(
        f"The training data is not that of the fit that was saved: {where}. Pass the same "
        "samples in the same order, unshuffled and without random augmentation."
    )


def _rows(tree: Tree[Any], rows: slice) -> Tree[Any]:
    return map_leaves(lambda leaf: leaf[rows, ...], tree)


class _Running:
    """Checksums of samples that come in pieces: however they are cut, the last one is the same."""

    def __init__(self) -> None:
        self.samples = 0
        self._hashes: list[Any] = []

    def add(self, batch: Batch[Any]) -> dict[str, Any]:
        """Take in more samples, and return what is known of all so far."""
        arrays = [as_numpy(leaf) for tree in batch for leaf in leaves(tree)]
        if not self._hashes:
            names = [
                list(tree) if isinstance(tree, Mapping) else len(leaves(tree)) for tree in batch
            ]
            self._hashes = [_started(values.dtype, (names, values.shape[1:])) for values in arrays]
        for running, values in zip(self._hashes, arrays, strict=False):
            running.update(_raw(values))
        self.samples += batch_size(*batch)
        whole = blake2b(b"".join(one.digest() for one in self._hashes), digest_size=16)
        return {"samples": self.samples, "digest": whole.hexdigest()}


def _difference(then: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    if then is None or now is None:
        return "which was not there" if then is None else "which is missing"
    kinds = [f"{tuple(record['shape'])} {record['dtype']}" for record in (then, now)]
    return "which has other values" if kinds[0] == kinds[1] else f"{kinds[0]} then, {kinds[1]} now"


def _started(dtype: np.dtype[Any], shape: object) -> Any:
    return blake2b(f"{dtype.name}{shape}".encode(), digest_size=16)


def _raw(values: NDArray[Any]) -> bytes:
    return (values.byteswap() if values.dtype.byteorder == ">" else values).tobytes()
