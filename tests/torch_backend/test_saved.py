"""Fitted models come back bit for bit, in other processes too, and on no other parameters."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from torch_zoo import ATTENTION, CONVOLUTION, MLP, TOKENS, case
from zarr.storage import MemoryStore

import upweight_torch
from upweight import load
from upweight.errors import DataError, ParametersError
from upweight.models import EkfacPreconditioner, JacobiPreconditioner, NystroemPreconditioner

pytestmark = pytest.mark.skipif(
    not entry_points(group="upweight.backends", name="torch"),
    reason="upweight-torch is not installed, only on the path",
)
SCRIPT = Path(__file__).with_name("load_elsewhere.py")

BLOCKS = {"block_structure": "layer_wise"}
GAUSS_NEWTON = {"second_order_mode": "gauss_newton"}
METHODS = {
    "direct": ("DirectInfluence", {}),
    "direct, by layer": ("DirectInfluence", BLOCKS),
    "cg": ("CgInfluence", {}),
    "cg, Jacobi": ("CgInfluence", BLOCKS | {"preconditioner": JacobiPreconditioner()}),
    "cg, Nyström": ("CgInfluence", GAUSS_NEWTON | {"preconditioner": NystroemPreconditioner(5)}),
    "cg, EK-FAC": ("CgInfluence", GAUSS_NEWTON | {"preconditioner": EkfacPreconditioner()}),
    "lissa": ("LissaInfluence", GAUSS_NEWTON),
    "arnoldi": ("ArnoldiInfluence", {"rank": 6}),
    "nystroem": ("NystroemSketchInfluence", GAUSS_NEWTON | {"rank": 6}),
    "ekfac": ("EkfacInfluence", {}),
    "ekfac, empirical": ("EkfacInfluence", {"fisher": "empirical", "corrected": False}),
    "gram": ("GramInfluence", {}),
    "gram, landmarks": ("GramInfluence", {"landmarks": 7, "directions": None}),
    "harmonic": ("InverseHarmonicMeanInfluence", {}),
    "gradient": ("GradientInfluence", {"normalize": True}),
}


def fitted(method, kind=MLP, dtype=torch.float64, n=20, **more):
    name, options = METHODS[method]
    damped = {} if name == "GradientInfluence" else {"regularization": 4.0}
    made = getattr(upweight_torch, name)
    influence = made(kind.model(dtype), kind.loss, **{**damped, **options, **more})
    data = [kind.batch(n, dtype)]
    return influence.fit(data, progress=False), data


def loaded(influence, model, loss, data=None, **options):
    store = MemoryStore()
    influence.save(store)
    return load(store, model, loss, data=data, **options)


def assert_same(first, second, test, train, modes=("up", "perturbation")):
    for mode in modes:
        was, now = (m.influences(*test, *train, mode=mode) for m in (first, second))
        assert torch.equal(was, now)
    assert torch.equal(first.self_influences(*test), second.self_influences(*test))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_loaded_is_what_was_saved(method, dtype):
    influence, data = fitted(method, dtype=dtype)
    again = loaded(influence, MLP.model(dtype), MLP.loss, data)
    assert type(again) is type(influence)
    assert again.describe() == influence.describe()
    assert_same(influence, again, MLP.batch(4, dtype, seed=1), data[0])
    first, second = (m.with_regularization(7.0) for m in (influence, again))
    assert_same(first, second, MLP.batch(4, dtype, seed=1), data[0])


@pytest.mark.parametrize("method", ["ekfac", "gram", "cg"])
@pytest.mark.parametrize("kind", [CONVOLUTION, ATTENTION, TOKENS, case("tied weights")], ids=str)
def test_other_networks(kind, method):
    influence, data = fitted(method, kind, n=8)
    again = loaded(influence, kind.model(), kind.loss, data)
    assert_same(influence, again, kind.batch(3, seed=1), data[0], modes=["up"])


def test_every_public_class_is_tried():
    classes = {name for name in upweight_torch.__all__ if name.endswith("Influence")}
    assert classes == {name for name, _ in METHODS.values()}


@pytest.mark.parametrize("method", ["ekfac", "gram", "cg, EK-FAC"])
def test_another_process_gives_the_same(method, tmp_path):
    influence, data = fitted(method)
    influence.save(tmp_path / "model")
    written = tmp_path / "influences.npz"
    subprocess.run([sys.executable, SCRIPT, tmp_path / "model", written], check=True)
    told, test = np.load(written), MLP.batch(4, seed=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for mode in ("up", "perturbation"):
        np.testing.assert_array_equal(told[mode], influence.influences(*test, *data[0], mode=mode))
    np.testing.assert_array_equal(told["own"], influence.self_influences(*test))
    torch.set_num_threads(threads)


def test_a_dask_worker_loads_by_path(tmp_path):
    distributed = pytest.importorskip("distributed")
    influence, data = fitted("ekfac")
    test = MLP.batch(4, seed=1)
    influence.save(tmp_path / "model")

    def influences(path, model, loss, test, train):
        import upweight

        return upweight.load(path, model, loss).influences(*test, *train)

    with distributed.Client(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as client:
        task = client.submit(
            influences, str(tmp_path / "model"), MLP.model(), MLP.loss, test, data[0]
        )
        found = task.result()
    torch.testing.assert_close(found, influence.influences(*test, *data[0]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("where", ["path", "memory url", "file url"])
def test_places(where, tmp_path):
    place = {
        "path": tmp_path / "model",
        "memory url": "memory://model.zarr",
        "file url": f"file://{tmp_path}/model",
    }[where]
    influence, data = fitted("ekfac")
    influence.save(place)
    assert_same(influence, load(place, MLP.model(), MLP.loss), MLP.batch(4, seed=1), data[0])
    fsspec.filesystem("memory").store.clear()


def test_a_measurement():
    def margin(output, y):
        return output[0, 0] - output[0, 1]

    influence, data = fitted("ekfac", measurement=margin)
    again = loaded(influence, MLP.model(), MLP.loss, measurement=margin)
    assert_same(influence, again, MLP.batch(4, seed=1), data[0])


def test_training_on_is_noticed():
    influence, _ = fitted("ekfac")
    model = MLP.model()
    with torch.no_grad():
        list(model.parameters())[-1][0] += 1e-9
    with pytest.raises(ParametersError, match="which has other values"):
        loaded(influence, model, MLP.loss)


def test_another_buffer_is_noticed():
    kind = CONVOLUTION
    influence, _ = fitted("gradient", kind)
    model = kind.model()
    next(b for n, b in model.named_buffers() if n.endswith("running_mean"))[0] += 1e-9
    with pytest.raises(ParametersError, match="running_mean"):
        loaded(influence, model, kind.loss)


def frozen(model, name):
    model.get_parameter(name).requires_grad_(False)
    return model


def test_frozen_parameters_must_be_the_same_and_may_be_free():
    name = next(iter(dict(MLP.model().named_parameters())))
    model, data = frozen(MLP.model(), name), [MLP.batch(20)]
    influence = upweight_torch.EkfacInfluence(model, MLP.loss).fit(data, progress=False)
    assert_same(influence, loaded(influence, MLP.model(), MLP.loss), MLP.batch(4), data[0])
    moved = frozen(MLP.model(), name)
    moved.get_parameter(name).data[0] += 1e-9
    with pytest.raises(ParametersError, match=name):
        loaded(influence, moved, MLP.loss)


def test_parameters_that_were_free_must_not_be_frozen():
    name = next(iter(dict(MLP.model().named_parameters())))
    influence, _ = fitted("ekfac")
    with pytest.raises(ParametersError, match="requires_grad"):
        loaded(influence, frozen(MLP.model(), name), MLP.loss)


def test_a_loader_that_shuffles_is_refused():
    x, y = MLP.batch(20)
    dataset = torch.utils.data.TensorDataset(x, y)
    ordered = torch.utils.data.DataLoader(dataset, batch_size=6)
    influence = upweight_torch.CgInfluence(MLP.model(), MLP.loss, regularization=4.0)
    influence.fit(ordered, progress=False)
    assert_same(influence, loaded(influence, MLP.model(), MLP.loss, ordered), (x, y), (x, y))
    shuffled = torch.utils.data.DataLoader(dataset, batch_size=6, shuffle=True)
    with pytest.raises(DataError, match="batch 0 differs"):
        loaded(influence, MLP.model(), MLP.loss, shuffled)


def test_half_precision_buffers_are_told_apart():
    class Shifted(torch.nn.Linear):
        def __init__(self, by):
            super().__init__(3, 2, dtype=torch.float64)
            self.register_buffer("shift", torch.full((2,), by, dtype=torch.bfloat16))
            torch.nn.init.ones_(self.weight)
            torch.nn.init.ones_(self.bias)

        def forward(self, x):
            return super().forward(x) + self.shift

    loss = torch.nn.functional.mse_loss
    influence = upweight_torch.GradientInfluence(Shifted(1.0), loss).fit()
    assert loaded(influence, Shifted(1.0), loss).is_fitted
    with pytest.raises(ParametersError, match="'shift', which has other values"):
        loaded(influence, Shifted(2.0), loss)
