"""Influence in the dual, against dense curvatures of torch models in NumPy."""

import pickle

import numpy as np
import pytest
import torch
from dual_oracle import curvature_vectors, influences, loss_gradients
from torch import nn
from torch.nn import functional
from torch_zoo import MAIN, MLP, ZOO, case

from upweight import BatchError, MemoryLimitError, NotFittedError
from upweight.errors import IndefiniteCurvatureError, UnsupportedCurvatureError
from upweight_torch import GramInfluence

DAMPING = 0.05


def in_batches(batch, size):
    x, y = batch
    n = len(y[0] if isinstance(y, tuple) else y)

    def part(tree, start):
        if isinstance(tree, dict):
            return {name: leaf[start : start + size] for name, leaf in tree.items()}
        if isinstance(tree, tuple):
            return tuple(leaf[start : start + size] for leaf in tree)
        return tree[start : start + size]

    return [(part(x, start), part(y, start)) for start in range(0, n, size)]


def fitted(model, batch, loss=functional.cross_entropy, *, size=4, **options):
    options = {"damping": "absolute", "regularization": DAMPING, "directions": None} | options
    return GramInfluence(model, loss, **options).fit(in_batches(batch, size), progress=False)


def close(actual, expected, *, rtol=1e-8):
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("zoo_case", ZOO, ids=str)
def test_all_directions_give_the_gauss_newton_matrix(zoo_case):
    model, train, test = zoo_case.model(), zoo_case.batch(9), zoo_case.batch(4, seed=1)
    vectors = curvature_vectors(model, zoo_case.loss, train)
    of_test = loss_gradients(model, zoo_case.loss, test)
    of_train = loss_gradients(model, zoo_case.loss, train)
    expected = influences(vectors, of_test, of_train, damping=DAMPING)
    influence = fitted(model, train, zoo_case.loss)
    close(influence.influences(*test, *train), expected)
    factors = influence.influence_factors(*test)
    close(factors.numpy() @ of_train.T, expected)
    close(influence.influences_from_factors(factors, *train), expected)
    close(
        influence.influences_from_pair_factors(influence.pair_factors(*test), *train),
        expected,
    )


@pytest.mark.parametrize("zoo_case", ZOO, ids=str)
def test_the_empirical_fisher_is_that_of_the_gradients(zoo_case):
    model, train, test = zoo_case.model(), zoo_case.batch(9), zoo_case.batch(4, seed=1)
    of_test = loss_gradients(model, zoo_case.loss, test)
    of_train = loss_gradients(model, zoo_case.loss, train)
    expected = influences(of_train[:, None], of_test, of_train, damping=DAMPING)
    influence = fitted(model, train, zoo_case.loss, second_order_mode="empirical_fisher")
    close(influence.influences(*test, *train), expected)


@pytest.mark.parametrize("directions", [1, 2, 3, 7])
@pytest.mark.parametrize("zoo_case", [MLP, case("attention")], ids=str)
def test_directions_are_those_of_the_largest_eigenvalues(zoo_case, directions):
    model, train, test = zoo_case.model(), zoo_case.batch(9), zoo_case.batch(4, seed=1)
    vectors = curvature_vectors(model, zoo_case.loss, train, directions=directions)
    of_test, of_train = (loss_gradients(model, zoo_case.loss, data) for data in (test, train))
    expected = influences(vectors, of_test, of_train, damping=DAMPING)
    close(fitted(model, train, directions=directions).influences(*test, *train), expected)


@pytest.mark.parametrize("zoo_case", MAIN, ids=str)
@pytest.mark.parametrize("landmarks", [None, 8])
def test_batches_do_not_matter(zoo_case, landmarks):
    model, train, test = zoo_case.model(), zoo_case.batch(11), zoo_case.batch(4, seed=1)
    expected = fitted(model, train, size=11, landmarks=landmarks).influences(*test, *train)
    for size in (1, 4, 10):
        close(
            fitted(model, train, size=size, landmarks=landmarks).influences(*test, *train), expected
        )


