"""Landmarks of influence in the dual: the span of some vectors, and damping outside of it."""

import numpy as np
import pytest
import torch
from dual_oracle import curvature_vectors, influences, loss_gradients
from torch_backend.test_gram import DAMPING, close, fitted
from torch_zoo import MLP, case

CASES = [MLP, case("convolution"), case("attention between linears")]


@pytest.mark.parametrize("zoo_case", CASES, ids=str)
def test_landmarks_project_the_curvature_of_all_samples_on_their_span(zoo_case):
    model, train, test = zoo_case.model(), zoo_case.batch(20), zoo_case.batch(4, seed=1)
    influence = fitted(model, train, landmarks=6)
    span = landmarks_of(influence)
    assert span.shape == (6, influence.n_parameters)
    vectors = curvature_vectors(model, zoo_case.loss, train)
    of_test, of_train = (loss_gradients(model, zoo_case.loss, data) for data in (test, train))
    projected = vectors @ (np.linalg.pinv(span) @ span)
    close(
        influence.influences(*test, *train),
        influences(projected, of_test, of_train, damping=DAMPING),
    )
    share = (projected**2).sum() / (vectors**2).sum()
    assert influence.fit_diagnostics["full"].captured_trace == pytest.approx(share)


def test_landmarks_are_vectors_of_samples():
    model, train = MLP.model(), MLP.batch(20)
    vectors = curvature_vectors(model, MLP.loss, train)
    known = vectors.reshape(-1, vectors.shape[-1])
    for row in landmarks_of(fitted(model, train, landmarks=6)):
        distances = np.minimum(
            np.linalg.norm(known - row, axis=1), np.linalg.norm(known + row, axis=1)
        )
        assert distances.min() < 1e-8


def test_as_many_landmarks_as_the_curvature_has_dimensions_are_exact():
    model, train, test = case("linear").model(), case("linear").batch(40), MLP.batch(4, seed=1)
    whole = fitted(model, train)
    rank = 10  # 15 parameters; the three vectors of a sample add up to nothing
    some = fitted(model, train, landmarks=60)
    assert rank < 60 < 120
    close(some.influences(*test, *train), whole.influences(*test, *train), rtol=1e-6)


def test_more_landmarks_come_closer():
    model, train, test = MLP.model(), MLP.batch(60), MLP.batch(4, seed=1)
    exact = fitted(model, train, size=60).influences(*test, *train)
    errors = []
    for landmarks in (2, 8, 24, 60, 120):
        some = [
            fitted(model, train, size=60, landmarks=landmarks, seed=seed).influences(*test, *train)
            for seed in range(5)
        ]
        errors.append(np.mean([float(torch.linalg.norm(each - exact)) for each in some]))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * errors[0]


def test_large_vectors_are_drawn_more_often():
    model, (x, y) = case("linear").model(), case("linear").batch(40)
    x = torch.cat([3 * x[:20], 0.1 * x[20:]])
    vectors = curvature_vectors(model, MLP.loss, (x, y)).reshape(-1, 15)
    norms = (vectors**2).sum(1)
    drawn = np.zeros(len(vectors))
    for seed in range(200):
        (row,) = landmarks_of(fitted(model, (x, y), size=40, landmarks=1, seed=seed))
        distances = np.minimum(
            np.linalg.norm(vectors - row, axis=1), np.linalg.norm(vectors + row, axis=1)
        )
        drawn[distances.argmin()] += 1
    expected = 200 * norms / norms.sum()
    deviation = (drawn - expected)[expected > 1] / np.sqrt(expected[expected > 1])
    assert np.abs(deviation).max() < 4


def test_the_seed_decides():
    model, train = MLP.model(), MLP.batch(20)
    one, same, other = (
        landmarks_of(fitted(model, train, landmarks=6, seed=seed)) for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def landmarks_of(influence):
    """Return the landmarks as rows over all parameters, (m, p)."""
    curvature = influence._curvatures["full"]
    unit = torch.eye(len(curvature.vectors), dtype=torch.float64)
    return curvature.factoring.combinations(unit, curvature.vectors).numpy()
