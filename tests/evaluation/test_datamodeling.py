"""Right influences score 1 and negated ones -1, where everything is known exactly."""

import numpy as np
import pytest

from upweight.evaluation import (
    Retrained,
    leave_one_out_correlation,
    leave_one_out_subsets,
    linear_datamodeling_score,
    random_subsets,
    retrain,
)

N, P, K = 40, 3, 5


class Regression:
    """Least squares on N samples; what is measured are predictions of K test samples."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.x, self.tests = generator.normal(size=(N, P)), generator.normal(size=(K, P))
        self.y = self.x @ generator.normal(size=P) + generator.normal(size=N)

    def train(self, indices, seed):
        return self.tests @ np.linalg.lstsq(self.x[indices], self.y[indices], rcond=None)[0]

    def influences(self):
        """Return test gradients times inverse Hessian times gradients of half squared errors."""
        errors = self.x @ np.linalg.lstsq(self.x, self.y, rcond=None)[0] - self.y
        hessian = self.x.T @ self.x / N
        return self.tests @ np.linalg.solve(hessian, (errors[:, None] * self.x).T)

    def leave_one_out(self):
        """Return the exact changes: influences over n, grown by leverage (Cook and Weisberg, 1982)."""
        leverage = np.sum(self.x * np.linalg.solve(self.x.T @ self.x, self.x.T).T, axis=1)
        return self.influences() / N / (1 - leverage)


class Mean:
    """A constant fitted by least squares: the mean, which is linear in the samples of a subset."""

    y = np.random.default_rng(1).normal(size=N)
    slopes = np.array([1.0, -2.0, 0.5])

    def train(self, indices, seed):
        return self.slopes * self.y[indices].mean()

    def influences(self):
        return self.slopes[:, None] * (self.y.mean() - self.y)


@pytest.fixture(scope="module")
def halves():
    problem = Regression()
    return problem, retrain(problem.train, random_subsets(N, count=60), progress=False)


def test_influences_that_are_exact_for_subsets_score_one():
    problem = Mean()
    retrained = retrain(problem.train, random_subsets(N, count=20), progress=False)
    score = linear_datamodeling_score(problem.influences(), retrained, positive="lowers")
    assert np.allclose(score.by_sample, 1)
    assert score.value == pytest.approx(1)
    assert score.low == pytest.approx(1)


def test_influences_of_a_regression_predict_training_on_halves(halves):
    problem, retrained = halves
    score = linear_datamodeling_score(problem.influences(), retrained, positive="lowers")
    assert 0.9 < score.low <= score.value <= score.high < 1


def test_negated_influences_give_the_negative_score(halves):
    problem, retrained = halves
    right, wrong = (
        linear_datamodeling_score(sign * problem.influences(), retrained, positive="lowers")
        for sign in (1, -1)
    )
    assert wrong.value == pytest.approx(-right.value)
    assert np.allclose(wrong.by_sample, -right.by_sample)


def test_attributions_that_raise_the_measurement_are_those_negated(halves):
    problem, retrained = halves
    lowers = linear_datamodeling_score(problem.influences(), retrained, positive="lowers")
    raises = linear_datamodeling_score(-problem.influences(), retrained, positive="raises")
    assert lowers.value == raises.value


def test_a_score_worked_by_hand():
    # Sums of influences 3, 4, 5: predicted order of outputs 3, 2, 1. Measured order 3, 1, 2:
    # 1 - 6 (0 + 1 + 1) / (3 (9 - 1)) = 0.5.
    subsets = [np.array([0, 1]), np.array([0, 2]), np.array([1, 2])]
    outputs = np.array([9.0, 1.0, 4.0])[:, None, None]
    score = linear_datamodeling_score(
        [[1.0, 2.0, 3.0]], Retrained(subsets, outputs), positive="lowers", resamples=10
    )
    assert score.value == pytest.approx(0.5)


def test_retrainings_are_averaged_before_they_are_ranked():
    subsets = [np.array([0]), np.array([1])]
    outputs = np.array([[[0.0], [5.0]], [[1.0], [1.0]]])  # means 2.5 and 1; first ones 0 and 1
    score = linear_datamodeling_score(
        [[0.0, 1.0]], Retrained(subsets, outputs), positive="lowers", resamples=10
    )
    assert score.value == pytest.approx(1)


def test_exact_leave_one_out_changes_correlate_perfectly():
    problem = Regression()
    retrained = retrain(problem.train, leave_one_out_subsets(N), progress=False)
    for kind in ("pearson", "spearman"):
        score = leave_one_out_correlation(
            problem.leave_one_out(), retrained, positive="lowers", kind=kind, resamples=10
        )
        assert np.allclose(score.by_sample, 1, atol=1e-10)


def test_leaving_out_some_samples_correlates_over_these():
    problem, samples = Regression(), [3, 17, 5, 30, 8]
    retrained = retrain(problem.train, leave_one_out_subsets(N, samples), progress=False)
    score = leave_one_out_correlation(
        problem.influences(), retrained, positive="lowers", resamples=10
    )
    changes = retrained.outputs[:, 0]
    expected = [
        np.corrcoef(row[samples], change)[0, 1]
        for row, change in zip(problem.influences(), changes.T, strict=True)
    ]
    assert np.allclose(score.by_sample, expected)


def test_one_test_sample_is_enough(halves):
    problem, retrained = halves
    alone = Retrained(retrained.subsets, retrained.outputs[:, :, :1])
    score = linear_datamodeling_score(problem.influences()[:1], alone, positive="lowers")
    assert score.by_sample.shape == (1,)
    assert score.low < score.value < score.high


def test_outputs_that_do_not_vary_are_refused_by_test_sample(halves):
    problem, retrained = halves
    outputs = retrained.outputs.copy()
    outputs[:, :, 2] = 1
    with pytest.raises(ValueError, match=r"measurement is the same .* \[2\]"):
        linear_datamodeling_score(
            problem.influences(), Retrained(retrained.subsets, outputs), positive="lowers"
        )


def test_attributions_that_do_not_vary_are_refused(halves):
    influences = halves[0].influences()
    influences[1] = 0
    with pytest.raises(ValueError, match=r"sum of attributions is the same .* \[1\]"):
        linear_datamodeling_score(influences, halves[1], positive="lowers")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a[:3], "3 test samples"),
        (lambda a: a[0], r"\(k, n\)"),
        (lambda a: a[:0], r"\(k, n\)"),
        (lambda a: np.where(a == a[1, 1], np.nan, a), r"NaN or infinite for test samples \[1\]"),
    ],
)
def test_attributions_of_a_wrong_form_are_refused(halves, change, match):
    with pytest.raises(ValueError, match=match):
        linear_datamodeling_score(change(halves[0].influences()), halves[1], positive="lowers")


def test_subsets_of_other_samples_are_refused(halves):
    with pytest.raises(IndexError, match="0 to 29"):
        linear_datamodeling_score(halves[0].influences()[:, :30], halves[1], positive="lowers")


def test_a_direction_must_be_known(halves):
    with pytest.raises(ValueError, match="`positive` says"):
        linear_datamodeling_score(halves[0].influences(), halves[1], positive="helps")


def test_subsets_of_several_sizes_are_refused():
    retrained = Retrained([np.array([0]), np.array([0, 1])], np.ones((2, 1, 1)))
    with pytest.raises(ValueError, match="one size"):
        linear_datamodeling_score(np.ones((1, 3)), retrained, positive="lowers")


def test_halves_are_no_samples_left_out(halves):
    with pytest.raises(ValueError, match="all of the 40 samples but one"):
        leave_one_out_correlation(halves[0].influences(), halves[1], positive="lowers")
    with pytest.raises(ValueError, match="kind"):
        leave_one_out_correlation(
            halves[0].influences(), halves[1], positive="lowers", kind="kendall"
        )
