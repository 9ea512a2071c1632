"""Conversion between JAX and NumPy, and concatenation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upweight_jax import JaxCatAggregator, JaxNumpyConverter, NestedJaxCatAggregator

TYPES = ["float32", "float64", "int64", "int32", "uint8", "bool", "complex64"]
LAYOUTS = {
    "contiguous": lambda a: a,
    "transposed": lambda a: a.T,
    "strided": lambda a: a[:, ::2],
    "reversed": lambda a: a[::-1],
    "empty": lambda a: a[:0],
    "zero-dimensional": lambda a: a[0, 0, ...],
    "read-only": lambda a: np.broadcast_to(a[0], a.shape),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.fixture(params=[None, jax.devices("cpu")[0]], ids=["default", "cpu"])
def converter(request):
    return JaxNumpyConverter(device=request.param)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_round_trip_keeps_values_and_type(converter, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    again = converter.to_numpy(converter.from_numpy(array))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_every_layout_are_converted(converter, layout):
    array = LAYOUTS[layout](np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(converter.from_numpy(array), array)


def test_to_numpy_copies_nothing_on_the_cpu():
    array = jnp.arange(1000.0)
    view = JaxNumpyConverter().to_numpy(array)
    assert view.ctypes.data == array.unsafe_buffer_pointer()


def test_chunks_are_concatenated():
    chunks = [jnp.ones((2, 3)), jnp.zeros((1, 3))]
    assert JaxCatAggregator()(iter(chunks)).shape == (3, 3)


def test_rows_of_chunks_are_concatenated():
    rows = [[jnp.full((2, 1), i), jnp.full((2, 3), i)] for i in range(3)]
    joined = NestedJaxCatAggregator()(iter(rows))
    np.testing.assert_array_equal(joined[:, 0], [0, 0, 1, 1, 2, 2])
    assert joined.shape == (6, 4)


@pytest.mark.parametrize("aggregator", [JaxCatAggregator(), NestedJaxCatAggregator()])
def test_nothing_cannot_be_concatenated(aggregator):
    with pytest.raises(ValueError, match="no chunks"):
        aggregator([])
