"""Preconditioners shorten the solves of conjugate gradients and do not change what they find."""

import numpy as np
import pytest
from curvatures import NAMESPACES, Softmax, dense_curvature, dense_factors, namespace, problem
from oracle import gradients
from reference import softmax_problem

from upweight.models import CgInfluence, JacobiPreconditioner, NystroemPreconditioner

REGULARIZATION = 1e-4
PRECONDITIONERS = {
    "jacobi": JacobiPreconditioner(probes=100),
    "nystroem": NystroemPreconditioner(rank=40),
}


@pytest.fixture(params=PRECONDITIONERS)
def preconditioner(request):
    return PRECONDITIONERS[request.param]


def ill_conditioned_problem(xp=np):
    """Return a model whose inputs have scales from 0.01 to 100, and its data."""
    scales = np.logspace(-2, 2, 20)
    objective, (x, y) = softmax_problem(n=200, d=20)
    weight, x = objective.weight / scales, x * scales
    model = Softmax(xp.asarray(weight), xp.asarray(objective.bias))
    return model, (xp.asarray(x), xp.asarray(y))


def solved(objective, train, preconditioner, *, rtol=1e-8, **options):
    model = CgInfluence(
        objective,
        regularization=REGULARIZATION,
        rtol=rtol,
        preconditioner=preconditioner,
        **options,
    ).fit([train], progress=False)
    factors = model.influence_factors(train[0][:5, :], train[1][:5])
    return np.asarray(factors), model.solve_diagnostics


@pytest.mark.parametrize(("solver", "share"), [("lockstep", 1 / 2), ("block", 2 / 3)])
def test_steps_are_far_fewer_on_an_ill_conditioned_problem(solver, share, preconditioner):
    objective, train = ill_conditioned_problem()
    _, plain = solved(objective, train, None, rtol=1e-4, solver=solver)
    _, shortened = solved(objective, train, preconditioner, rtol=1e-4, solver=solver)
    assert max(shortened["full"].steps) < share * max(plain["full"].steps)


def test_the_solver_by_blocks_takes_less_than_half_the_steps():
    objective, train = ill_conditioned_problem()
    _, lockstep = solved(objective, train, None, rtol=1e-4)
    _, block = solved(objective, train, None, rtol=1e-4, solver="block")
    assert max(block["full"].steps) < 0.5 * max(lockstep["full"].steps)


@pytest.mark.parametrize("name", NAMESPACES)
@pytest.mark.parametrize("structure", ["full", "parameter_wise"])
@pytest.mark.parametrize("solver", ["lockstep", "block"])
def test_the_solution_is_that_of_the_dense_matrix(name, structure, solver, preconditioner):
    objective, train = ill_conditioned_problem(namespace(name))
    factors, _ = solved(
        objective, train, preconditioner, rtol=1e-12, block_structure=structure, solver=solver
    )
    matrix = dense_curvature(objective, train, structure=structure)
    expected = dense_factors(matrix, gradients(objective, train)[:5], damping=REGULARIZATION)
    np.testing.assert_allclose(factors, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_the_same_seed_gives_the_same_steps(preconditioner):
    objective, train = ill_conditioned_problem()
    runs = [solved(objective, train, preconditioner)[1]["full"].steps for _ in range(2)]
    assert runs[0] == runs[1]


def test_single_precision_is_solved_to_its_precision(preconditioner):
    objective, train, test = problem(dtype="float32")
    model = CgInfluence(
        objective, regularization=0.1, rtol=1e-5, preconditioner=preconditioner
    ).fit([train])
    factors = model.influence_factors(*test)
    matrix = dense_curvature(objective, train)
    expected = dense_factors(matrix, gradients(objective, test), damping=0.1)
    assert factors.dtype == np.float32
    np.testing.assert_allclose(factors, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_jacobi_diagonal_is_exact_for_as_many_probes_as_parameters():
    objective, train = ill_conditioned_problem()
    seen = []

    class Spy(JacobiPreconditioner):
        def fit(self, operator):
            seen.append(super().fit(operator))
            return seen[0]

    solved(objective, train, Spy(probes=63))
    np.testing.assert_allclose(
        seen[0].diagonal, np.diag(dense_curvature(objective, train)), rtol=1e-10
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (JacobiPreconditioner, {"probes": 0}),
        (JacobiPreconditioner, {"seed": -1}),
        (NystroemPreconditioner, {"rank": 0}),
        (NystroemPreconditioner, {"rank": 2.5}),
    ],
)
def test_options_that_make_no_sense_are_refused(kind, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(**options)
