"""Every number is counted once, and the largest are named."""

import numpy as np
import pytest

from upweight.plot import self_influence_histogram

VALUES = np.array([0.1, 5.0, np.nan, 0.0, 2.0, 100.0, 0.3, -1.0])


def counts(ax):
    return [bar.get_height() for bar in ax.patches]


@pytest.mark.parametrize(("log", "drawn"), [(False, 7), (True, 5)])
def test_all_that_can_be_drawn_are_counted(ax, log, drawn):
    assert self_influence_histogram(VALUES, bins=9, log=log, ax=ax) is ax
    assert len(counts(ax)) == 9
    assert sum(counts(ax)) == drawn
    assert ax.get_xscale() == ("log" if log else "linear")


def test_counts_are_those_of_equal_bins(ax):
    self_influence_histogram([0, 1, 1, 2, 4], bins=4, ax=ax)
    assert counts(ax) == [1, 2, 1, 1]


def test_bins_are_equal_on_a_logarithmic_axis(ax):
    self_influence_histogram([1, 10, 10**1.5, 1000], bins=3, log=True, ax=ax)
    assert counts(ax) == [1, 2, 1]


@pytest.mark.parametrize("log", [False, True])
def test_the_top_ones_are_marked_and_named(ax, log):
    self_influence_histogram(VALUES, top=3, log=log, ax=ax)
    assert ax.lines[0].get_xdata().tolist() == [100, 5, 2]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["top 3: #5, #1, #4"]


def test_fewer_than_the_top_are_all_marked(ax):
    self_influence_histogram([1.0, 2.0], top=9, ax=ax)
    assert ax.get_legend().get_texts()[0].get_text() == "top 2: #1, #0"


def test_what_is_left_out_is_told(ax):
    self_influence_histogram(VALUES, log=True, ax=ax)
    assert ax.get_xlabel().splitlines() == [
        "self-influence",
        "(1 of 8 samples left out: NaN)",
        "(2 of 8 samples left out: not positive)",
    ]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.ones((2, 2)), {}, r"must have shape \(n,\); got \(2, 2\)"),
        ([], {}, r"must have shape \(n,\)"),
        ([np.nan], {}, "nothing to draw"),
        ([-1.0, 0.0], {"log": True}, "no positive number"),
        ([np.inf], {}, "infinite"),
        ([1.0], {"top": 0}, "`top`"),
        ([1.0], {"bins": 0}, "`bins`"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before(closed, values, options, message):
    with pytest.raises(ValueError, match=message):
        self_influence_histogram(values, **options)
    assert closed.get_fignums() == []
