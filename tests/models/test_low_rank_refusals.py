"""What Arnoldi and Nyström influences refuse, warn of, or do outside their subspace."""

import warnings

import numpy as np
import pytest
from curvatures import (
    NAMESPACES,
    SHIFT,
    Saddle,
    Softmax,
    dense_curvature,
    dense_factors,
    namespace,
    problem,
)
from oracle import gradients, relative_error

from upweight import CurvatureWarning, IndefiniteCurvatureError, NonFiniteError
from upweight.models import ArnoldiInfluence, NystroemSketchInfluence

EXACT = 1e-9
METHODS = {"arnoldi": ArnoldiInfluence, "nystroem": NystroemSketchInfluence}


@pytest.fixture(params=NAMESPACES)
def xp(request):
    return namespace(request.param)


@pytest.fixture(params=METHODS.values(), ids=METHODS)
def method(request):
    return request.param


def truncated(matrix, rows, *, rank, damping, outside):
    """Return the factors of the `rank` eigenvalues of largest magnitude."""
    values, vectors = np.linalg.eigh(matrix)
    kept = np.argsort(-np.abs(values))[:rank]
    values, vectors = values[kept], vectors[:, kept]
    inside = (rows @ vectors / (values + damping)) @ vectors.T
    remainder = rows - rows @ vectors @ vectors.T
    return inside + (remainder / damping if outside == "damped" else 0)


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("outside", ["damped", "dropped"])
def test_arnoldi_keeps_the_eigenvalues_of_largest_magnitude(xp, outside, rank):
    objective, train, test = problem(xp)
    expected = truncated(
        dense_curvature(objective, train),
        gradients(objective, test),
        rank=rank,
        damping=0.2,
        outside=outside,
    )
    model = ArnoldiInfluence(objective, regularization=0.2, rank=rank, outside=outside)
    assert relative_error(model.fit([train]).influence_factors(*test), expected) < EXACT


def test_arnoldi_without_damping_drops_the_outside_if_asked(xp):
    objective, train, test = problem(xp)
    expected = truncated(
        dense_curvature(objective, train),
        gradients(objective, test),
        rank=4,
        damping=0,
        outside="dropped",
    )
    model = ArnoldiInfluence(objective, regularization=0, rank=4, outside="dropped")
    assert relative_error(model.fit([train]).influence_factors(*test), expected) < EXACT


def test_more_steps_bring_the_largest_eigenvalue_closer():
    objective, train, _ = problem()
    seen = [
        ArnoldiInfluence(objective, regularization=0.1, rank=1, krylov_dimension=dimension)
        .fit([train])
        .fit_diagnostics["full"]
        .largest_eigenvalue
        for dimension in (1, 2, 4, 6)
    ]
    assert seen == sorted(seen)
    assert seen[-1] <= np.linalg.eigvalsh(dense_curvature(objective, train))[-1]


def test_arnoldi_warns_of_negative_curvature_and_solves_all_the_same(xp):
    objective, train, test = problem(xp, kind=Saddle)
    with pytest.warns(CurvatureWarning, match=r"down to -0\.7 or lower.* above 0\.7\."):
        model = ArnoldiInfluence(objective, regularization=0.05).fit([train])
    matrix = dense_curvature(objective, train) - SHIFT * np.eye(15)
    expected = dense_factors(matrix, gradients(objective, test), damping=0.05)
    assert relative_error(model.influence_factors(*test), expected) < EXACT


def test_arnoldi_warns_of_negative_curvature_that_it_does_not_keep():
    class Tilted(Softmax):
        def hessian_product(self, rows, batch):
            lowest = self.xp.asarray([[0.1] + 14 * [0.0]])  # one small negative direction
            return 10 * rows - (rows @ lowest.T) @ lowest * 1010

    objective, train, _ = problem(kind=Tilted)
    with pytest.warns(CurvatureWarning, match=r"down to -0\.1 or lower"):
        ArnoldiInfluence(objective, regularization=0.05, rank=1).fit([train])


def test_arnoldi_accepts_a_regularization_above_the_negative_curvature(xp):
    objective, train, test = problem(xp, kind=Saddle)
    model = ArnoldiInfluence(objective, regularization=SHIFT + 0.1).fit([train])
    expected = dense_factors(
        dense_curvature(objective, train), gradients(objective, test), damping=0.1
    )
    assert relative_error(model.influence_factors(*test), expected) < EXACT


def test_arnoldi_refuses_a_singular_curvature_without_damping(xp):
    objective, train, _ = problem(xp)  # a constant added to all logits changes no loss
    model = ArnoldiInfluence(objective, regularization=0, rank=15, outside="dropped")
    with pytest.raises(IndefiniteCurvatureError, match="larger regularization or a smaller rank"):
        model.fit([train])


def test_nystroem_refuses_negative_curvature(xp):
    objective, train, _ = problem(xp, kind=Saddle)
    model = NystroemSketchInfluence(objective, regularization=2.0, rank=5)
    with pytest.raises(IndefiniteCurvatureError, match="indefinite='shift'"):
        model.fit([train])


