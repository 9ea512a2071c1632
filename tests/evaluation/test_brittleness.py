"""What is removed is what should push furthest, and changes are against training on everything."""

import numpy as np
import pytest

from upweight.evaluation import brittleness

EFFECTS = np.array([[5.0, 0.0, -3.0, 1.0, 2.0, 0.0], [0.0, 4.0, 4.0, -1.0, 0.0, -6.0]])
QUIET = {"progress": False, "resamples": 50}


def train(indices, seed):
    """Return losses from which the effect of each sample that is there is taken."""
    return 10 - EFFECTS[:, indices].sum(axis=1)


def test_removing_what_lowers_the_loss_raises_it_by_the_sum():
    found = brittleness(EFFECTS, train, positive="lowers", push="up", remove=2, **QUIET)
    assert found.change.by_sample.tolist() == [7, 8]
    assert found.change.value == 7.5
    assert found.flipped is None


def test_removing_what_raises_the_loss_lowers_it():
    found = brittleness(EFFECTS, train, positive="lowers", push="down", remove=1, **QUIET)
    assert found.change.by_sample.tolist() == [-3, -6]


def test_attributions_that_raise_the_measurement_are_those_negated():
    found = brittleness(-EFFECTS, train, positive="raises", push="up", remove=2, **QUIET)
    assert found.change.by_sample.tolist() == [7, 8]


def test_random_removal_comes_near_its_expectation():
    found = brittleness(EFFECTS, train, positive="lowers", push="up", remove=2, draws=400, **QUIET)
    expected = EFFECTS.sum(axis=1) * 2 / 6
    assert np.allclose(found.change_at_random.by_sample, expected, atol=0.5)
    assert found.change_at_random.low < expected.mean() < found.change_at_random.high


def test_a_prediction_that_crosses_the_threshold_is_flipped():
    # Losses on everything are 5 and 9; without the top sample 10 and 13.
    found = brittleness(
        EFFECTS, train, positive="lowers", push="up", remove=1, threshold=9.5, **QUIET
    )
    assert found.flipped.by_sample.tolist() == [1, 1]
    found = brittleness(
        EFFECTS, train, positive="lowers", push="up", remove=1, threshold=8, **QUIET
    )
    assert found.flipped.by_sample.tolist() == [1, 0]
    assert 0 <= found.flipped_at_random.value <= 1


def test_each_set_is_trained_on_once_with_every_seed():
    calls = []

    def counted(indices, seed):
        calls.append((len(indices), seed))
        return train(indices, seed)

    options = {**QUIET, "retrainings": 2, "seed": 3, "draws": 4}
    brittleness(EFFECTS, counted, positive="lowers", push="up", remove=2, **options)
    assert calls == [(6, 3), (6, 4)] + [(4, 3), (4, 4)] * 6


def test_the_first_of_equal_samples_are_removed():
    kept = []

    def recorded(indices, seed):
        kept.append(indices.tolist())
        return [0.0]

    brittleness(np.ones((1, 4)), recorded, positive="lowers", push="up", remove=2, **QUIET)
    assert kept[1] == [2, 3]


def test_a_run_is_resumed(tmp_path):
    options = {**QUIET, "store": tmp_path / "outputs.zarr"}
    first = brittleness(EFFECTS, train, positive="lowers", push="up", remove=1, **options)
    again = brittleness(
        EFFECTS, None, positive="lowers", push="up", remove=1, resume=True, **options
    )
    assert again.change.value == first.change.value


@pytest.mark.parametrize(
    "wrong",
    [
        {"remove": 0},
        {"remove": 6},
        {"draws": 0},
        {"push": "sideways"},
        {"positive": "helps"},
        {"confidence": 2},
        {"attributions": EFFECTS[0]},
    ],
)
def test_wrong_options_are_refused_before_any_training(wrong):
    options = {"attributions": EFFECTS, "positive": "lowers", "push": "up", "remove": 1, **wrong}
    with pytest.raises(ValueError, match=r"must|says|at least"):
        brittleness(train=lambda indices, seed: pytest.fail("trained"), **options)


def test_measurements_of_other_test_samples_are_refused():
    with pytest.raises(ValueError, match="each of the 1 test samples"):
        brittleness(EFFECTS[:1], train, positive="lowers", push="up", remove=1, **QUIET)
