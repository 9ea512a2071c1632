"""Results in an object store: written there, resumed there, safe when the connection breaks."""

import numpy as np
import pytest
from calculators.dask_problems import calculator, dask_batch
from calculators.problems import NumpyIdentity, dense, forget, problem
from calculators.stored_runs import influences, interrupted, tiny

from upweight import IncompleteResultError, open_result

URL = "s3://results/influences.zarr"
MODEL, TEST, TRAIN = problem()
EXPECTED = dense(MODEL, TEST, TRAIN)

pytestmark = pytest.mark.usefixtures("server")


def test_a_run_that_broke_off_is_resumed():
    lazy = tiny(influences)(MODEL, TEST, TRAIN)
    interrupted(lazy, URL, after=7)
    with pytest.raises(IncompleteResultError, match="7 of about 12 blocks"):
        open_result(URL)
    forget(MODEL)
    stored = lazy.to_zarr(URL, NumpyIdentity(), True, resume=True)
    computed = [call for call in MODEL.calls if call[0] == "influences"]
    assert len(computed) == 1 + 12 - 7  # the first values are compared
    np.testing.assert_allclose(stored[...], EXPECTED, rtol=1e-10)


def test_dask_workers_write_there():
    calc = calculator(MODEL)
    lazy = calc.influences(*dask_batch(TEST, 2), *dask_batch(TRAIN, 7))
    calc.to_zarr(lazy, URL, component="influences", coords={"train": range(20)}, progress=False)
    np.testing.assert_allclose(open_result(URL, "influences")[...], EXPECTED, rtol=1e-10)


def test_a_lost_connection_is_an_error_and_loses_nothing_that_was_written(server):
    class Losing(NumpyIdentity):
        chunks = 0

        def to_numpy(self, x):
            self.chunks += 1
            if self.chunks == 7:
                server.stop()
            return x

    lazy = tiny(influences)(MODEL, TEST, TRAIN)
    with pytest.raises(Exception, match=r"(?i)connect"):
        lazy.to_zarr(URL, Losing())
    server.start()
    assert not open_result(URL, incomplete=True).attrs["upweight"]["complete"]
    forget(MODEL)
    stored = lazy.to_zarr(URL, NumpyIdentity(), True, resume=True)
    computed = [call for call in MODEL.calls if call[0] == "influences"]
    assert len(computed) == 1 + 12 - 6
    np.testing.assert_allclose(stored[...], EXPECTED, rtol=1e-10)
