"""Rows in lockstep: each with steps, and an end, of its own."""

import numpy as np
from linear_systems import solve

from upweight.linalg.cg import conjugate_gradients

TIGHT = 1e-12


def mixed():
    """Return a matrix and rows that need 2, 0 and 1 steps: two, no and one of its eigenvectors."""
    return np.diag([1.0, 2.0, 4.0]), np.array([[1.0, 0, 1], [0, 0, 0], [0, 5, 0]])


def test_every_row_takes_as_many_steps_as_it_has_distinct_eigenvectors(xp):
    matrix, rows = mixed()
    solution = solve("lockstep", xp, matrix, rows, rtol=TIGHT)
    assert np.asarray(solution.steps).tolist() == [2, 0, 1]


def test_a_row_that_has_finished_takes_no_part_in_products(xp):
    matrix, rows = mixed()
    widths = []

    def product(v):
        widths.append(v.shape[0])
        return v @ xp.asarray(matrix)

    conjugate_gradients(product, xp.asarray(rows), rtol=TIGHT)
    assert widths[:2] == [2, 1]


def test_a_row_that_was_stopped_has_not_converged(xp):
    matrix, rows = mixed()
    solution = solve("lockstep", xp, matrix, rows, rtol=TIGHT, maxiter=1)
    assert np.asarray(solution.converged).tolist() == [False, True, True]


def test_negative_curvature_is_named_by_its_size(xp):
    solution = solve("lockstep", xp, np.diag([1.0, -3.0]), np.array([[1.0, 0], [0, 1]]))
    assert np.asarray(solution.curvatures).tolist() == [1.0, -3.0]


def test_a_row_that_meets_negative_curvature_does_not_start_again(xp):
    solution = solve("lockstep", xp, np.diag([1.0, 2.0, -1.0]), np.array([[1.0, 1, 0.01]]))
    assert np.asarray(solution.steps).tolist() == [3]


def test_a_row_that_meets_negative_curvature_does_not_disturb_the_others(xp):
    solution = solve("lockstep", xp, np.diag([1.0, -3.0]), np.array([[0.0, 1], [1, 0]]))
    assert np.asarray(solution.converged).tolist() == [False, True]