def test_nystroem_leaves_a_model_that_it_refuses_to_refit_as_it_was():
    objective, train, test = problem(kind=Saddle)
    model = NystroemSketchInfluence(
        objective, regularization=2.0, rank=15, second_order_mode="gauss_newton"
    ).fit([train])
    before = model.influence_factors(*test)
    with pytest.raises(NonFiniteError):
        model.fit([(train[0] * np.nan, train[1])])
    assert np.array_equal(model.influence_factors(*test), before)


@pytest.mark.parametrize("rank", [4, 15])
def test_nystroem_warns_of_the_shift_that_it_reports(xp, rank):
    objective, train, _ = problem(xp, kind=Saddle)
    model = NystroemSketchInfluence(objective, regularization=0.05, rank=rank, indefinite="shift")
    with pytest.warns(CurvatureWarning) as warned:
        model.fit([train])
    shift = model.fit_diagnostics["full"].shift
    assert f"shifted by {shift:.3g}:" in str(warned[0].message)


def test_nystroem_shifts_by_twice_the_lowest_eigenvalue_at_full_rank(xp):
    objective, train, test = problem(xp, kind=Saddle)
    model = NystroemSketchInfluence(objective, regularization=0.05, rank=15, indefinite="shift")
    with pytest.warns(CurvatureWarning):
        model.fit([train])
    expected = dense_factors(
        dense_curvature(objective, train), gradients(objective, test), damping=0.05 + SHIFT
    )
    assert relative_error(model.influence_factors(*test), expected) < EXACT


def test_nystroem_shifts_no_positive_curvature():
    objective, train, _ = problem()
    model = NystroemSketchInfluence(objective, regularization=0.05, rank=15, indefinite="shift")
    assert model.fit([train]).fit_diagnostics["full"].shift == 0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rounding_is_no_negative_curvature(xp, method, dtype):
    objective, train, _ = problem(xp, n=3, dtype=dtype)  # 15 parameters: the Fisher has rank 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = method(
            objective, regularization=1e-3, rank=15, second_order_mode="empirical_fisher"
        ).fit([train])
    assert model.fit_diagnostics["full"].captured_trace == pytest.approx(1, abs=1e-4)


def test_a_curvature_of_zero_leaves_the_damping(xp, method):
    class Flat(Softmax):
        def hessian_product(self, rows, batch):
            return 0 * rows

    objective, train, test = problem(xp, kind=Flat)
    model = method(objective, regularization=0.5, rank=4).fit([train])
    assert relative_error(model.influence_factors(*test), 2 * gradients(objective, test)) < EXACT


def test_no_share_of_the_trace_is_reported_of_an_indefinite_curvature(method):
    objective, train, _ = problem(kind=Saddle)
    options = {"indefinite": "shift"} if method is NystroemSketchInfluence else {}
    with pytest.warns(CurvatureWarning):
        model = method(objective, regularization=0.05, rank=15, **options).fit([train])
    assert model.fit_diagnostics["full"].captured_trace is None


def test_curvature_that_is_not_finite_is_refused(xp, method):
    class Kinked(Softmax):
        def hessian_product(self, rows, batch):
            return float("nan") * rows

    objective, train, _ = problem(xp, kind=Kinked)
    with pytest.raises(NonFiniteError, match="curvature of block 'full'"):
        method(objective, regularization=0.5, rank=4).fit([train])


@pytest.mark.parametrize("damping", [0, {"weight": 1.0, "bias": 0.0}])
def test_no_damping_outside_the_subspace_is_refused(method, damping):
    structure = "parameter_wise" if isinstance(damping, dict) else "full"
    with pytest.raises(ValueError, match=r"`regularization` must be positive.*Use a positive"):
        method(problem()[0], regularization=damping, rank=4, block_structure=structure)


def test_no_damping_outside_the_subspace_is_refused_later(method):
    objective, train, _ = problem()
    model = method(objective, regularization=0.1, rank=4).fit([train])
    with pytest.raises(ValueError, match="`regularization` must be positive"):
        model.with_regularization(0)


@pytest.mark.parametrize("rank", [0, -1, 2.0, True, None])
def test_what_is_no_rank_is_refused(method, rank):
    with pytest.raises(ValueError, match="`rank` must be an integer, at least 1"):
        method(problem()[0], regularization=0.1, rank=rank)


@pytest.mark.parametrize("seed", [-1, None, 0.5])
def test_what_is_no_seed_is_refused(method, seed):
    with pytest.raises(ValueError, match="`seed` must be an integer, at least 0"):
        method(problem()[0], regularization=0.1, rank=4, seed=seed)


def test_fewer_steps_than_the_rank_are_refused():
    with pytest.raises(ValueError, match="`krylov_dimension` must be an integer, at least 4"):
        ArnoldiInfluence(problem()[0], regularization=0.1, rank=4, krylov_dimension=3)


def test_an_unknown_outside_is_refused():
    with pytest.raises(ValueError, match=r"`outside` must be one of .* got 'kept'"):
        ArnoldiInfluence(problem()[0], regularization=0.1, outside="kept")


def test_an_unknown_answer_to_negative_curvature_is_refused():
    with pytest.raises(ValueError, match=r"`indefinite` must be one of .* got 'ignore'"):
        NystroemSketchInfluence(problem()[0], regularization=0.1, rank=4, indefinite="ignore")
