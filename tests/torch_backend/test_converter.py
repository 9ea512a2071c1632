"""Conversion between tensors and NumPy, and concatenation of tensors."""

import numpy as np
import pytest
import torch

from upweight_torch import NestedTorchCatAggregator, TorchCatAggregator, TorchNumpyConverter

TYPES = ["float32", "float64", "int64", "int32", "uint8", "bool", "complex64"]
LAYOUTS = {
    "contiguous": lambda a: a,
    "transposed": lambda a: a.T,
    "strided": lambda a: a[:, ::2],
    "reversed": lambda a: a[::-1],
    "empty": lambda a: a[:0],
    "scalar": lambda a: a[0, 0],
    "zero-dimensional": lambda a: a[0, 0, ...],
    "read-only": lambda a: np.broadcast_to(a[0], a.shape),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.fixture(params=[None, "cpu", torch.device("cpu")], ids=str)
def converter(request):
    return TorchNumpyConverter(device=request.param)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_round_trip_keeps_values_and_type(converter, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    again = converter.to_numpy(converter.from_numpy(array))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_every_layout_become_tensors(converter, layout):
    array = LAYOUTS[layout](np.arange(12.0).reshape(3, 4))
    tensor = converter.from_numpy(array)
    assert tensor.dtype == torch.float64
    assert tensor.tolist() == array.tolist()


def test_a_tensor_does_not_share_memory_with_the_array_it_came_from(converter):
    array = np.zeros(3)
    converter.from_numpy(array).add_(1)
    np.testing.assert_array_equal(array, np.zeros(3))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0, requires_grad=True),
        torch.arange(6.0).reshape(2, 3).T,
        torch.zeros(0, 3),
        torch.tensor(1.5),
        torch.tensor([1 + 2j]).conj(),
        torch.tensor([1 + 2j]).conj().imag,
        torch.zeros(1).expand(4),
    ],
    ids=["graph", "transposed", "empty", "scalar", "conjugate", "negative", "expanded"],
)
def test_tensors_of_every_kind_become_arrays(converter, tensor):
    array = converter.to_numpy(tensor)
    assert isinstance(array, np.ndarray)
    assert array.tolist() == tensor.tolist()


def test_tensors_go_to_the_device():
    assert TorchNumpyConverter(device="meta").from_numpy(np.zeros(2)).device.type == "meta"


def test_without_a_device_they_go_to_the_default_one():
    with torch.device("meta"):
        assert TorchNumpyConverter().from_numpy(np.zeros(2)).device.type == "meta"


def test_an_unknown_device_is_refused_at_once():
    with pytest.raises(RuntimeError, match="device"):
        TorchNumpyConverter(device="nowhere")


def test_chunks_are_joined_along_the_samples():
    chunks = [torch.ones(2, 3), torch.zeros(1, 3)]
    assert torch.equal(TorchCatAggregator()(iter(chunks)), torch.cat(chunks))


@pytest.mark.parametrize("trailing", [(), (4,), (2, 2)])
def test_rows_of_chunks_are_joined_to_the_whole(trailing):
    whole = torch.arange(5 * 7 * max(1, 4 ** bool(trailing))).reshape(5, 7, *trailing)
    rows = (iter(row.split([3, 3, 1], dim=1)) for row in whole.split([2, 2, 1]))
    assert torch.equal(NestedTorchCatAggregator()(rows), whole)


@pytest.mark.parametrize(
    ("aggregator", "nothing"),
    [
        (TorchCatAggregator(), []),
        (NestedTorchCatAggregator(), []),
        (NestedTorchCatAggregator(), [[]]),
    ],
)
def test_nothing_cannot_be_joined(aggregator, nothing):
    with pytest.raises(ValueError, match="no chunks"):
        aggregator(nothing)
