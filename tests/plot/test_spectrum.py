"""Eigenvalues fall, and the effective dimension is the trace of a ridge smoother."""

import numpy as np
import pytest

from upweight.plot import spectrum


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_eigenvalues_are_sorted(ax):
    assert spectrum([1.0, 4.0, 0.5], damping=1.0, ax=ax) is ax
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert ax.lines[0].get_ydata().tolist() == [4, 1, 0.5]
    assert ax.get_yscale() == "log"


def test_the_damping_is_drawn_and_the_effective_dimension_is_told(ax):
    generator = np.random.default_rng(0)
    root, damping = generator.normal(size=(9, 6)), 0.7
    curvature = root.T @ root
    smoother = curvature @ np.linalg.inv(curvature + damping * np.eye(6))
    spectrum(np.linalg.eigvalsh(curvature), damping=damping, ax=ax)
    assert list(ax.lines[1].get_ydata()) == [damping, damping]
    told = f"damping 0.7, effective dimension {np.trace(smoother):.3g} of 6"
    assert legend(ax) == ["eigenvalues", told]


def test_negative_eigenvalues_are_drawn_by_magnitude(ax):
    spectrum([-1.0, 3.0, -2.0], damping=3.0, ax=ax)
    assert ax.lines[1].get_ydata().tolist() == [2, 1]
    assert legend(ax)[1:] == [
        "negative eigenvalues, magnitude",
        "damping 3, effective dimension 0.5 of 3",
    ]


def test_zeros_and_nan_are_told(ax):
    spectrum([1.0, 0.0, np.nan, 0.0], damping=1.0, ax=ax)
    assert ax.get_xlabel().splitlines() == [
        "rank",
        "(1 of 4 eigenvalues left out: NaN)",
        "(2 of 4 eigenvalues left out: zero)",
    ]
    assert legend(ax)[-1].endswith("0.5 of 3")


def test_without_damping_every_direction_counts(ax):
    spectrum([1.0, 1e-9], damping=0.0, ax=ax)
    assert legend(ax)[-1] == "damping 0, effective dimension 2 of 2"


@pytest.mark.parametrize(
    ("values", "damping", "message"),
    [
        (np.eye(2), 1.0, r"must have shape \(p,\); got \(2, 2\)"),
        ([0.0], 1.0, "nothing to draw"),
        ([1.0], -1.0, "`damping` must be finite and not negative; got -1.0"),
        ([1.0], np.nan, "`damping`"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before(closed, values, damping, message):
    with pytest.raises(ValueError, match=message):
        spectrum(values, damping=damping)
    assert closed.get_fignums() == []


def test_complex_eigenvalues_are_refused(ax):
    with pytest.raises(TypeError, match="real numbers"):
        spectrum([1j], damping=1.0, ax=ax)
