"""LiSSA takes the batches of the user as they are, and refuses what it cannot work with."""

import numpy as np
import pytest
from curvatures import Softmax, exact_factors, problem, split
from oracle import relative_error

from upweight import ConvergenceWarning, DataError, IndefiniteCurvatureError
from upweight.models import LissaInfluence, _data

REGULARIZATION = 0.1
RTOL = {"float64": 1e-8, "float32": 2e-5}
TOLERANCES = {"float64": 1e-6, "float32": 1e-3}


def fitted(objective, batches, *, regularization=REGULARIZATION, **options):
    options = {"rtol": RTOL[str(objective.dtype)], "maxiter": 50_000, **options}
    model = LissaInfluence(objective, regularization=regularization, **options)
    return model.fit(batches, progress=False)


class Loader:
    """Makes batches of samples by a function of its own, and counts how often it is walked."""

    def __init__(self, samples, collate):
        self.samples, self.collate, self.walks = samples, collate, 0

    def __iter__(self):
        self.walks += 1
        for start in range(0, len(self.samples), 16):
            yield self.collate(self.samples[start : start + 16])


@pytest.mark.parametrize("keep", [True, False])
def test_the_loader_of_the_user_makes_the_batches(monkeypatch, keep):
    objective, (x, y), test = problem(np, n=100)
    loader = Loader(
        [{"features": f"{row.tolist()}", "label": label} for row, label in zip(x, y, strict=True)],
        lambda samples: (
            np.array([[float(v) for v in s["features"][1:-1].split(",")] for s in samples]),
            np.array([s["label"] for s in samples]),
        ),
    )
    if not keep:
        monkeypatch.setattr(_data, "KEEP_BYTES", 0)
    factors = fitted(objective, loader).influence_factors(*test)
    expected = exact_factors(objective, (x, y), test, damping=REGULARIZATION)
    assert relative_error(factors, expected) < TOLERANCES["float64"]
    assert (loader.walks == 1) is keep


def test_batches_are_not_joined_although_the_model_could_take_more():
    class Joining(Softmax):
        seen = ()

        def suggested_batch_size(self, batch):
            return 1000

        def hessian_product(self, rows, batch):
            Joining.seen += (len(batch[1]),)
            return super().hessian_product(rows, batch)

    objective, train, test = problem(np, n=100)
    fitted(Joining(objective.weight, objective.bias), split(train, [40, 60])).influences(*test)
    assert set(Joining.seen) == {40, 60}


def test_data_that_changes_is_refused(monkeypatch):
    monkeypatch.setattr(_data, "KEEP_BYTES", 0)
    objective, train, test = problem(np, n=100)
    batches = split(train, [64, 36])
    model = fitted(objective, batches)
    batches.pop()
    with pytest.raises(DataError, match="held 100 samples when it was first read and 64 now"):
        model.influence_factors(*test)


def test_no_curvature_and_no_damping_is_refused():
    class Flat(Softmax):
        def hessian_product(self, rows, batch):
            return 0 * rows

    objective, train, _ = problem(np, n=100)
    with pytest.raises(IndefiniteCurvatureError, match="is zero"):
        fitted(Flat(objective.weight, objective.bias), [train], regularization=0)


def test_a_tolerance_below_single_precision_is_told_without_running_to_the_limit():
    objective, train, test = problem(np, n=100, dtype="float32")
    model = fitted(objective, split(train, [40, 60]), rtol=1e-12)
    with pytest.warns(ConvergenceWarning, match="7 of 7 rows .*or numbers of double precision"):
        factors = model.influence_factors(*test)
    expected = exact_factors(objective, train, test, damping=REGULARIZATION)
    assert max(model.solve_diagnostics["full"].steps) < 5_000
    assert relative_error(factors, expected) < 1e-5


@pytest.mark.parametrize(
    "option",
    [
        {"rtol": 0.0},
        {"rtol": float("nan")},
        {"scale": 0.0},
        {"scale": -1.0},
        {"scale": float("inf")},
        {"maxiter": 0},
        {"maxiter": 1.5},
        {"repeats": 0},
        {"repeats": True},
        {"seed": -1},
    ],
    ids=str,
)
def test_an_option_without_meaning_is_refused_by_its_name(option):
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f"`{name}` must be .*; got {value!r}"):
        LissaInfluence(problem(np, n=100)[0], **option)
