"""Direct and conjugate-gradient influence for every curvature and block structure."""

import numpy as np
import pytest
from curvatures import (
    MODES,
    NAMESPACES,
    STRUCTURES,
    dense_curvature,
    dense_factors,
    namespace,
    problem,
)
from oracle import gradients
from reference import SoftmaxRegression, softmax_problem

from upweight import ConvergenceWarning, UnsupportedCurvatureError
from upweight.models import CgInfluence, DirectInfluence

METHODS = {
    "direct": DirectInfluence,
    "cg": lambda objective, **options: CgInfluence(objective, rtol=1e-10, **options),
    "block cg": lambda objective, **options: CgInfluence(
        objective, rtol=1e-10, solver="block", **options
    ),
}
DAMPING = 0.05


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def close(actual, expected, tolerance=1e-8):
    np.testing.assert_allclose(
        np.asarray(actual), expected, rtol=0, atol=tolerance * np.abs(expected).max()
    )


@pytest.mark.parametrize("name", NAMESPACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_factors_are_those_of_the_dense_matrix(name, mode, structure, method):
    objective, train, test = problem(namespace(name))
    model = method(
        objective, regularization=DAMPING, second_order_mode=mode, block_structure=structure
    ).fit([train])
    matrix = dense_curvature(objective, train, mode=mode, structure=structure)
    expected = dense_factors(matrix, gradients(objective, test), damping=DAMPING)
    close(model.influence_factors(*test), expected)


@pytest.mark.parametrize("solver", ["lockstep", "block"])
@pytest.mark.parametrize("mode", MODES)
def test_every_step_of_conjugate_gradients_comes_closer(mode, solver):
    objective, train, test = problem(k=2)
    matrix = dense_curvature(objective, train, mode=mode) + DAMPING * np.eye(15)
    expected = dense_factors(matrix, gradients(objective, test), damping=0)
    errors = []
    for maxiter in range(1, 5):
        model = CgInfluence(
            objective,
            regularization=DAMPING,
            second_order_mode=mode,
            solver=solver,
            rtol=1e-12,
            maxiter=maxiter,
        ).fit([train])
        with pytest.warns(ConvergenceWarning):
            missed = np.asarray(model.influence_factors(*test)) - expected
        errors.append(np.sum((missed @ matrix) * missed, axis=1))  # what it makes least
    assert np.all(np.diff(errors, axis=0) < 0)


@pytest.mark.parametrize("mode", MODES)
def test_the_split_into_batches_does_not_matter(mode, method):
    objective, (x, y), test = problem()
    whole, split = (
        method(objective, regularization=DAMPING, second_order_mode=mode).fit(data)
        for data in ([(x, y)], [(x[:19], y[:19]), (x[19:20], y[19:20]), (x[20:], y[20:])])
    )
    close(split.influence_factors(*test), np.asarray(whole.influence_factors(*test)))


@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_contributions_of_blocks_add_up(mode, method):
    objective, train, test = problem()
    model = method(objective, regularization=DAMPING, block_structure="parameter_wise").fit([train])
    parts = model.influences_by_block(*test, *train, mode=mode)
    assert tuple(parts) == model.block_names == ("weight", "bias")
    close(sum(parts.values()), model.influences(*test, *train, mode=mode))


def test_a_block_alone_contributes_what_its_own_curvature_gives(method):
    objective, train, test = problem()
    model = method(objective, regularization=DAMPING, block_structure="parameter_wise").fit([train])
    matrix = dense_curvature(objective, train)[12:, 12:]
    bias = slice(12, 15)
    factors = dense_factors(matrix, gradients(objective, test)[:, bias], damping=DAMPING)
    expected = factors @ gradients(objective, train)[:, bias].T
    close(model.influences_by_block(*test, *train)["bias"], expected)


def test_factors_by_block_give_influences_by_block(method):
    objective, train, test = problem()
    model = method(objective, regularization=DAMPING, block_structure="parameter_wise").fit([train])
    factors = model.influence_factors_by_block(*test)
    assert {name: rows.shape for name, rows in factors.items()} == {
        "weight": (7, 12),
        "bias": (7, 3),
    }
    again = model.influences_from_factors_by_block(factors, *train)
    for name, values in model.influences_by_block(*test, *train).items():
        close(again[name], values)


def test_a_mapping_may_leave_parameters_out_as_constants(method):
    objective, train, test = problem()
    model = method(objective, regularization=DAMPING, block_structure={"offsets": ["bias"]}).fit(
        [train]
    )
    matrix = dense_curvature(objective, train)[12:, 12:]
    expected = dense_factors(matrix, gradients(objective, test)[:, 12:], damping=DAMPING)
    assert model.n_parameters == 3
    close(model.influence_factors(*test), expected)


def test_blocks_may_come_in_another_order_than_the_parameters(method):
    objective, train, test = problem()
    plain, turned = (
        method(objective, regularization=DAMPING, block_structure=structure).fit([train])
        for structure in ("parameter_wise", {"b": ["bias"], "w": ["weight"]})
    )
    close(turned.influence_factors(*test), np.asarray(plain.influence_factors(*test)))


def test_each_block_may_have_its_own_damping(method):
    objective, train, test = problem()
    model = method(
        objective, regularization={"weight": 1, "bias": 0.5}, block_structure="parameter_wise"
    ).fit([train])
    matrix = dense_curvature(objective, train, structure="parameter_wise")
    damped = matrix + np.diag([1.0] * 12 + [0.5] * 3)
    expected = np.linalg.solve(damped, gradients(objective, test).T).T
    close(model.influence_factors(*test), expected)


@pytest.mark.parametrize(
    "regularization", [{"weight": 1.0}, {"weight": 1.0, "bias": 1.0, "x": 1.0}]
)
def test_dampings_of_other_blocks_are_refused(method, regularization):
    with pytest.raises(ValueError, match="one number for each block"):
        method(problem()[0], regularization=regularization, block_structure="parameter_wise")


@pytest.mark.parametrize(
    "structure",
    [{"a": ["weight", "nothing"]}, {"a": ["weight"], "b": ["weight"]}, {"a": []}, {}],
)
def test_a_mapping_that_is_no_division_is_refused(method, structure):
    with pytest.raises(ValueError, match="block_structure"):
        method(problem()[0], block_structure=structure)


@pytest.mark.parametrize("option", ["block_structure", "second_order_mode"])
def test_unknown_names_of_modes_are_refused(method, option):
    with pytest.raises(ValueError, match="nonsense"):
        method(problem()[0], **{option: "nonsense"})


def test_gauss_newton_without_its_products_is_refused(method):
    with pytest.raises(UnsupportedCurvatureError, match="Gauss-Newton"):
        method(softmax_problem()[0], second_order_mode="gauss_newton")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_self_influences_are_the_diagonal(method, structure):
    objective, train, test = problem()
    model = method(objective, regularization=DAMPING, block_structure=structure).fit([train])
    close(model.self_influences(*test), np.diag(model.influences(*test)))


def test_a_measurement_replaces_the_loss_on_the_test_side_alone(method):
    class Logit(SoftmaxRegression):
        """The first logit, whose gradient is the input and one."""

        def gradients(self, batch):
            x, _ = batch
            gradient = np.zeros((len(x), 15))
            gradient[:, :4], gradient[:, 12] = x, 1
            return gradient

    objective, train, test = problem()
    logit = Logit(objective.weight, objective.bias)
    model = method(objective, regularization=DAMPING, measurement=logit).fit([train])
    factors = dense_factors(
        dense_curvature(objective, train), logit.gradients(test), damping=DAMPING
    )
    close(model.influences(*test, *train), factors @ gradients(objective, train).T)
    between = np.sum(factors * gradients(objective, test), axis=1)
    close(model.self_influences(*test), between)


def test_another_regularization_needs_no_fit_and_leaves_the_model_as_it_was(method):
    objective, train, test = problem()
    model = method(objective, regularization=DAMPING).fit([train])
    before = np.asarray(model.influence_factors(*test))
    other = model.with_regularization(2)
    fresh = method(objective, regularization=2).fit([train])
    close(other.influence_factors(*test), np.asarray(fresh.influence_factors(*test)))
    close(model.influence_factors(*test), before, tolerance=1e-12)
    assert (model.regularization, other.regularization) == ({"full": DAMPING}, {"full": 2.0})


def test_direct_tells_the_extreme_eigenvalues():
    objective, train, _ = problem()
    told = DirectInfluence(objective, regularization=DAMPING).fit([train]).fit_diagnostics["full"]
    values = np.linalg.eigvalsh(dense_curvature(objective, train))
    np.testing.assert_allclose(
        [told.smallest_eigenvalue, told.largest_eigenvalue], values[[0, -1]], atol=1e-12
    )
