"""Curvature that is not positive: Direct warns, CG refuses, a singular one cannot be inverted."""

import numpy as np
import pytest
from curvatures import SHIFT, Saddle
from oracle import TOLERANCES, relative_error
from reference import dense_hessian, softmax_problem

from upweight import ConvergenceWarning, CurvatureWarning, IndefiniteCurvatureError
from upweight.models import CgInfluence, DirectInfluence


def saddle(xp):
    objective, train = softmax_problem(xp=xp)
    return Saddle(objective.weight, objective.bias), train


def test_direct_warns_of_the_lowest_eigenvalue(xp):
    objective, train = saddle(xp)
    with pytest.warns(CurvatureWarning, match=r"negative eigenvalues, down to -0\.7,"):
        DirectInfluence(objective, regularization=0.05).fit([train])


def test_direct_names_the_regularization_that_would_do(xp):
    objective, train = saddle(xp)
    with pytest.warns(CurvatureWarning, match=r"regularization above 0\.7\."):
        DirectInfluence(objective, regularization=0.05).fit([train])


def test_direct_solves_with_the_indefinite_matrix_all_the_same(xp):
    objective, train = saddle(xp)
    with pytest.warns(CurvatureWarning):
        model = DirectInfluence(objective, regularization=0.05).fit([train])
    damped = dense_hessian(objective, train[0]) + (0.05 - SHIFT) * np.eye(15)
    expected = np.linalg.solve(damped, np.asarray(objective.gradients(train)).T).T
    assert relative_error(model.influence_factors(*train), expected) < TOLERANCES["float64"]


@pytest.mark.parametrize("solver", ["lockstep", "block"])
def test_cg_refuses_a_direction_of_negative_curvature(xp, solver):
    objective, train = saddle(xp)
    model = CgInfluence(objective, regularization=0.05, solver=solver).fit([train])
    with pytest.raises(IndefiniteCurvatureError, match="has the curvature -0"):
        model.influence_factors(*train)


@pytest.mark.parametrize("solver", ["lockstep", "block"])
def test_cg_names_a_regularization_that_does_for_the_directions_it_met(xp, solver):
    objective, train = saddle(xp)
    model = CgInfluence(objective, regularization=0.05, solver=solver).fit([train])
    with pytest.raises(IndefiniteCurvatureError) as error:
        model.influence_factors(*train)
    named = float(str(error.value).rpartition("regularization above ")[2].partition(",")[0])
    assert 0.05 < named <= SHIFT + 1e-3


@pytest.mark.parametrize("method", [DirectInfluence, CgInfluence])
def test_a_regularization_above_the_lowest_eigenvalue_is_enough(xp, method):
    objective, train = saddle(xp)
    factors = method(objective, regularization=SHIFT + 0.1).fit([train]).influence_factors(*train)
    assert np.all(np.isfinite(np.asarray(factors)))


def test_direct_refuses_a_singular_curvature_without_regularization(xp):
    objective, train = softmax_problem(xp=xp)  # a constant added to all logits changes no loss
    with pytest.raises(IndefiniteCurvatureError, match="larger regularization"):
        DirectInfluence(objective).fit([train])


@pytest.mark.parametrize(("solver", "steps"), [("lockstep", 2), ("block", 1)])
def test_cg_warns_of_the_rows_that_have_not_converged(xp, solver, steps):
    objective, (x, y) = softmax_problem(xp=xp)
    model = CgInfluence(
        objective, regularization=1e-6, rtol=1e-10, maxiter=steps, solver=solver
    ).fit([(x, y)])
    with pytest.warns(
        ConvergenceWarning, match=f"4 of 4 rows .* at most {steps} steps.*or a larger maxiter"
    ):
        model.influence_factors(x[:4, :], y[:4])


def test_cg_reports_the_steps_of_its_last_solve(xp):
    objective, (x, y) = softmax_problem(xp=xp)
    model = CgInfluence(objective, regularization=0.1).fit([(x, y)])
    model.influence_factors(x[:3, :], y[:3])
    assert len(model.solve_diagnostics["full"].steps) == 3


def test_cg_has_no_solve_to_report_before_the_first(xp):
    objective, train = softmax_problem(xp=xp)
    assert CgInfluence(objective).fit([train]).solve_diagnostics == {}
