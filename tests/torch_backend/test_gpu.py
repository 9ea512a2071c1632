"""Models on a GPU give the numbers they give on the CPU."""

import pytest
import torch
from torch.utils._pytree import tree_map
from torch_zoo import ZOO

from upweight_torch import CgInfluence, DirectInfluence, TorchNumpyConverter, TorchObjective

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CLOSE = {"rtol": 1e-8, "atol": 1e-8}


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_derivatives(case):
    found = []
    for device in ("cpu", "cuda"):
        objective = TorchObjective(case.model().to(device), case.loss)
        batch = tree_map(lambda leaf, device=device: leaf.to(device), case.batch(4))
        gradients = objective.gradients(batch)
        found.append([gradients.cpu(), objective.hessian(batch).cpu()])
    torch.testing.assert_close(*found, **CLOSE)


@pytest.mark.parametrize("method", [DirectInfluence, CgInfluence])
@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize("case", ZOO[:4], ids=str)
def test_influences_with_data_on_either_device(case, where, method):
    batch, found = case.batch(6), []
    for device, place in (("cpu", "cpu"), ("cuda", where)):
        there = tree_map(lambda leaf, place=place: leaf.to(place), batch)
        model = method(case.model().to(device), case.loss, regularization=5.0)
        found.append(model.fit([there], progress=False).influences(*there).cpu())
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_the_converter_moves_arrays_there_and_back():
    converter = TorchNumpyConverter(device="cuda")
    tensor = converter.from_numpy(torch.arange(3).numpy())
    assert (tensor.device.type, converter.to_numpy(tensor).tolist()) == ("cuda", [0, 1, 2])
