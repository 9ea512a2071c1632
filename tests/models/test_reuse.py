"""What the products of one solve share is taken once a solve, and kept no longer."""

from collections import Counter

import numpy as np
import pytest
from curvatures import Softmax, dense_curvature, dense_factors, problem
from oracle import gradients, relative_error

from upweight.models import ArnoldiInfluence, CgInfluence, LissaInfluence, _curvature, _data

DAMPING = 0.1
SAMPLES, ROWS = 30, 7
METHODS = {
    "lockstep": lambda *args, **options: CgInfluence(*args, rtol=1e-8, **options),
    "block": lambda *args, **options: CgInfluence(*args, rtol=1e-8, solver="block", **options),
    "lissa": lambda *args, **options: LissaInfluence(*args, rtol=1e-7, scale=20.0, **options),
}


class Counting(Softmax):
    """Counts the samples whose gradients were taken."""

    def __init__(self, weight, bias):
        super().__init__(weight, bias)
        self.samples = Counter()

    def gradients(self, batch):
        self.samples["gradients"] += batch[1].shape[0]
        return super().gradients(batch)


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def fitted(method, objective, train, **options):
    x, y = train
    batches = [(x[:13, :], y[:13]), (x[13:, :], y[13:])]
    options = {"second_order_mode": "empirical_fisher", "regularization": DAMPING, **options}
    return method(objective, **options).fit(batches, progress=False)


def expected_factors(objective, train, test):
    matrix = dense_curvature(objective, train, mode="empirical_fisher")
    return dense_factors(matrix, gradients(objective, test), damping=DAMPING)


def test_a_solve_takes_the_gradients_of_the_training_samples_once(method):
    objective, train, test = problem(kind=Counting)
    model = fitted(method, objective, train)
    for solves in (1, 2):
        factors = model.influence_factors(*test)
        assert objective.samples["gradients"] == solves * (SAMPLES + ROWS)
    assert relative_error(factors, expected_factors(objective, train, test)) < 1e-6


def test_gradients_too_large_to_keep_are_taken_again_in_every_step(method, monkeypatch):
    objective, train, test = problem(kind=Counting)
    model = fitted(method, objective, train)
    monkeypatch.setattr(_curvature, "GRADIENT_BYTES", SAMPLES * objective.zeros(1).nbytes - 1)
    factors = model.influence_factors(*test)
    assert objective.samples["gradients"] > 2 * SAMPLES + ROWS
    assert relative_error(factors, expected_factors(objective, train, test)) < 1e-6


def test_gradients_that_just_fit_are_kept(method, monkeypatch):
    objective, train, test = problem(kind=Counting)
    model = fitted(method, objective, train)
    monkeypatch.setattr(_curvature, "GRADIENT_BYTES", SAMPLES * objective.zeros(1).nbytes)
    model.influence_factors(*test)
    assert objective.samples["gradients"] == SAMPLES + ROWS


def test_a_fit_by_lanczos_takes_the_gradients_once():
    objective, train, _ = problem(kind=Counting)
    fitted(ArnoldiInfluence, objective, train, rank=5, krylov_dimension=5)
    assert objective.samples["gradients"] == SAMPLES


@pytest.mark.parametrize("mode", ["hessian", "gauss_newton"])
def test_other_curvatures_take_no_gradients_of_the_training_samples(method, mode):
    objective, train, test = problem(kind=Counting)
    model = fitted(method, objective, train, second_order_mode=mode)
    assert np.all(np.isfinite(model.influence_factors(*test)))
    assert objective.samples["gradients"] == ROWS


class Linearising(Counting):
    """Counts the samples whose gradients were linearised, and those that products saw otherwise."""

    suggested = SAMPLES

    def suggested_batch_size(self, batch):
        return self.suggested

    def hessian_products(self, batch):
        self.samples["linearised"] += batch[1].shape[0]
        return lambda rows: Softmax.hessian_product(self, rows, batch)

    def gauss_newton_products(self, batch):
        self.samples["linearised"] += batch[1].shape[0]
        return lambda rows: Softmax.gauss_newton_product(self, rows, batch)

    def hessian_product(self, rows, batch):
        self.samples["afresh"] += batch[1].shape[0]
        return super().hessian_product(rows, batch)

    def gauss_newton_product(self, rows, batch):
        self.samples["afresh"] += batch[1].shape[0]
        return super().gauss_newton_product(rows, batch)


@pytest.mark.parametrize("mode", ["hessian", "gauss_newton"])
def test_a_solve_linearises_the_training_samples_once(method, mode):
    objective, train, test = problem(kind=Linearising)
    model = fitted(method, objective, train, second_order_mode=mode)
    for solves in (1, 2):
        factors = model.influence_factors(*test)
        assert objective.samples == {"gradients": solves * ROWS, "linearised": solves * SAMPLES}
    matrix = dense_curvature(objective, train, mode=mode)
    expected = dense_factors(matrix, gradients(objective, test), damping=DAMPING)
    assert relative_error(factors, expected) < 1e-6


def test_batches_that_would_not_be_joined_to_one_are_linearised_in_every_step(method):
    objective, train, test = problem(kind=Linearising)
    objective.suggested = SAMPLES - 1
    model = fitted(method, objective, train, second_order_mode="hessian")
    model.influence_factors(*test)
    assert objective.samples["linearised"] == 0
    assert objective.samples["afresh"] > 2 * SAMPLES


def test_data_that_is_read_again_is_linearised_in_every_step(method, monkeypatch):
    objective, train, test = problem(kind=Linearising)
    monkeypatch.setattr(_data, "KEEP_BYTES", 0)
    model = fitted(method, objective, train, second_order_mode="hessian")
    model.influence_factors(*test)
    assert objective.samples["linearised"] == 0
