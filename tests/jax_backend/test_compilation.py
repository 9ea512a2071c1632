"""Functions are compiled once for a shape, and go with the objective they belong to."""

import gc
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from upweight_jax import CgInfluence, EkfacInfluence, JaxModel, JaxObjective, cross_entropy


class Counted:
    """A network that counts how often it is traced, that is, called at all."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.params = {"first": rng.standard_normal((4, 5)), "last": rng.standard_normal((5, 3))}
        self.traces = 0

    def __call__(self, params, x):
        self.traces += 1
        return jnp.tanh(x @ params["first"]) @ params["last"]

    def objective(self, scale=1.0, **options):
        params = {name: scale * value for name, value in self.params.items()}
        return JaxObjective(JaxModel(self, params), cross_entropy, **options)


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 4)), rng.integers(0, 3, n)


CALLS = {
    "losses": lambda o, b: o.losses(b),
    "gradients": lambda o, b: o.gradients(b),
    "inner_products": lambda o, b: o.inner_products(np.ones((2, 35)), b),
    "hessian_product": lambda o, b: o.hessian_product(np.ones((2, 35)), b),
    "gauss_newton_product": lambda o, b: o.gauss_newton_product(np.ones((2, 35)), b),
    "input_gradients": lambda o, b: o.input_gradients(np.ones((2, 35)), b),
    "layers": lambda o, b: o.layers(b),
    "output_hessians": lambda o, b: o.output_hessians(b),
    "sampled_directions": lambda o, b: o.sampled_directions(b, np.random.default_rng(0)),
    "restricted": lambda o, b: o.restrict(["last"]).gradients(b),
}


@pytest.mark.parametrize("call", CALLS)
def test_equal_batches_and_a_ragged_one_are_compiled_for_two_shapes(call):
    model = Counted()
    objective, run = model.objective(), CALLS[call]
    run(objective, batch(8))
    run(objective, batch(5))
    before = model.traces
    for seed in range(1, 4):
        run(objective, batch(8, seed))
    run(objective, batch(5, 4))
    assert model.traces == before


def test_numbers_of_rows_up_to_a_power_of_two_are_compiled_once():
    model = Counted()
    objective = model.objective()
    objective.hessian_product(np.ones((33, 35)), batch(8))
    before = model.traces
    for k in (34, 47, 64):
        objective.hessian_product(np.ones((k, 35)), batch(8))
    assert model.traces == before


def test_rows_that_leave_conjugate_gradients_are_compiled_for_few_numbers():
    """A call traces the model once or twice; padded, 6 rows make 8, 4, 2 and 1."""
    model = Counted()
    influence = CgInfluence(
        JaxModel(model, model.params),
        cross_entropy,
        regularization=1.0,
        second_order_mode="gauss_newton",
    )
    influence.fit([batch(8)], progress=False)
    before = model.traces
    influence.influence_factors(*batch(6, 1))
    assert model.traces - before <= 2 * 4 + 4
    before = model.traces
    influence.influence_factors(*batch(6, 2))
    assert model.traces - before <= 2


def test_a_second_fit_of_the_same_model_traces_nothing():
    model = Counted()
    influence = EkfacInfluence(JaxModel(model, model.params), cross_entropy)
    influence.fit([batch(8), batch(8, 1), batch(5, 2)], progress=False)
    before = model.traces
    influence.fit([batch(8, 3), batch(8, 4), batch(5, 5)], progress=False)
    assert model.traces == before


@pytest.mark.parametrize("trainable", [None, ["last"]], ids=str)
def test_objectives_of_one_function_and_loss_share_what_is_compiled(trainable):
    """Values are no part of it, and a restriction is another choice of the same parameters."""
    model = Counted()
    first, second = model.objective(), model.objective(2.0, trainable=trainable)
    first.restrict(trainable or first.parameters).gradients(batch(8))
    second.suggested_batch_size(batch(8))  # tries the model out, which traces it
    before = model.traces
    found = second.gradients(batch(8))
    assert model.traces == before
    alone = Counted().objective(2.0, trainable=trainable)
    np.testing.assert_array_equal(found, alone.gradients(batch(8)))


@pytest.mark.parametrize("difference", ["loss", "function", "constant"])
def test_other_functions_share_nothing(difference):
    model = Counted()
    x, y = batch(8)

    def objective(constant, function, loss):
        params = {**model.params, "constant": constant}
        return JaxObjective(JaxModel(function, params), loss)

    def apply(params, x):
        return params["constant"] * model(params, x)

    first = objective(1, apply, cross_entropy)
    other = {
        "loss": lambda: objective(1, apply, lambda o, y: 2 * cross_entropy(o, y)),
        "function": lambda: objective(1, lambda p, x: 2 * apply(p, x), cross_entropy),
        "constant": lambda: objective(2, apply, cross_entropy),
    }[difference]()
    assert np.abs(first.losses((x, y)) - other.losses((x, y))).min() > 1e-3


def test_what_is_shared_keeps_no_values():
    model = Counted()
    first, second = model.objective(), model.objective(2.0)
    first.gradients(batch(4))
    second.gradients(batch(4))
    value = weakref.ref(first._free["first"])
    del first
    gc.collect()
    assert value() is None


def test_a_model_goes_with_its_objective():
    model = Counted()
    objective = model.objective()
    for name in ("gradients", "layers", "restricted"):
        call = CALLS[name]
        call(objective, batch(4))
    alive = weakref.ref(model), weakref.ref(objective._free["first"])
    del model, objective, call
    gc.collect()
    assert [reference() for reference in alive] == [None, None]
