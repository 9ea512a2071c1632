"""Areas and precisions are those found by counting."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from upweight.evaluation import mislabel_detection


def detection(scores, wrong, suspicious="high", **options):
    mask = np.array(wrong, dtype=bool)
    return mislabel_detection(scores, mask, suspicious=suspicious, resamples=100, **options)


def test_the_area_counts_pairs_and_half_of_equal_ones():
    # Of the pairs of 3 and 1 with 2, 1, 0: 3 wins all; 1 loses, ties, wins.
    found = detection([3, 1, 2, 1, 0], [1, 1, 0, 0, 0]).roc_auc
    assert found.by_sample.tolist() == [1, 0.5]
    assert found.value == 0.75


def test_the_precision_is_that_of_all_at_least_as_suspicious():
    # In order: wrong, clean, wrong and clean together, clean. Precisions 1 and 2/4.
    found = detection([9, 5, 4, 4, 1], [1, 0, 1, 0, 0]).average_precision
    assert found.by_sample.tolist() == [1, 0.5]
    assert found.value == 0.75


def test_scores_that_are_all_equal_are_chance():
    found = detection(np.ones(8), [1, 1, 0, 0, 0, 0, 0, 0])
    assert found.roc_auc[:3] == (0.5, 0.5, 0.5)
    assert found.average_precision[:3] == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("levels", [3, 1000])
def test_any_scores_are_counted_as_by_a_loop(levels):
    generator = np.random.default_rng(levels)
    scores, wrong = generator.integers(levels, size=60), generator.random(60) < 0.3
    found = detection(scores, wrong)
    statistic = mannwhitneyu(scores[wrong], scores[~wrong]).statistic
    assert found.roc_auc.value == pytest.approx(statistic / wrong.sum() / (~wrong).sum())
    precisions = [wrong[scores >= score].mean() for score in scores[wrong]]
    assert np.allclose(found.average_precision.by_sample, precisions)


def test_intervals_hold_the_value_and_are_wider_for_few_samples():
    generator = np.random.default_rng(0)
    wrong = np.arange(400) < 80
    scores = generator.normal(size=400) + wrong
    widths = []
    for some in (slice(None, None, 8), slice(None)):
        for score in vars(detection(scores[some], wrong[some])).values():
            assert score.low < score.value < score.high
            widths.append(score.high - score.low)
    assert widths[0] > widths[2]
    assert widths[1] > widths[3]


def test_low_scores_may_be_the_suspicious_ones():
    scores, wrong = [3.0, 1.0, 2.0, 0.5], [0, 1, 0, 1]
    assert detection(scores, wrong, "low").roc_auc.value == 1
    assert detection(scores, wrong, "high").roc_auc.value == 0


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([1, 2], [1, 1]), ValueError, "both"),
        (([1, 2], [0, 0]), ValueError, "both"),
        (([1, 2, 3], [0, 1]), ValueError, r"\(3,\) and \(2,\)"),
        (([[1, 2]], [[0, 1]]), ValueError, r"\(n,\)"),
        (([1, np.nan], [0, 1]), ValueError, r"\[1\]"),
        (([1, 2], [0, 1], "big"), ValueError, "high"),
    ],
)
def test_what_cannot_be_scored_is_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        detection(*arguments)


def test_indices_are_no_mask():
    with pytest.raises(TypeError, match="mask"):
        mislabel_detection([1, 2, 3], [0, 2, 1], suspicious="high")
