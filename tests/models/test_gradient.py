"""Gradient influence is the product, or the cosine, of gradients written by hand."""

import numpy as np
import oracle
import pytest
from curvatures import Softmax, blocks_of, problem
from oracle import TOLERANCES, relative_error
from reference import SoftmaxRegression

from upweight import DataError, NotFittedError, UnsupportedInfluenceModeError
from upweight.models import GradientInfluence

FORMS = [pytest.param(False, id="product"), pytest.param(True, id="cosine")]


def by_hand(objective, train, test, *, normalize):
    rows, columns = oracle.gradients(objective, test), oracle.gradients(objective, train)
    if normalize:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        columns = columns / np.linalg.norm(columns, axis=1, keepdims=True)
    return rows @ columns.T


def perturbed_by_hand(objective, train, test, *, normalize, step=1e-5):
    """Return the derivatives of the values by hand in each input, from central differences."""
    x, y = np.asarray(train[0], float), train[1]
    slopes = []
    for coordinate in range(x.shape[1]):
        move = step * np.eye(x.shape[1])[coordinate]
        ahead, behind = (
            by_hand(objective, (x + sign * move, y), test, normalize=normalize) for sign in (1, -1)
        )
        slopes.append((ahead - behind) / (2 * step))
    return np.stack(slopes, axis=-1)


class Certain(SoftmaxRegression):
    """The samples with label 0 are learnt perfectly: their gradient is zero."""

    def gradients(self, batch):
        labelled = self.xp.astype(batch[1] != 0, self.weight.dtype)
        return super().gradients(batch) * labelled[:, None]

    def input_gradients(self, rows, batch):
        labelled = self.xp.astype(batch[1] != 0, self.weight.dtype)
        return super().input_gradients(rows, batch) * labelled[None, :, None]


class Scaled(SoftmaxRegression):
    """Gradients so small that their squares vanish in single precision."""

    def gradients(self, batch):
        return super().gradients(batch) * 1e-30


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("normalize", FORMS)
def test_influences_are_those_of_gradients_written_by_hand(xp, normalize, k, dtype):
    objective, train, test = problem(xp, n=100, k=k, dtype=dtype)
    influences = (
        GradientInfluence(objective, normalize=normalize).fit([train]).influences(*test, *train)
    )
    expected = by_hand(objective, train, test, normalize=normalize)
    assert np.asarray(influences).dtype == dtype
    assert relative_error(influences, expected) < TOLERANCES[dtype]


@pytest.mark.parametrize("normalize", FORMS)
def test_perturbations_are_the_derivatives_of_the_influences(xp, normalize):
    objective, train, test = problem(xp, n=20)
    model = GradientInfluence(objective, normalize=normalize).fit()
    actual = model.influences(*test, *train, mode="perturbation")
    expected = perturbed_by_hand(objective, train, test, normalize=normalize)
    assert relative_error(actual, expected) < 1e-8


@pytest.mark.parametrize("structure", ["full", "parameter_wise"])
@pytest.mark.parametrize("normalize", FORMS)
def test_blocks_contribute_what_adds_up_to_the_whole(xp, normalize, structure):
    objective, train, test = problem(xp, n=100)
    model = GradientInfluence(objective, normalize=normalize, block_structure=structure).fit()
    parts = model.influences_by_block(*test, *train)
    total = sum(np.asarray(part) for part in parts.values())
    assert relative_error(total, by_hand(objective, train, test, normalize=normalize)) < 1e-12


def test_a_block_contributes_the_product_of_its_own_columns(xp):
    objective, train, test = problem(xp, n=100)
    model = GradientInfluence(objective, block_structure="parameter_wise").fit()
    columns = blocks_of(objective, "parameter_wise")["bias"]
    rows, others = (oracle.gradients(objective, batch)[:, columns] for batch in (test, train))
    part = model.influences_by_block(*test, *train)["bias"]
    assert relative_error(part, rows @ others.T) < 1e-12


