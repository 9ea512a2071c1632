"""What cannot work is refused, with what to do instead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_zoo import MLP

from upweight.errors import BatchError, LossError, ModelError
from upweight_jax import (
    DirectInfluence,
    JaxModel,
    JaxNumpyConverter,
    JaxObjective,
    cross_entropy,
    squared_error,
)

X = np.ones((3, 4), "float32")


def linear(dtype="float32", **options):
    params = {"w": np.full((4, 2), 0.5, dtype)}
    return JaxObjective(JaxModel(lambda p, x: x @ p["w"], params), squared_error, **options)


def batch(dtype="float32"):
    return X.astype(dtype), np.ones((3, 2), dtype)


@pytest.fixture
def single_precision():
    with jax.enable_x64(False):
        yield


@pytest.mark.usefixtures("single_precision")
@pytest.mark.parametrize("kind", ["numpy", "jax"])
def test_double_precision_is_not_shortened_in_silence(kind):
    data = batch("float64")
    if kind == "jax":
        with jax.enable_x64(True):
            data = jax.tree.map(jnp.asarray, data)
    with pytest.raises(BatchError, match=r'update\("jax_enable_x64", True\)'):
        linear().losses(data)


@pytest.mark.usefixtures("single_precision")
def test_parameters_in_double_precision_are_not_shortened_in_silence():
    with pytest.raises(ModelError, match=r"'w' is float64.*jax_enable_x64"):
        linear("float64")


@pytest.mark.usefixtures("single_precision")
def test_the_converter_does_not_shorten_in_silence():
    with pytest.raises(BatchError, match="JAX_ENABLE_X64"):
        JaxNumpyConverter().from_numpy(np.ones(3))


@pytest.mark.usefixtures("single_precision")
@pytest.mark.parametrize(
    "name", ["CgInfluence", "EkfacInfluence", "GramInfluence", "LissaInfluence"]
)
def test_methods_work_in_single_precision(name):
    import upweight_jax

    options = {"second_order_mode": "gauss_newton"} if name == "LissaInfluence" else {}
    method = getattr(upweight_jax, name)
    options["trainable"] = ["layers.2"]  # one shape, as all is compiled again
    model = method(MLP.model("float32"), cross_entropy, regularization=1.0, **options)
    train, test = MLP.batch(6, "float32"), MLP.batch(2, "float32", seed=1)
    values = model.fit([train], progress=False).influences(*test, *train)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


def test_another_precision_than_that_of_the_model_is_refused():
    with pytest.raises(
        BatchError, match="The model is float32, and an array of the batch is float64"
    ):
        linear().losses(batch("float64"))


def test_what_is_no_array_is_refused():
    with pytest.raises(BatchError, match="must be JAX or NumPy arrays"):
        linear().losses((memoryview_like(), np.ones((3, 2), "float32")))


def memoryview_like():
    class Other:
        shape = (3, 4)

    return Other()


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"JaxModel\(apply, params\); got 'function'"):
        JaxObjective(lambda x: x, squared_error)


def test_what_is_no_loss_is_refused():
    with pytest.raises(TypeError, match="must be callable"):
        JaxObjective(MLP.model(), "cross entropy")


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("loss", [lambda o, y: jnp.square(o - y).sum(), lambda o, y: o.max()])
def test_a_loss_that_is_no_mean_is_refused(loss, n):
    model = JaxModel(lambda p, x: x @ p["w"], {"w": np.arange(8, dtype="float32").reshape(4, 2)})
    x = np.arange(4 * n, dtype="float32").reshape(n, 4)
    if n == 1 and loss(jnp.ones((1, 2)), 0) == 1:
        pytest.skip("of one sample, the largest number is that of its mean as well")
    with pytest.raises(LossError, match="must be the mean"):
        JaxObjective(model, loss).losses((x, np.zeros((n, 2), "float32")))


def test_a_loss_without_reduction_is_refused():
    with pytest.raises(LossError, match=r"must be one number.*\(3, 2\)"):
        JaxObjective(
            JaxModel(lambda p, x: x @ p["w"], {"w": np.ones((4, 2), "float32")}),
            lambda o, y: jnp.square(o - y),
        ).losses(batch())


def test_an_output_without_samples_is_refused():
    model = JaxModel(lambda p, x: (x @ p["w"]).T, {"w": np.ones((4, 2), "float32")})
    with pytest.raises((LossError, ModelError)):
        JaxObjective(model, squared_error).losses(batch())


def test_a_model_that_branches_on_values_is_named():
    model = JaxModel(
        lambda p, x: x @ p["w"] if x.sum() > 0 else x @ -p["w"], {"w": np.ones((4, 2), "float32")}
    )
    with pytest.raises(ModelError, match="cannot be differentiated sample by sample"):
        JaxObjective(model, squared_error).gradients(batch())


@pytest.mark.parametrize("params", [{}, {"steps": np.arange(3)}])
def test_a_model_without_parameters_is_refused(params):
    with pytest.raises(ModelError, match="no trainable parameter"):
        JaxObjective(JaxModel(lambda p, x: x, params), squared_error)


def test_a_selection_of_nothing_is_refused():
    with pytest.raises(ModelError, match="no trainable parameter"):
        linear(trainable=lambda name: False)


def test_an_unknown_name_is_refused():
    with pytest.raises(
        ValueError, match=r"names no parameters or layers \['v'\]; there are \['w'\]"
    ):
        linear(trainable=["w", "v"])


@pytest.mark.parametrize(
    "params",
    [
        {"a": np.ones(2, "float32"), "b": np.ones(2)},
        {"a": np.ones(2, "float16")},
        {"a": np.ones(2, "complex64")},
    ],
    ids=["mixed", "half", "complex"],
)
def test_parameters_of_other_types_are_refused(params):
    with pytest.raises(ModelError, match="must"):
        JaxObjective(JaxModel(lambda p, x: x, params), squared_error)


def test_constants_may_have_any_type():
    params = {"w": np.ones((4, 2)), "steps": np.arange(2), "half": np.ones(2, "float16")}
    model = JaxModel(lambda p, x: x @ p["w"] + p["steps"] + p["half"], params)
    objective = JaxObjective(model, squared_error, trainable=["w"])
    assert objective.gradients(batch("float64")).shape == (3, 8)


def test_an_unknown_parameter_cannot_be_restricted_to():
    with pytest.raises(ValueError, match=r"There are no parameters \['v'\]"):
        linear().restrict(["v"])


def test_a_model_is_as_it_was_when_it_was_given():
    """Training the module, or changing its arrays, later changes nothing."""
    params = {"w": np.ones((4, 2))}
    model = DirectInfluence(JaxModel(lambda p, x: x @ p["w"], params), squared_error)
    before = np.asarray(model._objective.losses(batch("float64")))
    params["w"] += 5
    np.testing.assert_array_equal(model._objective.losses(batch("float64")), before)
