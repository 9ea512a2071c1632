"""How the samples fall into batches, and into which structure of arrays, changes nothing."""

from collections import Counter

import numpy as np
import pytest
from curvatures import split
from oracle import relative_error
from reference import SoftmaxRegression, softmax_problem

from upweight import DataError, UnsupportedInfluenceModeError
from upweight.models import CgInfluence, DirectInfluence, _data

SPLITS = {"100": [100], "64+36": [64, 36], "99+1": [99, 1], "of 1": [1] * 100}
ROUNDING = {"float64": 1e-10, "float32": 1e-4}


class Joining(SoftmaxRegression):
    """Takes several batches at once."""

    def suggested_batch_size(self, batch):
        return 90


class Counting(SoftmaxRegression):
    """Counts the samples that each of its primitives was given."""

    def __init__(self, weight, bias):
        super().__init__(weight, bias)
        self.samples = Counter()

    def gradients(self, batch):
        self.samples["gradients"] += batch[1].shape[0]
        return super().gradients(batch)

    def hessian_product(self, rows, batch):
        self.samples["hessian_product"] += batch[1].shape[0]
        return super().hessian_product(rows, batch)


@pytest.fixture(params=["direct", "lockstep", "block"])
def method(request):
    if request.param == "direct":
        return lambda objective: DirectInfluence(objective, regularization=0.1)
    return lambda objective: CgInfluence(
        objective,
        regularization=0.1,
        solver=request.param,
        rtol={"float64": 1e-12, "float32": 1e-6}[str(objective.dtype)],
    )


def of_kind(kind, objective):
    return kind(objective.weight, objective.bias)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", [SoftmaxRegression, Joining])
@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
def test_factors_do_not_depend_on_the_training_batches(xp, method, sizes, kind, dtype):
    objective, train = softmax_problem(n=100, dtype=dtype, xp=xp)
    whole = method(objective).fit([train]).influence_factors(*train)
    batches = split(train, sizes)
    in_batches = method(of_kind(kind, objective)).fit(batches).influence_factors(*train)
    assert relative_error(in_batches, whole) < ROUNDING[dtype]


@pytest.mark.parametrize("mode", ["up", "perturbation"])
@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
def test_influences_do_not_depend_on_the_batches_they_are_asked_in(xp, method, sizes, mode):
    objective, train = softmax_problem(n=100, xp=xp)
    test = softmax_problem(n=5, seed=5, xp=xp)[1]
    model = method(objective).fit([train])
    factors = model.influence_factors(*test)
    parts = [
        np.asarray(model.influences_from_factors(factors, *part, mode=mode))
        for part in split(train, sizes)
    ]
    whole = model.influences_from_factors(factors, *train, mode=mode)
    assert relative_error(np.concatenate(parts, axis=1), whole) < ROUNDING["float64"]


def test_factors_do_not_depend_on_the_order_of_the_training_batches(xp, method):
    objective, train = softmax_problem(n=100, xp=xp)
    batches = split(train, [60, 30, 10])
    forward = method(objective).fit(batches).influence_factors(*train)
    backward = method(objective).fit(batches[::-1]).influence_factors(*train)
    assert relative_error(backward, forward) < ROUNDING["float64"]


@pytest.mark.parametrize("kind", [SoftmaxRegression, Joining])
@pytest.mark.parametrize(
    "structure", [tuple, list, lambda pair: dict(zip("ab", pair, strict=True))]
)
def test_several_inputs_are_taken_as_a_tuple_or_a_mapping(xp, method, structure, kind):
    objective, (x, y) = softmax_problem(n=20, xp=xp)
    whole = method(objective).fit([(x, y)]).influences(x, y)
    inputs = structure([x[:, :1], x[:, 1:]])
    halves = [
        (structure([x[rows, :1], x[rows, 1:]]), y[rows]) for rows in (slice(0, 12), slice(12, 20))
    ]
    model = method(of_kind(kind, objective)).fit(halves)
    assert relative_error(model.influences(inputs, y), whole) < ROUNDING["float64"]


def test_inputs_are_joined_by_their_names_and_not_by_their_places(xp, method):
    objective, (x, y) = softmax_problem(n=20, xp=xp)

    class ByName(Joining):
        def _inputs(self, x):
            return super()._inputs([x["a"], x["b"]])

    batches = [
        ({"a": x[:12, :2], "b": x[:12, 2:]}, y[:12]),
        ({"b": x[12:, 2:], "a": x[12:, :2]}, y[12:]),
    ]
    model = method(of_kind(ByName, objective)).fit(batches)
    expected = method(objective).fit([(x, y)]).influence_factors(x, y)
    actual = model.influence_factors({"a": x[:, :2], "b": x[:, 2:]}, y)
    assert relative_error(actual, expected) < ROUNDING["float64"]


def test_the_floating_point_input_among_several_is_perturbed(xp, method):
    objective, (x, y) = softmax_problem(n=20, xp=xp)
    tokens = xp.asarray(np.arange(20)[:, None] % 3)
    inputs = {"tokens": tokens, "x": x[:, 1:]}
    model = method(objective).fit([(inputs, y)])
    assert tuple(model.influences(inputs, y, mode="perturbation").shape) == (20, 20, 3)


def test_two_floating_point_inputs_cannot_both_be_perturbed(xp, method):
    objective, (x, y) = softmax_problem(n=20, xp=xp)
    inputs = (x[:, :1], x[:, 1:])
    model = method(objective).fit([(inputs, y)])
    with pytest.raises(UnsupportedInfluenceModeError, match="one floating-point input; got 2"):
        model.influences(inputs, y, mode="perturbation")


@pytest.mark.parametrize("solver", ["lockstep", "block"])
def test_a_step_of_cg_passes_once_over_the_training_samples_for_all_rows(xp, solver):
    objective, train = softmax_problem(n=100, xp=xp)
    objective = of_kind(Counting, objective)
    model = CgInfluence(objective, regularization=0.1, solver=solver)
    model.fit(split(train, [64, 36])).influence_factors(*train)
    steps = max(model.solve_diagnostics["full"].steps)
    assert objective.samples["hessian_product"] == 100 * (steps + 1)  # one to measure the residual


def test_the_gradients_of_the_training_samples_are_not_taken_to_fit(xp, method):
    objective, train = softmax_problem(n=100, xp=xp)
    objective = of_kind(Counting, objective)
    method(objective).fit([train])
    assert objective.samples["gradients"] == 0


def test_data_too_large_to_keep_is_read_again(monkeypatch):
    monkeypatch.setattr(_data, "KEEP_BYTES", 0)
    objective, train = softmax_problem(n=100)
    batches = split(train, [64, 36])
    direct = DirectInfluence(objective, regularization=0.1).fit(batches).influence_factors(*train)
    cg = CgInfluence(objective, regularization=0.1, rtol=1e-12).fit(batches)
    assert relative_error(cg.influence_factors(*train), direct) < ROUNDING["float64"]


def test_data_that_is_kept_may_be_lost_afterwards():
    objective, train = softmax_problem(n=100)
    batches = split(train, [64, 36])
    model = CgInfluence(objective, regularization=0.1).fit(batches)
    batches.clear()
    assert model.influence_factors(*train).shape == (100, 15)


def test_data_that_changes_its_length_is_refused(monkeypatch):
    monkeypatch.setattr(_data, "KEEP_BYTES", 0)
    objective, train = softmax_problem(n=100)
    batches = split(train, [64, 36])
    model = CgInfluence(objective, regularization=0.1).fit(batches)
    batches.pop()
    with pytest.raises(DataError, match="held 100 samples when it was first read and 64 now"):
        model.influence_factors(*train)
