"""Where arrays are written to, and what they are written from."""

import fsspec
import numpy as np
import pytest
from zarr.storage import MemoryStore


class Numpy:
    """The converter of arrays that are NumPy's already."""

    def to_numpy(self, x):
        return np.asarray(x)

    def from_numpy(self, x):
        return x


@pytest.fixture
def converter():
    return Numpy()


@pytest.fixture(params=["path", "pathlib", "url", "file url", "store"])
def target(request, tmp_path):
    """A place for an array, in each of the forms that a place may have."""
    forms = {
        "path": lambda: str(tmp_path / "results.zarr"),
        "pathlib": lambda: tmp_path / "results.zarr",
        "url": lambda: "memory://results.zarr",
        "file url": lambda: f"file://{tmp_path}/results.zarr",
        "store": MemoryStore,
    }
    yield forms[request.param]()
    fsspec.filesystem("memory").store.clear()
