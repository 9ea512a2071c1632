"""Harmonic mean influence is the mean of dense inverses, one for each training sample."""

import numpy as np
import oracle
import pytest
from curvatures import blocks_of, exact_factors, problem, split
from oracle import TOLERANCES, relative_error

from upweight import DataError, NotFittedError
from upweight.models import InverseHarmonicMeanInfluence, _data, harmonic

REGULARIZATION = 0.05
STRUCTURES = ["full", "parameter_wise"]


def mean_of_inverses(objective, train, test, *, structure="full", regularization=REGULARIZATION):
    """Return the factors of the test samples by one dense inverse a training sample, (k, p)."""
    samples, rows = oracle.gradients(objective, train), oracle.gradients(objective, test)
    factors = np.zeros_like(rows)
    for columns in blocks_of(objective, structure).values():
        unit = np.eye(len(columns))
        inverses = [
            np.linalg.inv(np.outer(g, g) + regularization * unit) for g in samples[:, columns]
        ]
        factors[:, columns] = rows[:, columns] @ np.mean(inverses, axis=0)
    return factors


def fitted(objective, batches, *, regularization=REGULARIZATION, **options):
    model = InverseHarmonicMeanInfluence(objective, regularization=regularization, **options)
    return model.fit(batches, progress=False)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("k", [1, 7, 40], ids=["one row", "rows", "more rows than parameters"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_factors_are_the_mean_of_the_inverses_of_the_samples(xp, structure, k, dtype):
    objective, train, test = problem(xp, n=100, k=k, dtype=dtype)
    factors = fitted(objective, [train], block_structure=structure).influence_factors(*test)
    expected = mean_of_inverses(objective, train, test, structure=structure)
    assert np.asarray(factors).dtype == dtype
    assert relative_error(factors, expected) < TOLERANCES[dtype]


@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_influences_are_those_of_the_factors(xp, mode):
    objective, train, test = problem(xp, n=100)
    rows = mean_of_inverses(objective, train, test)
    expected = rows @ oracle.gradients(objective, train).T
    if mode == "perturbation":
        expected = oracle.perturbations(rows, objective, train)
    actual = fitted(objective, [train]).influences(*test, *train, mode=mode)
    assert relative_error(actual, expected) < 1e-9


def test_parameters_are_in_blocks_by_layer_by_default(xp):
    objective, train, _ = problem(xp, n=100)
    assert fitted(objective, [train]).block_names == ("root",)


def test_one_training_sample_has_the_damped_empirical_fisher(xp):
    objective, train, test = problem(xp, n=1)
    expected = exact_factors(
        objective, train, test, damping=REGULARIZATION, mode="empirical_fisher"
    )
    assert relative_error(fitted(objective, [train]).influence_factors(*test), expected) < 1e-9


def test_the_number_of_samples_asked_at_once_does_not_matter(xp):
    objective, train, (x, y) = problem(xp, n=100)
    model = fitted(objective, [train])
    alone = [np.asarray(model.influence_factors(x[i : i + 1, :], y[i : i + 1])) for i in range(7)]
    assert relative_error(model.influence_factors(x, y), np.concatenate(alone)) < 1e-12


@pytest.mark.parametrize("sizes", [[20, 10], [29, 1], [1] * 30], ids=["20+10", "29+1", "of 1"])
def test_how_samples_fall_into_batches_does_not_matter(xp, sizes):
    objective, train, test = problem(xp, n=30)
    whole = fitted(objective, [train]).influence_factors(*test)
    batches = split(train, sizes)
    for data in (batches, batches[::-1]):
        assert relative_error(fitted(objective, data).influence_factors(*test), whole) < 1e-10


@pytest.mark.parametrize("structure", STRUCTURES)
def test_gradients_too_many_to_keep_are_taken_again(monkeypatch, structure):
    objective, train, test = problem(np, n=100)
    kept = fitted(objective, split(train, [64, 36]), block_structure=structure)
    monkeypatch.setattr(harmonic, "GRADIENT_BYTES", 0)
    monkeypatch.setattr(_data, "KEEP_BYTES", 0)
    again = fitted(objective, split(train, [64, 36]), block_structure=structure)
    expected = kept.influence_factors(*test)
    assert relative_error(again.influence_factors(*test), expected) < 1e-12


def test_factors_approach_the_damped_empirical_fisher_as_the_damping_grows(xp):
    objective, train, test = problem(xp, n=100)
    errors = []
    for damping in (0.1, 1.0, 10.0, 100.0):
        expected = exact_factors(objective, train, test, damping=damping, mode="empirical_fisher")
        model = fitted(objective, [train], regularization=damping)
        errors.append(relative_error(model.influence_factors(*test), expected))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-2


def test_factors_approach_the_scaled_gradients_as_the_damping_grows(xp):
    objective, train, test = problem(xp, n=100)
    factors = fitted(objective, [train], regularization=1e8).influence_factors(*test)
    assert relative_error(1e8 * np.asarray(factors), oracle.gradients(objective, test)) < 1e-6


@pytest.mark.parametrize("structure", STRUCTURES)
def test_another_damping_needs_no_other_fit(xp, structure):
    objective, train, test = problem(xp, n=100)
    model = fitted(objective, [train], block_structure=structure)
    before = np.asarray(model.influence_factors(*test))
    other = model.with_regularization(2).influence_factors(*test)
    expected = mean_of_inverses(objective, train, test, structure=structure, regularization=2)
    assert relative_error(other, expected) < 1e-9
    assert np.array_equal(np.asarray(model.influence_factors(*test)), before)


def test_every_block_may_have_its_own_damping(xp):
    objective, train, test = problem(xp, n=100)
    model = fitted(
        objective,
        [train],
        regularization={"weight": 0.05, "bias": 2},
        block_structure="parameter_wise",
    )
    parts = [
        mean_of_inverses(objective, train, test, structure="parameter_wise", regularization=damping)
        for damping in (0.05, 2)
    ]
    expected = np.concatenate([parts[0][:, :-3], parts[1][:, -3:]], axis=1)
    assert relative_error(model.influence_factors(*test), expected) < 1e-9


def test_no_damping_is_refused_by_the_block_that_has_none(xp):
    objective, _, _ = problem(xp, n=100)
    with pytest.raises(ValueError, match=r"positive `regularization`.*block 'bias'"):
        InverseHarmonicMeanInfluence(
            objective,
            regularization={"weight": 1, "bias": 0},
            block_structure="parameter_wise",
        )


def test_no_damping_is_refused_afterwards_too(xp):
    objective, train, _ = problem(xp, n=100)
    model = fitted(objective, [train])
    with pytest.raises(ValueError, match="positive `regularization`"):
        model.with_regularization(0)
    assert model.regularization == {"root": REGULARIZATION}


def test_what_is_not_fitted_or_has_no_data_is_refused():
    objective, train, _ = problem(np, n=100)
    model = InverseHarmonicMeanInfluence(objective, regularization=1)
    with pytest.raises(NotFittedError, match="fit"):
        model.influence_factors(*train)
    with pytest.raises(DataError, match="no batch"):
        model.fit([])
