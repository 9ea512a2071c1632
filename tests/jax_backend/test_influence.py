"""Influences of whole methods, against dense matrices in NumPy."""

import numpy as np
import pytest
from complex_step import influences
from jax_zoo import ATTENTION, CONVOLUTION, MLP, STRIDED, TOKENS, close, fitted

from upweight.errors import UnsupportedInfluenceModeError
from upweight.models import EkfacPreconditioner, JacobiPreconditioner, NystroemPreconditioner

DAMPING = 1.0


def hessian(network, batch):
    return network.hessian_product(np.eye(len(network.theta)), *batch)


def fisher(network, batch):
    gradients = network.gradients(*batch)
    return gradients.T @ gradients / len(gradients)


CURVATURES = {
    "hessian": hessian,
    "gauss_newton": lambda network, batch: network.gauss_newton(*batch),
    "empirical_fisher": fisher,
}


@pytest.fixture(scope="module")
def mlp():
    """Return the network with training and test data."""
    return MLP.network(), MLP.batch(9), MLP.batch(4, seed=1)


GAUSS_NEWTON = {"second_order_mode": "gauss_newton"}
EXACT = {
    "DirectInfluence": GAUSS_NEWTON,
    "CgInfluence": {"rtol": 1e-10, **GAUSS_NEWTON},
    "ArnoldiInfluence": {"rank": 18, "krylov_dimension": 18, **GAUSS_NEWTON},
    "NystroemSketchInfluence": {"rank": 18, **GAUSS_NEWTON},
    "LissaInfluence": {"rtol": 1e-10, **GAUSS_NEWTON},
    "GramInfluence": {"damping": "absolute", "directions": None},
}


@pytest.mark.parametrize("name", EXACT)
def test_methods_reach_the_dense_answer(name, mlp):
    network, train, test = mlp
    last = columns(network, "layers.2")
    expected = influences(
        network.gauss_newton(*train)[np.ix_(last, last)],
        network.gradients(*test)[:, last],
        network.gradients(*train)[:, last],
        damping=DAMPING,
    )
    options = {"regularization": DAMPING, "trainable": ["layers.2"], **EXACT[name]}
    close(fitted(name, MLP, train, **options).influences(*test, *train), expected, 1e-6)


def columns(network, layer):
    """Return where the parameters of a layer are in the vector of all."""
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in network.shapes.values())])
    places = zip(network.shapes, map(np.arange, ends[:-1], ends[1:]), strict=True)
    return np.concatenate([place for name, place in places if name.startswith(layer)])


@pytest.mark.parametrize("mode", CURVATURES)
def test_every_curvature_is_the_dense_one(mode, mlp):
    network, train, test = mlp
    expected = influences(
        CURVATURES[mode](network, train),
        network.gradients(*test),
        network.gradients(*train),
        damping=DAMPING,
    )
    model = fitted("DirectInfluence", MLP, train, regularization=DAMPING, second_order_mode=mode)
    close(model.influences(*test, *train), expected)


def test_gradient_influence_is_the_product_of_gradients(mlp):
    network, train, test = mlp
    expected = network.gradients(*test) @ network.gradients(*train).T
    close(fitted("GradientInfluence", MLP, train).influences(*test, *train), expected)


def test_one_training_sample_has_the_closed_form_of_the_harmonic_mean(mlp):
    network, _, test = mlp
    train = MLP.batch(1)
    expected = influences(
        fisher(network, train),
        network.gradients(*test),
        network.gradients(*train),
        damping=DAMPING,
    )
    model = fitted(
        "InverseHarmonicMeanInfluence", MLP, train, regularization=DAMPING, block_structure="full"
    )
    close(model.influences(*test, *train), expected)


@pytest.mark.parametrize("mode", ["up", "perturbation"])
@pytest.mark.parametrize("case", [CONVOLUTION, ATTENTION], ids=str)
def test_both_modes_of_every_kind_of_network(case, mode):
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
    if mode == "up":
        expected = factors @ network.gradients(*train).T
    else:
        expected = network.input_gradients(factors, *train)
    close(model.influences(*test, *train, mode=mode), expected)


@pytest.mark.parametrize(
    ("case", "mode"),
    [
        *((case, "gauss_newton") for case in (MLP, ATTENTION, STRIDED, TOKENS)),
        (MLP, "empirical_fisher"),
    ],
    ids=str,
)
def test_the_dual_is_exact_on_every_kind_of_network(case, mode):
    network, train, test = case.network(), case.batch(5), case.batch(3, seed=1)
    of_test, of_train = network.gradients(*test), network.gradients(*train)
    expected = influences(CURVATURES[mode](network, train), of_test, of_train, damping=0.05)
    model = fitted(
        "GramInfluence",
        case,
        train,
        regularization=0.05,
        damping="absolute",
        directions=None,
        second_order_mode=mode,
    )
    close(model.influences(*test, *train), expected)
    close(model.influence_factors(*test) @ of_train.T, expected)


@pytest.mark.parametrize(
    "preconditioner",
    [JacobiPreconditioner(), NystroemPreconditioner(rank=5), EkfacPreconditioner()],
    ids=lambda p: type(p).__name__,
)
def test_preconditioners_do_not_change_the_answer(preconditioner, mlp):
    network, train, test = mlp
    expected = influences(
        network.gauss_newton(*train),
        network.gradients(*test),
        network.gradients(*train),
        damping=DAMPING,
    )
    model = fitted(
        "CgInfluence",
        MLP,
        train,
        regularization=DAMPING,
        rtol=1e-10,
        second_order_mode="gauss_newton",
        preconditioner=preconditioner,
    )
    close(model.influences(*test, *train), expected)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("name", ["DirectInfluence", "EkfacInfluence"])
def test_batches_do_not_matter(name, size, mlp):
    _, train, test = mlp
    options = {"regularization": DAMPING}
    expected = fitted(name, MLP, train, 9, **options).influences(*test, *train)
    close(fitted(name, MLP, train, size, **options).influences(*test, *train), expected, 1e-9)


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