@pytest.mark.parametrize("structure", ["full", "parameter_wise"])
@pytest.mark.parametrize("normalize", FORMS)
def test_self_influences_are_the_diagonal(xp, normalize, structure):
    objective, train, _ = problem(xp, n=100)
    model = GradientInfluence(objective, normalize=normalize, block_structure=structure).fit()
    expected = np.diag(by_hand(objective, train, train, normalize=normalize))
    assert relative_error(model.self_influences(*train), expected) < 1e-12


def test_the_cosine_of_a_gradient_with_itself_is_one(xp):
    objective, train, _ = problem(xp, n=100)
    ones = GradientInfluence(objective, normalize=True).fit().self_influences(*train)
    assert relative_error(ones, np.ones(100)) < 1e-12


@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_a_gradient_of_zero_is_similar_to_nothing(xp, mode):
    objective, (x, y), _ = problem(xp, n=100)
    model = GradientInfluence(Certain(objective.weight, objective.bias), normalize=True).fit()
    influences = np.asarray(model.influences(x, y, mode=mode))
    zero = np.asarray(y) == 0
    assert not np.any(influences[zero])
    assert not np.any(influences[:, zero])
    assert np.all(np.any(influences[~zero][:, ~zero] != 0, axis=1))


def test_the_size_of_gradients_does_not_matter_to_cosines(xp):
    objective, train, test = problem(xp, n=100, dtype="float32")
    small = GradientInfluence(Scaled(objective.weight, objective.bias), normalize=True).fit()
    expected = by_hand(objective, train, test, normalize=True)
    assert relative_error(small.influences(*test, *train), expected) < TOLERANCES["float32"]


@pytest.mark.parametrize("normalize", FORMS)
def test_the_test_side_may_be_measured_otherwise(xp, normalize):
    objective, train, test = problem(xp, n=100)
    other = Softmax(objective.weight + 1.5 * xp.sin(objective.weight), objective.bias)
    model = GradientInfluence(objective, normalize=normalize, measurement=other).fit()
    rows, columns = oracle.gradients(other, test), oracle.gradients(objective, train)
    expected = rows @ columns.T
    if normalize:
        norms = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(columns, axis=1)
        expected = expected / norms
    assert relative_error(model.influences(*test, *train), expected) < 1e-12


def test_another_damping_divides_products_and_leaves_cosines(xp):
    objective, train, test = problem(xp, n=100)
    for normalize, divisor in ((False, 4.0), (True, 1.0)):
        model = GradientInfluence(objective, normalize=normalize).fit()
        expected = np.asarray(model.influences(*test, *train)) / divisor
        damped = model.with_regularization(3)
        assert relative_error(damped.influences(*test, *train), expected) < 1e-12
        assert (model.regularization, damped.regularization) == ({"full": 0.0}, {"full": 3.0})


def test_the_data_is_not_read():
    class Untouchable:
        def __iter__(self):
            raise AssertionError("The data was read.")

    assert GradientInfluence(problem(np, n=100)[0]).fit(Untouchable()).is_fitted


def test_influences_before_fit_are_refused_as_by_every_method():
    objective, train, _ = problem(np, n=100)
    for normalize in (False, True):
        with pytest.raises(NotFittedError, match="fit"):
            GradientInfluence(objective, normalize=normalize).influences(*train)


def test_a_generator_is_refused_as_by_every_method():
    with pytest.raises(DataError, match="only once"):
        GradientInfluence(problem(np, n=100)[0]).fit(batch for batch in ())


@pytest.mark.parametrize("normalize", FORMS)
def test_token_ids_cannot_be_perturbed(normalize):
    objective, (x, y), _ = problem(np, n=100)
    tokens = np.round(x).astype("int64")
    model = GradientInfluence(objective, normalize=normalize).fit()
    with pytest.raises(UnsupportedInfluenceModeError, match="no input is floating-point"):
        model.influences(tokens, y, mode="perturbation")