def test_the_order_of_rows_does_not_matter():
    model, (x, y), test = MLP.model(), MLP.batch(11), MLP.batch(4, seed=1)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    expected = fitted(model, (x, y)).influences(*test, x, y)
    close(fitted(model, (x[order], y[order])).influences(*test, x, y), expected)


def test_relative_damping_is_in_units_of_the_trace_over_n():
    model, train, test = MLP.model(), MLP.batch(9), MLP.batch(4, seed=1)
    vectors = curvature_vectors(model, MLP.loss, train, directions=2)
    trace = (vectors**2).sum() / 9
    relative = fitted(model, train, damping="relative", regularization=0.3, directions=2)
    absolute = fitted(model, train, regularization=0.3 * trace / 9, directions=2)
    close(relative.influences(*test, *train), absolute.influences(*test, *train))


@pytest.mark.parametrize("landmarks", [None, 5])
def test_a_large_damping_leaves_products_of_gradients(landmarks):
    model, train, test = MLP.model(), MLP.batch(9), MLP.batch(4, seed=1)
    of_test, of_train = (loss_gradients(model, MLP.loss, data) for data in (test, train))
    influence = fitted(model, train, regularization=1e8, landmarks=landmarks)
    close(1e8 * influence.influences(*test, *train), of_test @ of_train.T, rtol=1e-6)


def test_another_damping_needs_no_other_fit():
    model, train, test = MLP.model(), MLP.batch(9), MLP.batch(4, seed=1)
    influence = fitted(model, train)
    before = influence.influences(*test, *train)
    other = influence.with_regularization(0.7).influences(*test, *train)
    close(other, fitted(model, train, regularization=0.7).influences(*test, *train))
    assert torch.equal(influence.influences(*test, *train), before)


@pytest.mark.parametrize("zoo_case", MAIN, ids=str)
@pytest.mark.parametrize("measurement", [None, lambda output, y: output[:, 0].mean()])
def test_self_influences_are_the_diagonal(zoo_case, measurement):
    model, train = zoo_case.model(), zoo_case.batch(9)
    influence = fitted(model, train, directions=2, measurement=measurement)
    close(influence.self_influences(*train), torch.diagonal(influence.influences(*train)))


def test_a_measurement_stands_on_the_test_side_only():
    def logit(output, y):
        return output[:, 0].mean()

    model, train, test = MLP.model(), MLP.batch(9), MLP.batch(4, seed=1)
    vectors = curvature_vectors(model, MLP.loss, train)
    of_test, of_train = loss_gradients(model, logit, test), loss_gradients(model, MLP.loss, train)
    expected = influences(vectors, of_test, of_train, damping=DAMPING)
    close(fitted(model, train, measurement=logit).influences(*test, *train), expected)


@pytest.mark.parametrize("zoo_case", [MLP, case("convolution")], ids=str)
def test_perturbations_are_differences_of_influences(zoo_case):
    model, train, test = zoo_case.model(), zoo_case.batch(5), zoo_case.batch(2, seed=1)
    influence, (x, y) = fitted(model, train), train
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    values = influence.influences(*test, x, y, mode="perturbation")
    along = (values * direction).flatten(2).sum(2)
    up = influence.influences(*test, x + 1e-5 * direction, y)
    down = influence.influences(*test, x - 1e-5 * direction, y)
    close(along, (up - down) / 2e-5, rtol=1e-6)


def test_single_precision_and_one_sample():
    model, train, test = MLP.model(), MLP.batch(1), MLP.batch(4, seed=1)
    expected = fitted(model, train).influences(*test, *train)
    single = MLP.model(torch.float32)
    x, y = MLP.batch(1, torch.float32)
    influence = fitted(single, (x, y))
    values = influence.influences(*MLP.batch(4, torch.float32, seed=1), x, y)
    assert values.dtype == torch.float32
    close(values, expected, rtol=1e-4)


