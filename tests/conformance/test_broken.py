"""Backends that are broken on purpose fail, each in the group that is about what is broken."""

import sys
from threading import get_ident

import numpy as np
import pytest
from conformance.handmade import Handmade, NumpyConverter, Plugin, cross_entropy

from upweight import plugins
from upweight.models import DirectInfluence
from upweight.testing.running import run


class SumForMean(Handmade):
    def hessian_product(self, rows, batch):
        return super().hessian_product(rows, batch) * len(batch[0])


class TransposedJacobian(Handmade):
    def outer(self, x, u):
        pieces = super().outer(x, u)
        return {name: np.swapaxes(piece, 1, -1) for name, piece in pieces.items()}


class FisherForGaussNewton(Handmade):
    def gauss_newton_product(self, rows, batch):
        gradients = self.gradients(batch)
        return rows @ gradients.T @ gradients / len(gradients)


class SquaredProducts(Handmade):
    def inner_products(self, rows, batch):
        return super().inner_products(rows, batch) ** 2


class LabelsDrawnAfresh(Handmade):
    def sampled_directions(self, batch, rng):
        return super().sampled_directions(batch, np.random.default_rng(0))


class OneParameterTold(Handmade):
    def parameter_values(self):
        yield from list(super().parameter_values())[:1]


class GradientLeftBehind(Handmade):
    def gradients(self, batch):
        self.model.grad = super().gradients(batch)
        return self.model.grad


class WeightsMoved(Handmade):
    def gradients(self, batch):
        self.model.weights["head.bias"] += 1e-3
        return super().gradients(batch)


class InputMoved(Handmade):
    def input_gradients(self, rows, batch):
        result = super().input_gradients(rows, batch)
        batch[0][...] += 1e-3
        return result


class RowsMoved(Handmade):
    def hessian_product(self, rows, batch):
        result = super().hessian_product(rows, batch)
        rows *= 2
        return result


class GlobalSeed(Handmade):
    def losses(self, batch):
        np.random.seed(0)  # noqa: NPY002  # what it must not do
        return super().losses(batch)


class NanSwallowed(Handmade):
    def losses(self, batch):
        return np.nan_to_num(super().losses(batch))


class AnyLoss(Handmade):
    def __init__(self, network, loss):
        super().__init__(network, cross_entropy)


class NotTheSame(Handmade):
    def gradients(self, batch):
        return super().gradients(batch) + 1e-12 * np.random.default_rng().random()


class LastCallerKept(Handmade):
    """What one thread leaves on the object is taken up by the next."""

    last = None

    def gradients(self, batch):
        disturbed = self.last not in {None, get_ident()}
        self.last = get_ident()
        return super().gradients(batch) * (2 if disturbed else 1)


class ParametersLookedUp(Handmade):
    """The weights are those of the model at the time of a call."""

    def __init__(self, network, loss):
        super().__init__(network, loss)
        self.values = network.weights


class Traced(np.ndarray):
    """An array that still belongs to a graph."""


class GraphKept(NumpyConverter):
    def to_numpy(self, x):
        return np.asarray(x).view(Traced)


class Rounded(NumpyConverter):
    def from_numpy(self, x):
        return x.astype(np.float32) if x.dtype == np.float64 else x


def undamped(model, loss, *, regularization, **options):
    return DirectInfluence(Handmade(model, loss), regularization=regularization / 100, **options)


def from_the_end(chunks):
    return np.concatenate(list(chunks)[::-1])


CLAIMED = Plugin().backend.capabilities

