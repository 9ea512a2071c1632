"""Layers are found in the trace of a model: gradients are rebuilt, and nothing else is taken for one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_zoo import MLP, STRIDED, ZOO, zeros

from upweight_jax import JaxModel, JaxObjective, squared_error


def rebuilt(layer, gradients):
    """Return the gradients of weight and bias from the statistics of a layer, (n, p)."""
    a = np.asarray(layer.inputs)
    weight = np.einsum("nto,nti->nio" if layer.transposed else "nto,nti->noi", gradients, a)
    parts = [weight.reshape(len(a), -1)]
    return np.concatenate([*parts, gradients.sum(1)] if layer.bias else parts, axis=1)


def columns(objective, layer):
    """Return where the parameters of a layer are in the vector of all."""
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in objective.parameters.values())])
    places = dict(zip(objective.parameters, map(np.arange, ends[:-1], ends[1:]), strict=True))
    return np.concatenate([places[name] for name in (layer.weight, layer.bias) if name])


@pytest.fixture(scope="module", params=ZOO, ids=str)
def problem(request):
    return request.param, request.param.objective(), request.param.batch(3), request.param.network()


def test_exactly_the_weights_of_layers_are_covered_with_their_biases(problem):
    case, objective, batch, _ = problem
    layers = objective.layers(batch).values()
    assert {layer.weight: layer.bias for layer in layers} == case.covered


def test_gradients_of_losses_are_rebuilt(problem):
    _, objective, batch, network = problem
    expected = network.gradients(*batch)
    for layer in objective.layers(batch).values():
        found = rebuilt(layer, np.asarray(layer.gradients))
        np.testing.assert_allclose(found, expected[:, columns(objective, layer)], atol=1e-12)


def test_directions_are_pulled_back(problem):
    _, objective, batch, network = problem
    directions = np.random.default_rng(1).standard_normal((2, 3, 3))
    expected = np.einsum("dnc,ncp->dnp", directions, network.jacobians(batch[0]))
    for layer in objective.layers(batch, jnp.asarray(directions)).values():
        for direction in range(2):
            found = rebuilt(layer, np.asarray(layer.gradients[direction]))
            wanted = expected[direction][:, columns(objective, layer)]
            np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_one_direction_may_come_without_its_axis():
    objective, batch = MLP.objective(), MLP.batch(3)
    directions = jnp.ones((3, 3))
    alone, among = (objective.layers(batch, d) for d in (directions, directions[None]))
    for name, layer in alone.items():
        np.testing.assert_array_equal(layer.gradients, among[name].gradients[0])


def test_weights_say_how_they_are_stored():
    layers = [*MLP.objective().layers(MLP.batch(2)).values()]
    layers += STRIDED.objective().layers(STRIDED.batch(2)).values()
    assert [layer.transposed for layer in layers] == [False] * 3 + [True] * 3


def test_a_weight_that_is_used_twice_has_its_uses_side_by_side():
    layer = STRIDED.objective().layers(STRIDED.batch(2))["Dense_0"]
    assert layer.inputs.shape == (2, 2 * 3, 2)
    assert layer.gradients.shape == (2, 2 * 3, 2)


def plain(function, **shapes):
    rng = np.random.default_rng(0)
    params = {name: {"w": rng.standard_normal(shape)} for name, shape in shapes.items()}
    return JaxObjective(
        JaxModel(lambda p, x: function(x, *(v["w"] for v in p.values())), params), squared_error
    )


UNCOVERED = {
    "penalty": lambda x, a: x @ a + (a**2).sum(),
    "other samples only": lambda x, a: x @ a + jnp.where(x[:, :1] > 100, a.sum(), 0),
    "own transpose": lambda x, a: x @ a @ a.T,
    "weight of two weights": lambda x, a: x @ (a @ a),
    "loop": lambda x, a: jax.lax.fori_loop(0, 2, lambda _, h: h @ a, x),
    "condition": lambda x, a: jax.lax.cond(True, lambda: x @ a, lambda: x),
    "batched": lambda x, a: jnp.einsum("nij,ijk->nik", x.reshape(-1, 2, 2), a.reshape(2, 2, 4)),
    "elementwise": lambda x, a: x * a[0],
    "part": lambda x, a: x[:, :2] @ a[:2],
    "given back": lambda x, a: jnp.broadcast_to(a, (len(x), 4, 4)).sum(1) + x @ a,
    "unused": lambda x, a: x,
    "groups": lambda x, a: jax.lax.conv_general_dilated(
        x[:, :, None], a[:, :1, None], (1,), "VALID", feature_group_count=4
    )[:, :, 0],
}


@pytest.mark.parametrize("name", UNCOVERED)
def test_other_uses_are_not_covered(name):
    objective = plain(UNCOVERED[name], a=(4, 4))
    x = np.random.default_rng(1).standard_normal((3, 4))
    y = np.asarray(objective._problem.model(objective._problem.model.values, jnp.asarray(x)))
    assert objective.layers((x, 0 * y)) == {}


def test_a_derivative_that_a_model_replaces_is_not_taken_for_that_of_its_layer():
    @jax.custom_jvp
    def product(x, w):
        return x @ w

    @product.defjvp
    def _(primals, tangents):
        (x, w), (dx, dw) = primals, tangents
        return product(x, w), dx @ w + 2 * (x @ dw)

    objective = plain(product, a=(4, 4))
    x = np.random.default_rng(1).standard_normal((3, 4))
    assert objective.layers((x, 0 * x)) == {}


def test_a_bias_whose_layer_is_read_before_it_is_added_stays_outside():
    rng = np.random.default_rng(0)
    params = {"l": {"w": rng.standard_normal((4, 4)), "b": rng.standard_normal(4)}}

    def model(params, x):
        h = x @ params["l"]["w"]
        return (h + params["l"]["b"]) * h

    x = rng.standard_normal((3, 4))
    (layer,) = JaxObjective(JaxModel(model, params), squared_error).layers((x, x)).values()
    assert layer.bias is None


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (eqx.nn.Conv1d, {"padding": 1, "stride": 2}),
        (eqx.nn.Conv2d, {"padding": 1, "dilation": 2}),
        (eqx.nn.Conv2d, {"padding": "SAME", "stride": (2, 1)}),
        (eqx.nn.ConvTranspose2d, {"stride": 2, "dilation": 2}),
    ],
)
def test_gradients_of_convolutions_are_rebuilt(kind, options):
    layer = kind(2, 3, 2, key=jax.random.key(0), dtype="float64", **options)
    x = np.random.default_rng(0).standard_normal(
        (2, 2, 6) if kind is eqx.nn.Conv1d else (2, 2, 6, 5)
    )
    y = np.zeros(jax.vmap(layer)(jnp.asarray(x)).shape)
    objective = JaxObjective(layer, squared_error)
    (found,) = objective.layers((x, y)).values()
    assert found.bias == "bias"
    # The gradients that it is compared with are those of `test_derivatives`.
    expected = np.asarray(objective.gradients((x, y)))[:, columns(objective, found)]
    np.testing.assert_allclose(rebuilt(found, np.asarray(found.gradients)), expected, atol=1e-12)


def test_only_trainable_weights_are_covered():
    objective = MLP.objective(trainable=["layers.0", "layers.1.bias", "layers.2.weight"])
    layers = objective.layers(MLP.batch(3)).values()
    assert {layer.weight: layer.bias for layer in layers} == {
        "layers.0.weight": "layers.0.bias",
        "layers.2.weight": None,
    }


def test_layers_with_one_parent_are_named_after_their_weights():
    objective = JaxObjective(
        JaxModel(lambda p, x: x @ p["a"] @ p["b"], zeros(a=(4, 4), b=(4, 4))), squared_error
    )
    x = np.ones((2, 4))
    assert set(objective.layers((x, x))) == {"a", "b"}
