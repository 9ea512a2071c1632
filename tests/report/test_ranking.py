"""The page lists the right samples, whatever the blocks, and says what it left out."""

import re

import numpy as np
import pytest
from calculators.problems import problem
from calculators.stored_runs import influences, interrupted
from report.stores import report, spoilt, stored

from upweight.errors import DataError

M, N = 7, 12


def values(dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal((M, N)).astype(dtype)


def sides(row, k):
    """Return proponents and opponents of a test sample, by sorting all of its influences."""
    pairs = sorted(((i, v) for i, v in enumerate(row) if np.isfinite(v)), key=lambda p: p[1])
    opponents = [p for p in pairs if p[1] < 0][:k]
    return [p for p in reversed(pairs) if p[1] > 0][:k], opponents


def check(data, matrix, k, tests=range(M)):
    assert [one["index"] for one in data["tests"]] == list(tests)
    opposed = dict.fromkeys(range(N), 0)
    for row in matrix:
        for i, _ in sides(row, k)[1]:
            opposed[i] += 1
    for one in data["tests"]:
        row = matrix[one["index"]]
        for found, expected in zip(
            (one["proponents"], one["opponents"]), sides(row, k), strict=True
        ):
            assert [i for i, _ in found] == [i for i, _ in expected]
            np.testing.assert_allclose([v for _, v in found], [v for _, v in expected], rtol=1e-5)
        assert one["leftOut"] == np.count_nonzero(~np.isfinite(row))
    columns = [column[np.isfinite(column)].astype(float) for column in matrix.T]
    means = {i: column.mean() for i, column in enumerate(columns) if len(column)}
    harmful = sorted((i for i in means if means[i] < 0), key=means.get)[: len(data["suspects"])]
    assert [i for i, _, _ in data["suspects"]] == harmful
    assert [n for _, _, n in data["suspects"]] == [opposed[i] for i in harmful]
    found = [value for _, value, _ in data["suspects"]]
    np.testing.assert_allclose(found, [means[i] for i in harmful], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize(
    "blocks",
    [{}, {"rows": [3, 3, 1], "columns": [5, 5, 2]}, {"rows": [2, 4, 1], "columns": [1, 7, 4]}],
    ids=["one block", "blocks", "ragged blocks"],
)
def test_lists_are_those_of_the_whole_matrix(tmp_path, blocks, k, dtype):
    matrix = values(dtype)
    data, _ = report(stored(matrix, tmp_path / "r", **blocks), tmp_path / "p.html", k=k)
    check(data, matrix, k)
    assert len(data["suspects"]) == np.count_nonzero(matrix.mean(axis=0) < 0)


def test_equal_influences_are_taken_by_index_and_zeros_are_on_no_side(tmp_path):
    matrix = np.array([[1.0, 0, 1, -2, 1, -2]])
    data, _ = report(
        stored(matrix, tmp_path / "r", rows=[1], columns=[2, 2, 2]), tmp_path / "p.html", k=2
    )
    (one,) = data["tests"]
    assert one["proponents"] == [[0, 1], [2, 1]]
    assert one["opponents"] == [[3, -2], [5, -2]]


@pytest.mark.parametrize(
    "place",
    [(slice(None), 4), (2, slice(None)), (slice(0, 3), slice(5, 10)), (1, 6)],
    ids=["training sample", "test sample", "block", "number"],
)
def test_what_is_nan_is_left_out_and_told(tmp_path, place):
    matrix = values()
    store = stored(matrix, tmp_path / "r", rows=[3, 3, 1], columns=[5, 5, 2])
    matrix[place] = np.nan
    data, text = report(spoilt(store, place), tmp_path / "p.html", k=4)
    check(data, matrix, 4)
    assert f"{np.count_nonzero(np.isnan(matrix))} of {M * N} influences" in text


def test_nothing_but_nan_is_refused(tmp_path):
    store = spoilt(stored(values(), tmp_path / "r"), slice(None))
    with pytest.raises(DataError, match="nothing to report"):
        report(store, tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_chosen_tests_are_shown_in_their_order_and_suspects_are_of_all_tests(tmp_path):
    matrix = values()
    store = stored(matrix, tmp_path / "r", rows=[3, 3, 1], columns=[12])
    data, text = report(store, tmp_path / "p.html", tests=[5, "0", 5], k=3)
    check(data, matrix, 3, tests=[5, 0])
    assert "2 chosen ones of 7 test samples" in text


def test_without_suspects_only_blocks_of_the_tests_shown_are_read(tmp_path):
    store = stored(values(), tmp_path / "r", rows=[3, 3, 1], columns=[12])
    for chunk in ("c/0/0", "c/2/0"):
        (store / chunk).write_bytes(b"no chunk")
    data, _ = report(store, tmp_path / "p.html", tests=[4], suspects=0)
    assert (data["suspects"], data["wantSuspects"], len(data["tests"])) == ([], False, 1)


def test_of_many_test_samples_the_first_are_shown_and_the_page_says_so(tmp_path):
    matrix = np.random.default_rng(1).standard_normal((230, 3))
    data, text = report(stored(matrix, tmp_path / "r"), tmp_path / "p.html")
    assert [one["index"] for one in data["tests"]] == list(range(200))
    assert "the first 200 of 230 test samples" in text
    data, text = report(stored(matrix, tmp_path / "s"), tmp_path / "q.html", tests=range(230))
    assert len(data["tests"]) == 230
    assert "all test samples" in text


def test_the_page_of_a_calculator_is_that_of_the_dense_matrix(tmp_path):
    model, test, train = problem(n_test=7, n_train=20)
    influences(model, test, train).to_zarr(tmp_path / "r", _Numpy())
    data, text = report(tmp_path / "r", tmp_path / "p.html", k=4, suspects=0)
    for one, row in zip(data["tests"], model.influences(*test, *train), strict=True):
        assert [i for i, _ in one["proponents"]] == [i for i, _ in sides(row, 4)[0]]
    assert "TalliedInfluence" in text
    assert "second order mode" in text


def test_an_incomplete_result_says_how_much_is_there(tmp_path):
    interrupted(influences(*problem()), tmp_path / "r", after=4)  # 7 columns are written
    labels = list("abcdefghijklmnopqrst")  # of 20 samples, where the array has room for 21
    options = {"incomplete": True, "k": 50, "train_labels": labels, "test_labels": [3] * 7}
    data, text = report(tmp_path / "r", tmp_path / "p.html", **options)
    assert re.search(r"<dt>Incomplete</dt><dd>1 of about \d+ blocks are written", text)
    counts = [len(one["proponents"]) + len(one["opponents"]) for one in data["tests"]]
    assert counts == [7] * 7  # there is room for 8 test samples
    assert {i: one["label"] for i, one in data["train"].items()} == {
        str(i): labels[i] for i in range(7)
    }
    with pytest.raises(ValueError, match="`train_labels` has no item 6"):
        report(tmp_path / "r", tmp_path / "q.html", **{**options, "train_labels": labels[:6]})


def test_numbers_of_samples_are_listed_by_size(tmp_path):
    numbers = np.array([0.5, 3, np.nan, -1, 2, 0])
    store = stored(numbers, tmp_path / "r", columns=[4, 2])
    data, text = report(store, tmp_path / "p.html", suspects=3, train_labels=list("abcdef"))
    assert [pair[:2] for pair in data["suspects"]] == [[1, 3], [4, 2], [0, 0.5]]
    assert (data["kind"], data["train"]["4"]["label"]) == ("values", "e")
    assert "1 of 6 numbers, which are NaN" in text
    data, _ = report(store, tmp_path / "q.html", suspects=99)
    assert len(data["suspects"]) == 5


class _Numpy:
    def to_numpy(self, x):
        return x
