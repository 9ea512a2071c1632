"""Each row of a solve is a point, of its steps and its residual."""

from types import SimpleNamespace

import numpy as np
import pytest

from upweight.plot import solver_convergence


def solve(steps=None, residuals=None):
    return SimpleNamespace(steps=steps, residuals=residuals)


TWO = {"_0": solve((3, 5), (1e-3, 1e-5)), "$b$": solve((10, 4, 7), (1.0, 0.1, 0.01))}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_each_block_has_its_points(ax):
    assert solver_convergence(TWO, ax=ax) is ax
    points = [np.array(line.get_data()).T.tolist() for line in ax.lines]
    assert points == [[[3, 1e-3], [5, 1e-5]], [[10, 1.0], [4, 0.1], [7, 0.01]]]
    assert ax.get_yscale() == "log"


def test_names_of_blocks_are_shown_as_they_stand(ax):
    solver_convergence(TWO, ax=ax)
    assert legend(ax) == ["_0", "$b$"]
    assert not any(text.get_parse_math() for text in ax.get_legend().get_texts())


def test_rows_at_the_limit_of_steps_are_counted(ax):
    solver_convergence(TWO, maxiter=7, ax=ax)
    assert list(ax.lines[-1].get_xdata()) == [7, 7]
    assert legend(ax)[-1] == "maxiter 7, reached by 2"


def test_what_is_left_out_is_told(ax):
    told = {"a": solve((0, 1, 2), (0.0, 0.5, np.nan)), "direct": solve()}
    solver_convergence(told, ax=ax)
    assert np.array(ax.lines[0].get_data()).T.tolist() == [[1, 0.5]]
    assert ax.get_xlabel().splitlines() == [
        "steps",
        "(1 of 2 blocks left out: no steps)",
        "(1 of 3 rows left out: residual zero)",
        "(1 of 3 rows left out: residual NaN)",
    ]


@pytest.mark.parametrize(
    ("diagnostics", "options", "message"),
    [
        ({}, {}, "no block with steps and residuals"),
        ({"all": solve()}, {}, "no block with steps and residuals"),
        ({"all": solve((1, 2), (0.1,))}, {}, "Block 'all' has 2 steps and 1 residuals"),
        (TWO, {"maxiter": 0}, "`maxiter`"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before(closed, diagnostics, options, message):
    with pytest.raises(ValueError, match=message):
        solver_convergence(diagnostics, **options)
    assert closed.get_fignums() == []
