"""Influences of whole methods, against dense matrices in NumPy."""

import jax
import numpy as np
import pytest
from complex_step import influences
from jax_zoo import ATTENTION, CONVOLUTION, MLP, STRIDED, TOKENS

import upweight_jax
from upweight.errors import UnsupportedInfluenceModeError
from upweight.models import EkfacPreconditioner, JacobiPreconditioner, NystroemPreconditioner

DAMPING = 1.0


def in_batches(batch, size):
    n = len(batch[1])
    return [
        jax.tree.map(lambda leaf: leaf[start : start + size], batch)  # noqa: B023
        for start in range(0, n, size)
    ]


def fitted(name, case, train, size=4, **options):
    method = getattr(upweight_jax, name)
    loss = options.pop("loss", upweight_jax.cross_entropy)
    return method(case.model(), loss, **options).fit(in_batches(train, size), progress=False)


def close(value, expected, rtol=1e-7):
    expected = np.asarray(expected)
    np.testing.assert_allclose(value, expected, rtol=0, atol=rtol * np.abs(expected).max())


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


EXACT = {
    "DirectInfluence": {},
    "CgInfluence": {"rtol": 1e-10, "second_order_mode": "gauss_newton"},
    "ArnoldiInfluence": {
        "rank": 73,
        "krylov_dimension": 73,
        "second_order_mode": "gauss_newton",
    },
    "NystroemSketchInfluence": {"rank": 73, "second_order_mode": "gauss_newton"},
    "LissaInfluence": {"rtol": 1e-10, "second_order_mode": "gauss_newton"},
    "GramInfluence": {"damping": "absolute", "directions": None},
}


@pytest.mark.parametrize("name", EXACT)
def test_methods_reach_the_dense_answer(name, mlp):
    network, train, test = mlp
    options = {"regularization": DAMPING, **EXACT[name]}
    default = "gauss_newton" if name == "GramInfluence" else "hessian"
    curvature = CURVATURES[options.get("second_order_mode", default)](network, train)
    expected = influences(
        curvature, network.gradients(*test), network.gradients(*train), damping=DAMPING
    )
    close(fitted(name, MLP, train, **options).influences(*test, *train), expected, 1e-6)


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


@pytest.mark.parametrize("case", [MLP, STRIDED, ATTENTION], ids=str)
def test_exact_eigenvalues_are_the_diagonal_of_the_dense_fisher(case):
    network, train = case.network(), case.batch(5)
    dense = network.gauss_newton(*train)
    model = fitted("EkfacInfluence", case, train, fisher="exact")
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in network.shapes.values())])
    places = dict(zip(network.shapes, map(np.arange, ends[:-1], ends[1:]), strict=True))
    seen = 0
    for block, curvature in model._curvatures.items():
        if not hasattr(curvature, "eigen"):
            continue
        names = [name for name in network.shapes if name.rpartition(".")[0] == block]
        own = np.concatenate([places[name] for name in names])
        fisher_of_layer = dense[np.ix_(own, own)]
        rows = np.eye(len(own))
        inverse = curvature.damped(0.3)
        # The solve of unit rows gives the represented inverse in the order of the parameters.
        represented = np.linalg.inv(np.asarray(inverse.solve(jax.numpy.asarray(rows))))
        represented -= inverse.damping * rows
        values, basis = np.linalg.eigh(represented)
        close(values, np.diag(basis.T @ fisher_of_layer @ basis), 1e-7)
        seen += 1
    assert seen == len({name.rpartition(".")[0] for name in case.covered})


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("kind", ["equinox", "nnx", "linen"])
def test_ekfac_is_exact_for_linear_regression(kind, corrected, has_bias):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    model, transposed = linear(kind, has_bias)
    influence = upweight_jax.EkfacInfluence(
        model,
        upweight_jax.squared_error,
        fisher="exact",
        corrected=corrected,
        damping="absolute",
        regularization=0.05,
    ).fit(in_batches((x, y), 16), progress=False)
    objective = upweight_jax.JaxObjective(model, upweight_jax.squared_error)
    gradients = np.asarray(objective.gradients((x, y)))
    J = []
    for output in range(3):
        weight = np.zeros((30, 3, 4))
        weight[:, output] = x
        bias = np.zeros((30, 3))
        bias[:, output] = 1
        parts = [(weight.transpose(0, 2, 1) if transposed else weight).reshape(30, -1)]
        if has_bias:
            parts.insert(0 if transposed else 1, bias)
        J.append(np.concatenate(parts, axis=1))
    fisher = np.einsum("anp,anq->pq", np.stack(J), np.stack(J)) * (2 / 3) / 30
    expected = np.linalg.solve(fisher + 0.05 * np.eye(len(fisher)), gradients.T).T
    close(influence.influence_factors(x, y), expected, 1e-9)


def linear(kind, has_bias):
    """Return a linear layer, and whether its weight is stored as (i, o), after its bias."""
    import equinox
    from flax import linen, nnx

    if kind == "equinox":
        key = jax.random.key(0)
        return equinox.nn.Linear(4, 3, use_bias=has_bias, key=key, dtype="float64"), False
    if kind == "nnx":
        rngs = nnx.Rngs(0)
        return nnx.Linear(4, 3, use_bias=has_bias, rngs=rngs, param_dtype="float64"), True
    module = linen.Dense(3, use_bias=has_bias, param_dtype="float64")
    return (module, module.init(jax.random.key(0), np.ones((1, 4)))), True


def test_sampled_directions_have_the_second_moment_of_the_exact_ones():
    network, (x, y) = MLP.network(), MLP.batch(2)
    objective, rng = MLP.objective(), np.random.default_rng(0)
    x, y = np.tile(x, (4000, 1)), np.tile(y, 4000)
    drawn = np.asarray(objective.sampled_directions((x, y), rng)).reshape(4000, 2, 3)
    moment = np.einsum("sna,snb->nab", drawn, drawn) / 4000
    assert np.abs(moment - network.output_hessians(x[:2], y[:2])).max() < 0.02


@pytest.mark.parametrize("name", ["squared_error", "binary_cross_entropy"])
def test_other_losses_are_sampled_as_well(name):
    loss = getattr(upweight_jax, name)
    x, _ = MLP.batch(2)
    y = np.random.default_rng(0).random((2, 3))
    objective = MLP.objective(loss=loss)
    x, y = np.tile(x, (8000, 1)), np.tile(y, (8000, 1))
    drawn = np.asarray(objective.sampled_directions((x, y), np.random.default_rng(1)))
    moment = np.einsum("sna,snb->nab", *[drawn.reshape(8000, 2, 3)] * 2) / 8000
    expected = np.asarray(objective.output_hessians((x[:2], y[:2])))
    assert np.abs(moment - expected).max() < 0.03


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
    chosen = np.zeros(len(network.theta), bool)
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in network.shapes.values())])
    for name, start, end in zip(network.shapes, ends[:-1], ends[1:], strict=True):
        chosen[start:end] = name.startswith("layers.2")
    expected = influences(
        hessian(network, train)[np.ix_(chosen, chosen)],
        network.gradients(*test)[:, chosen],
        network.gradients(*train)[:, chosen],
        damping=DAMPING,
    )
    for trainable in (["layers.2"], lambda name: name.startswith("layers.2")):
        model = fitted("DirectInfluence", MLP, train, regularization=DAMPING, trainable=trainable)
        assert model.n_parameters == chosen.sum()
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
