"""What the conformance kit does not try: other networks, parameters that are frozen, measurements."""

import numpy as np
import pytest
from complex_step import influences
from jax_zoo import ATTENTION, CONVOLUTION, MLP, STRIDED, TOKENS, close, fitted

from upweight.errors import UnsupportedInfluenceModeError
from upweight_jax import cross_entropy
from upweight_jax.backend import jax_backend

DAMPING = 1.0


def hessian(network, batch):
    return network.hessian_product(np.eye(len(network.theta)), *batch)


@pytest.fixture(scope="module")
def mlp():
    """Return the network with training and test data."""
    return MLP.network(), MLP.batch(9), MLP.batch(4, seed=1)


def columns(network, layer):
    """Return where the parameters of a layer are in the vector of all."""
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in network.shapes.values())])
    places = zip(network.shapes, map(np.arange, ends[:-1], ends[1:]), strict=True)
    return np.concatenate([place for name, place in places if name.startswith(layer)])


@pytest.mark.parametrize("case", [CONVOLUTION, ATTENTION], ids=str)
def test_both_modes_of_other_networks(case):
    network, train, test = case.network(), case.batch(5), case.batch(2, seed=1)
    damped = network.gauss_newton(*train) + DAMPING * np.eye(len(network.theta))
    factors = np.linalg.solve(damped, network.gradients(*test).T).T
    model = fitted(
        "CgInfluence",
        case,
        train,
        regularization=DAMPING,
        rtol=1e-10,
        second_order_mode="gauss_newton",
    )
    close(model.influences(*test, *train), factors @ network.gradients(*train).T)
    perturbed = model.influences(*test, *train, mode="perturbation")
    close(perturbed, network.input_gradients(factors, *train))


@pytest.mark.parametrize("case", [ATTENTION, STRIDED, TOKENS], ids=str)
def test_the_dual_is_exact_on_other_networks(case):
    network, train, test = case.network(), case.batch(5), case.batch(3, seed=1)
    of_test, of_train = network.gradients(*test), network.gradients(*train)
    expected = influences(network.gauss_newton(*train), of_test, of_train, damping=0.05)
    model = fitted(
        "GramInfluence",
        case,
        train,
        regularization=0.05,
        damping="absolute",
        directions=None,
    )
    close(model.influences(*test, *train), expected)
    close(model.influence_factors(*test) @ of_train.T, expected)


def test_frozen_parameters_are_constants(mlp):
    network, train, test = mlp
    last = columns(network, "layers.2")
    expected = influences(
        hessian(network, train)[np.ix_(last, last)],
        network.gradients(*test)[:, last],
        network.gradients(*train)[:, last],
        damping=DAMPING,
    )
    for trainable in (["layers.2"], lambda name: name.startswith("layers.2")):
        model = fitted("DirectInfluence", MLP, train, regularization=DAMPING, trainable=trainable)
        assert model.n_parameters == len(last)
        close(model.influences(*test, *train), expected)


@pytest.mark.parametrize("name", jax_backend.models)
def test_every_method_takes_a_selection_and_a_measurement(name):
    def first_logit(output, y):
        return output[0, 0]

    options = {"arnoldi": {"regularization": 1.0}, "inverse_harmonic_mean": {"regularization": 1.0}}
    options["nystroem_sketch"] = {"regularization": 1.0, "rank": 2}
    model = jax_backend.models[name](
        MLP.model(),
        cross_entropy,
        trainable=["layers.2"],
        measurement=first_logit,
        **options.get(name, {}),
    )
    assert model.n_parameters == 18
    assert model._measured._problem.loss is first_logit


def test_a_measurement_replaces_the_loss_of_test_samples(mlp):
    network, train, test = mlp

    def first_logit(output, y):
        return output[0, 0]

    rows = network.jacobians(test[0])[:, 0]
    expected = influences(hessian(network, train), rows, network.gradients(*train), damping=DAMPING)
    model = fitted("DirectInfluence", MLP, train, regularization=DAMPING, measurement=first_logit)
    close(model.influences(*test, *train), expected)


def test_tokens_have_influence_but_no_perturbation():
    train = TOKENS.batch(5)
    model = fitted("DirectInfluence", TOKENS, train, regularization=DAMPING)
    assert model.influences(*train).shape == (5, 5)
    with pytest.raises(UnsupportedInfluenceModeError, match="no input is floating-point"):
        model.influences(*train, mode="perturbation")
