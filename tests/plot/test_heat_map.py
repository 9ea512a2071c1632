"""Samples that are alike are neighbours, and colours are symmetric."""

import numpy as np
import pytest

from upweight.plot import influence_heat_map


def grouped(seed=0):
    """Return influences of 30 training on 12 test samples, in groups that lie scattered."""
    generator = np.random.default_rng(seed)
    tests, training = np.arange(12) % 3, np.arange(30) % 4
    means = 10 * generator.permutation(12).reshape(3, 4) - 40
    return means[tests][:, training] + generator.random((12, 30)), tests, training


def order_of(axis, count):
    return [int(axis.get_major_formatter()(position)) for position in range(count)]


def changes(groups):
    return np.count_nonzero(np.diff(groups))


def test_each_group_is_in_one_piece(ax):
    influences, tests, training = grouped()
    assert influence_heat_map(influences, ax=ax) is ax
    assert changes(tests[order_of(ax.yaxis, 12)]) == 2
    assert changes(training[order_of(ax.xaxis, 30)]) == 3


def test_cells_are_those_that_the_ticks_name(ax):
    influences, _, _ = grouped()
    influence_heat_map(influences, ax=ax)
    shown = influences[np.ix_(order_of(ax.yaxis, 12), order_of(ax.xaxis, 30))]
    assert np.array_equal(ax.images[0].get_array(), shown)


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_the_order_does_not_depend_on_the_unit(ax, unit):
    influences, tests, _ = grouped()
    influence_heat_map(influences * unit, ax=ax)
    assert changes(tests[order_of(ax.yaxis, 12)]) == 2


def test_the_order_may_be_kept(ax):
    influences, _, _ = grouped()
    influence_heat_map(influences, cluster=False, ax=ax)
    assert np.array_equal(ax.images[0].get_array(), influences)


def test_ticks_between_samples_and_outside_have_no_name(ax):
    influence_heat_map(grouped()[0], ax=ax)
    assert [ax.xaxis.get_major_formatter()(x) for x in (-1, 0.5, 30)] == ["", "", ""]


def test_colours_are_symmetric(ax):
    influence_heat_map([[1.0, -3.0], [0.0, 2.0]], ax=ax)
    assert ax.images[0].get_clim() == (-3, 3)
    red, _, blue, _ = ax.images[0].cmap(1.0)
    assert blue > red  # positive influences are blue


def test_colours_may_end_before_the_largest(ax):
    influence_heat_map([[1.0, -3.0]], limit=2.0, ax=ax)
    assert ax.images[0].get_clim() == (-2, 2)
    assert ax.images[0].colorbar.extend == "both"


def test_the_colour_bar_may_be_left_out(ax):
    influence_heat_map([[1.0]], colorbar=False, ax=ax)
    assert ax.figure.axes == [ax]


def test_zeros_are_drawn(ax):
    influence_heat_map(np.zeros((4, 5)), ax=ax)
    assert ax.images[0].get_clim() == (-1, 1)


def test_marked_samples_are_left_out_and_told(ax):
    influences, _, _ = grouped()
    influences[3] = np.nan
    influences[:, [5, 7]] = np.nan
    influence_heat_map(influences, ax=ax)
    assert sorted(order_of(ax.yaxis, 11)) == [i for i in range(12) if i != 3]
    assert sorted(order_of(ax.xaxis, 28)) == [i for i in range(30) if i not in (5, 7)]
    assert ax.get_ylabel() == "test sample\n(1 of 12 rows left out: NaN)"
    assert ax.get_xlabel() == "training sample\n(2 of 30 columns left out: NaN)"


@pytest.mark.parametrize(
    ("influences", "options", "message"),
    [
        (np.ones(3), {}, r"must have shape \(k, n\); got \(3,\)"),
        (np.ones((0, 3)), {}, r"must have shape \(k, n\)"),
        (np.ones((2, 2001)), {}, "at most 2000 rows and columns"),
        ([[1.0, np.inf]], {}, r"infinite at \[\[0, 1\]\]"),
        ([[1.0, np.nan], [1.0, 1.0]], {}, r"stands alone at \[\[0, 1\]\]"),
        ([[np.nan]], {}, "nothing to draw"),
        ([[1.0]], {"limit": 0.0}, "`limit` must be positive"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before(closed, influences, options, message):
    with pytest.raises(ValueError, match=message):
        influence_heat_map(influences, **options)
    assert closed.get_fignums() == []
