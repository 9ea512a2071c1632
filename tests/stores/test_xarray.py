"""A group that was written with ids is a dataset of xarray."""

import numpy as np
import xarray
from calculators.problems import NumpyIdentity, dense, problem
from calculators.stored_runs import influences

MODEL, TEST, TRAIN = problem()


def test_xarray_opens_a_group(tmp_path):
    names = [f"t{i}" for i in range(7)]
    influences(MODEL, TEST, TRAIN).to_zarr(
        tmp_path / "r.zarr",
        NumpyIdentity(),
        component="influences",
        coords={"test": names, "train": range(100, 120)},
    )
    dataset = xarray.open_zarr(tmp_path / "r.zarr")
    assert dataset.influences.dims == ("test", "train")
    assert dataset.test.values.tolist() == names
    one = dataset.influences.sel(test="t3", train=107).values
    np.testing.assert_allclose(one, dense(MODEL, TEST, TRAIN)[3, 7], rtol=1e-10)
