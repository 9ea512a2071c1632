"""EK-FAC on layers found in traces, against dense Fisher matrices in NumPy."""

import jax
import numpy as np
import pytest
from jax_zoo import MLP, STRIDED, close, fitted, in_batches

import upweight_jax


def test_exact_eigenvalues_are_the_diagonal_of_the_dense_fisher():
    """The network has a convolution, and a layer that is used twice."""
    network, train = STRIDED.network(), STRIDED.batch(5)
    dense = network.gauss_newton(*train)
    model = fitted("EkfacInfluence", STRIDED, train, fisher="exact")
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
    assert seen == len({name.rpartition(".")[0] for name in STRIDED.covered})


@pytest.mark.parametrize(("kind", "has_bias"), [("equinox", True), ("nnx", False), ("linen", True)])
def test_ekfac_is_exact_for_linear_regression(kind, has_bias):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    model, transposed = linear(kind, has_bias)
    influence = upweight_jax.EkfacInfluence(
        model,
        upweight_jax.squared_error,
        fisher="exact",
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
