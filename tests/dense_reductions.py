"""What reductions must give, from the whole matrix in NumPy, and matrices that are hard to order."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from upweight import ArgMax, ArgMin, BottomK, Max, Mean, Min, Sum, TopK

#: Each reduction, made for a number k, and the same of a dense matrix (k, n, *x).
REDUCTIONS = {
    "TopK": (TopK, lambda dense, k: ranked(dense, np.argsort(-dense, 1, kind="stable")[:, :k])),
    "BottomK": (
        BottomK,
        lambda dense, k: ranked(dense, np.argsort(dense, 1, kind="stable")[:, :k]),
    ),
    "ArgMax": (lambda k: ArgMax(), lambda dense, k: (dense.max(1), dense.argmax(1))),
    "ArgMin": (lambda k: ArgMin(), lambda dense, k: (dense.min(1), dense.argmin(1))),
    "Max": (lambda k: Max(), lambda dense, k: (dense.max(1),)),
    "Min": (lambda k: Min(), lambda dense, k: (dense.min(1),)),
    "Sum": (lambda k: Sum(), lambda dense, k: (dense.sum(1, dtype=np.longdouble),)),
    "Mean": (lambda k: Mean(), lambda dense, k: (dense.mean(1, dtype=np.longdouble),)),
}


def ranked(dense, order):
    return np.take_along_axis(dense, order, 1), order


def expected(name, dense, *, k, over="training"):
    """Return the arrays of a reduction of a dense matrix (k, n, *x)."""
    return REDUCTIONS[name][1](dense if over == "training" else np.swapaxes(dense, 0, 1), k)


def assert_reduced(name, result, desired):
    """Compare bit for bit, or sums, which are float64, to rounding."""
    arrays = result if isinstance(result, tuple) else (result,)
    assert len(arrays) == len(desired)
    for array, wanted in zip(arrays, desired, strict=True):
        if name in ("Sum", "Mean"):
            assert array.dtype == np.float64
            np.testing.assert_allclose(array, wanted.astype(float), rtol=1e-12, atol=1e-12)
        else:
            assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype)
            np.testing.assert_array_equal(array, wanted)


@st.composite
def cut_matrices(draw):
    """Draw a matrix (k, n) or (k, n, d) full of ties and signs, and how rows and columns are cut."""
    shape = (draw(st.integers(1, 7)), draw(st.integers(1, 25)), *draw(st.sampled_from([(), (2,)])))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    few = st.sampled_from([-2.5, -1.0, -0.0, 0.0, 0.125, 3.0])
    numbers = st.one_of(few, st.floats(-100, 100, width=32, allow_subnormal=False))
    matrix = draw(hnp.arrays(dtype, shape, elements=draw(st.sampled_from([few, numbers]))))
    return matrix, draw(cuts(shape[0])), draw(cuts(shape[1]))


@st.composite
def cuts(draw, n):
    """Draw sizes of the pieces that n samples are cut into."""
    ends = draw(st.sets(st.integers(1, n - 1))) if n > 1 else set()
    return tuple(int(size) for size in np.diff([0, *sorted(ends), n]))