#: By name: the group and the test that must fail, and what is broken.
BROKEN = {
    "sum for mean": ("primitives", "test_hessian_product", {"objective": SumForMean}),
    "transposed Jacobian": ("primitives", "test_gradients", {"objective": TransposedJacobian}),
    "Fisher for Gauss-Newton": (
        "primitives",
        "test_gauss_newton_product",
        {"objective": FisherForGaussNewton},
    ),
    "not linear": (
        "primitives",
        "test_products_are_linear_in_the_rows",
        {"objective": SquaredProducts},
    ),
    "labels drawn afresh": (
        "primitives",
        "test_sampled_directions_do_not_depend_on_the_batches",
        {"objective": LabelsDrawnAfresh},
    ),
    "gradient left behind": (
        "conduct",
        "test_the_model_stays_as_it_was",
        {"objective": GradientLeftBehind},
    ),
    "mutated weights": (
        "conduct",
        "test_the_model_stays_as_it_was",
        {"objective": WeightsMoved},
    ),
    "mutated input": (
        "conduct",
        "test_batches_and_rows_stay_as_they_were",
        {"objective": InputMoved},
    ),
    "mutated rows": (
        "conduct",
        "test_batches_and_rows_stay_as_they_were",
        {"objective": RowsMoved},
    ),
    "global seed": (
        "conduct",
        "test_global_settings_stay_as_they_were",
        {"objective": GlobalSeed},
    ),
    "NaN swallowed": (
        "conduct",
        "test_samples_that_are_not_a_number_are_named",
        {"objective": NanSwallowed},
    ),
    "any loss": (
        "conduct",
        "test_a_loss_that_sums_over_the_samples_is_refused",
        {"objective": AnyLoss},
    ),
    "not the same again": (
        "conduct",
        "test_the_same_call_gives_the_same_bits",
        {"objective": NotTheSame},
    ),
    "not thread-safe": (
        "conduct",
        "test_threads_may_call_at_once",
        {"objective": LastCallerKept},
    ),
    "parameters looked up": (
        "conduct",
        "test_later_training_of_the_model_does_not_show",
        {"objective": ParametersLookedUp},
    ),
    "graph kept": ("arrays", "test_numbers_come_back", {"converter": GraphKept}),
    "rounded": ("arrays", "test_numbers_come_back", {"converter": Rounded}),
    "from the end": (
        "arrays",
        "test_chunks_are_concatenated",
        {"aggregator": lambda: from_the_end},
    ),
    "forgotten damping": (
        "methods",
        "test_the_method_of_the_backend_is_that_of_core",
        {"models": {"direct": undamped}},
    ),
    "one parameter told": (
        "saving",
        "test_other_parameters_are_refused",
        {"objective": OneParameterTold},
    ),
    "claimed and missing": (
        "plugin",
        "test_what_is_claimed_is_what_is_there",
        {"capabilities": CLAIMED | {"SupportsDenseHessian"}},
    ),
    "there and not claimed": (
        "plugin",
        "test_what_is_claimed_is_what_is_there",
        {"capabilities": CLAIMED - {"SupportsLayers"}},
    ),
    "claimed and unknown": (
        "plugin",
        "test_only_capabilities_there_are_are_claimed",
        {"capabilities": CLAIMED | {"SupportsEverything"}},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_backend_fails_in_its_group(tried, name):
    group, test, changes = BROKEN[name]
    report = tried(Plugin(**{"name": "broken", **changes}), group)
    failed = {result.test.partition("[")[0] for result in report.results if bad(result)}
    assert test in failed
    assert not report.conforms
    assert any(result.outcome == "passed" for result in report.results)


@pytest.mark.parametrize("first", ["", "import heavy_framework"], ids=["light", "eager"])
def test_a_plugin_that_imports_its_framework_fails(tmp_path, monkeypatch, first):
    (tmp_path / "heavy_framework.py").touch()
    (tmp_path / "upweight_eager.py").write_text(
        PLUGIN.replace("import sys", f"import sys\n{first}")
    )
    info = tmp_path / "upweight_eager-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: upweight-eager\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[upweight.backends]\neager = upweight_eager\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins._manager.cache_clear()
    report = run("eager", ["plugin"])
    plugins._manager.cache_clear()
    sys.modules.pop("upweight_eager", None)
    reasons = [result.reason for result in report.results if bad(result)]
    assert reasons == (["loading the plugin imports heavy_framework"] if first else [])


PLUGIN = """
import sys
from upweight import hookimpl

@hookimpl
def upweight_backend(name):
    from conformance.handmade import Plugin
    return Plugin("eager").backend if name == "eager" else None

@hookimpl
def upweight_owner(model):
    handmade = sys.modules.get("conformance.handmade")
    return "eager" if handmade and isinstance(model, handmade.Network) else None
"""


def bad(result):
    return result.outcome == "failed"