class OfSequences(nn.Module):
    """A layer whose inputs have as many positions as the sequence, wide enough to stay factored."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(40, 30), nn.Linear(30, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.first(x)).sum(1))


def sequences(length, *, n=5, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, length, 40, generator=random, dtype=torch.float64)
    return x, torch.randint(0, 3, (n,), generator=random)


def test_sequences_of_several_lengths_are_exact():
    torch.manual_seed(0)
    model, loss = OfSequences().double(), functional.cross_entropy
    train, test = [sequences(3), sequences(2, seed=1)], sequences(2, seed=2)
    influence = GramInfluence(
        model, loss, damping="absolute", regularization=DAMPING, directions=None
    ).fit(train, progress=False)
    assert influence.pair_width < influence.n_parameters
    vectors = np.concatenate([curvature_vectors(model, loss, batch) for batch in train])
    of_test = loss_gradients(model, loss, test)
    for batch in train:
        of_train = loss_gradients(model, loss, batch)
        expected = influences(vectors, of_test, of_train, damping=DAMPING)
        close(influence.influences(*test, *batch), expected)
        close(influence.influence_factors(*test).numpy() @ of_train.T, expected)
    with pytest.raises(BatchError, match="4 positions of these samples, and at most 3"):
        influence.influences(*sequences(4), *train[0])


class WithIdleLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.idle, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x)


def test_a_layer_that_is_never_called_has_no_influence():
    torch.manual_seed(0)
    model, train, test = WithIdleLayer().double(), MLP.batch(9), MLP.batch(4, seed=1)
    vectors = curvature_vectors(model, MLP.loss, train)
    of_test, of_train = (loss_gradients(model, MLP.loss, data) for data in (test, train))
    expected = influences(vectors, of_test, of_train, damping=DAMPING)
    influence = fitted(model, train)
    close(influence.influences(*test, *train), expected)
    close(influence.influence_factors(*test).numpy() @ of_train.T, expected)


def test_it_travels():
    model, train, test = MLP.model(), MLP.batch(9), MLP.batch(4, seed=1)
    influence = fitted(model, train)
    copied = pickle.loads(pickle.dumps(influence))
    assert torch.equal(copied.influences(*test, *train), influence.influences(*test, *train))


def test_diagnostics_tell_the_extreme_eigenvalues():
    model, train = MLP.model(), MLP.batch(9)
    rows = curvature_vectors(model, MLP.loss, train, directions=2)
    values = np.linalg.eigvalsh(np.einsum("idp,idq->pq", rows, rows) / 9)
    diagnostics = fitted(model, train, directions=2).fit_diagnostics["full"]
    assert diagnostics.largest_eigenvalue == pytest.approx(values[-1])
    assert diagnostics.captured_trace is None


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"regularization": 0}, "must be positive"),
            ({"damping": "other"}, "must be one of"),
            ({"directions": 0}, "must be an integer, at least 1; got 0"),
            ({"landmarks": 1.5}, "must be an integer, at least 1; got 1.5"),
            ({"second_order_mode": "other"}, "other"),
        ],
    )
    def test_options_out_of_range(self, options, message):
        with pytest.raises(ValueError, match=message):
            GramInfluence(MLP.model(), MLP.loss, **options)

    def test_the_hessian(self):
        with pytest.raises(UnsupportedCurvatureError, match="no sum of products"):
            GramInfluence(MLP.model(), MLP.loss, second_order_mode="hessian")

    def test_a_loss_that_is_not_convex(self):
        def loss(output, y):
            return torch.cos(output).mean()

        with pytest.raises(IndefiniteCurvatureError, match="not convex in the output"):
            fitted(MLP.model(), MLP.batch(9), loss)

    def test_what_does_not_fit_into_memory(self):
        with pytest.raises(MemoryLimitError, match=r"27 curvature vectors.*landmarks"):
            fitted(MLP.model(), MLP.batch(9), max_memory=1000)

    def test_a_model_that_is_not_fitted(self):
        influence = GramInfluence(MLP.model(), MLP.loss)
        for ask in (influence.influences, influence.pair_factors, influence.self_influences):
            with pytest.raises(NotFittedError):
                ask(*MLP.batch(2))

    def test_pair_factors_of_the_wrong_width(self):
        influence = fitted(MLP.model(), MLP.batch(9))
        with pytest.raises(BatchError, match="must have shape"):
            influence.influences_from_pair_factors(torch.zeros(2, 3), *MLP.batch(2))
