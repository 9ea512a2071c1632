"""Results of known numbers, and what a page written from one holds."""

import json
import re
from itertools import accumulate, pairwise

import zarr
from calculators.problems import NumpyIdentity

from upweight import LazyChunkSequence, NestedLazyChunkSequence
from upweight.report import write_report

HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt; \u2028"]


def stored(values, store, *, rows=None, columns=None, **options):
    """Store influences (m, n), or numbers (n,), in blocks of the given sizes."""
    across = _slices(columns or [values.shape[-1]])

    def blocks():
        for some in _slices(rows or [len(values)]):
            yield ([values[some, part]] for part in across)

    if values.ndim == 1:
        lazy = LazyChunkSequence(lambda: (values[part] for part in across), progress=False)
        lazy.to_zarr(store, NumpyIdentity(), **options)
        named(store, ["sample"])
    else:
        lazy = NestedLazyChunkSequence(blocks, progress=False)
        lazy.to_zarr(store, NumpyIdentity(), **options)
    return store


def named(store, axes):
    """Name the axes of a stored array, as the calculators do."""
    path = store / "zarr.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "dimension_names": axes}))


def spoilt(store, place, component=None):
    """Make numbers of a stored result NaN."""
    zarr.open_array(store, path=component, mode="r+")[place] = float("nan")
    return store


def report(store, path, **options):
    """Write a page and return what its script shows, and its text."""
    written = write_report(store, path, progress=False, **options)
    text = path.read_text("utf-8")
    assert written.bytes == len(text.encode())
    return data_of(text), text


def data_of(text):
    """Return the data of a page, found as a browser finds it: up to the end of the element."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script', text, re.S)
    return json.loads(found)


def _slices(sizes):
    return [slice(start, stop) for start, stop in pairwise(accumulate(sizes, initial=0))]
