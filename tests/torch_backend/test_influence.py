"""Influences of whole methods, against dense NumPy and against each other."""

import numpy as np
import pytest
import torch
from torch_oracles import LayeredNetwork
from torch_zoo import LINEAR, MAIN, MLP, TOKENS

from upweight_torch import CgInfluence, DirectInfluence

DAMPING = 1.0  # above every negative eigenvalue of these untrained models
EXACT = 1e-9
RTOL = {torch.float64: 1e-9, torch.float32: 2e-4}
N = 100
SPLITS = {"100": [100], "64+36": [64, 36], "99+1": [99, 1], "1": [1] * N}


def batches(batch, sizes):
    """Split a batch of tensors into batches of the given sizes."""
    x, y = batch
    return [*zip(split(x, sizes), y.split(sizes), strict=True)]


def split(x, sizes):
    if isinstance(x, dict):
        columns = zip(*(leaf.split(sizes) for leaf in x.values()), strict=True)
        return [dict(zip(x, column, strict=True)) for column in columns]
    return x.split(sizes)


def fitted(method, case, sizes=SPLITS["100"], dtype=torch.float64, **options):
    model = method(case.model(dtype), case.loss, regularization=DAMPING, **options)
    return model.fit(batches(case.batch(N, dtype), sizes), progress=False)


def assert_close(value, expected, rtol):
    value, expected = np.asarray(value), np.asarray(expected)
    np.testing.assert_allclose(value, expected, rtol=0, atol=rtol * np.abs(expected).max())


def modes(case):
    return ["up"] if case is TOKENS else ["up", "perturbation"]


BOTH = [pytest.param(case, mode, id=f"{case}-{mode}") for case in MAIN for mode in modes(case)]


@pytest.mark.parametrize("case", [LINEAR, MLP], ids=str)
@pytest.mark.parametrize("k", [1, 60])
@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_direct_is_the_dense_answer_of_numpy(case, k, mode):
    (x, y), (x_test, y_test) = case.batch(N), case.batch(k, seed=1)
    oracle = LayeredNetwork(case.model())
    hessian = oracle.hessian(x.numpy(), y.numpy()) + DAMPING * np.eye(len(oracle.theta))
    factors = np.linalg.solve(hessian, oracle.gradients(x_test.numpy(), y_test.numpy()).T).T
    if mode == "up":
        expected = factors @ oracle.gradients(x.numpy(), y.numpy()).T
    else:
        expected = oracle.input_gradients(factors, x.numpy(), y.numpy())
    value = fitted(DirectInfluence, case).influences(x_test, y_test, x, y, mode=mode)
    assert_close(value, expected, EXACT)


@pytest.mark.parametrize("k", [1, 100])
@pytest.mark.parametrize(("case", "mode"), BOTH)
def test_cg_agrees_with_direct(case, mode, k):
    train, test = case.batch(20), case.batch(k, seed=1)
    exact = fitted(DirectInfluence, case).influences(*test, *train, mode=mode)
    iterated = fitted(CgInfluence, case, rtol=1e-8).influences(*test, *train, mode=mode)
    assert_close(iterated, exact, 1e-6)


@pytest.mark.parametrize("dtype", RTOL, ids=str)
@pytest.mark.parametrize("split", list(SPLITS)[1:])
@pytest.mark.parametrize("method", [DirectInfluence, CgInfluence])
@pytest.mark.parametrize("case", MAIN, ids=str)
def test_factors_do_not_depend_on_how_training_data_falls_into_batches(case, method, split, dtype):
    options = {"rtol": RTOL[dtype] / 100} if method is CgInfluence else {}
    test = case.batch(3, dtype, seed=1)
    whole, pieces = (
        fitted(method, case, sizes, dtype, **options).influence_factors(*test)
        for sizes in (SPLITS["100"], SPLITS[split])
    )
    assert_close(pieces, whole, RTOL[dtype])


@pytest.mark.parametrize("dtype", RTOL, ids=str)
@pytest.mark.parametrize("sizes", list(SPLITS.values())[1:], ids=list(SPLITS)[1:])
@pytest.mark.parametrize(("case", "mode"), BOTH)
def test_influences_do_not_depend_on_how_samples_are_asked_for(case, mode, sizes, dtype):
    model, data = fitted(DirectInfluence, case, dtype=dtype), case.batch(N, dtype, seed=2)
    test = case.batch(2, dtype, seed=1)
    whole = model.influences(*test, *data, mode=mode)
    pieces = [model.influences(*test, *piece, mode=mode) for piece in batches(data, sizes)]
    assert_close(torch.cat(pieces, dim=1), whole, RTOL[dtype])


@pytest.mark.parametrize("sizes", [[64, 36], [99, 1], [1] * 5], ids=["64+36", "99+1", "1"])
@pytest.mark.parametrize("case", MAIN, ids=str)
def test_rows_are_solved_independently(case, sizes):
    model, data = fitted(CgInfluence, case, rtol=1e-10), case.batch(sum(sizes), seed=2)
    whole = model.influence_factors(*data)
    pieces = [model.influence_factors(*piece) for piece in batches(data, sizes)]
    assert_close(torch.cat(pieces), whole, RTOL[torch.float64])


@pytest.mark.parametrize("method", [DirectInfluence, CgInfluence])
@pytest.mark.parametrize("dtype", RTOL, ids=str)
@pytest.mark.parametrize(("case", "mode"), BOTH)
def test_results_have_the_declared_type_and_shape(case, mode, dtype, method):
    model, (x, y) = fitted(method, case, dtype=dtype), case.batch(4, dtype)
    value = model.influences(*case.batch(3, dtype, seed=1), x, y, mode=mode)
    shape = (3, 4) if mode == "up" else (3, 4, *x.shape[1:])
    assert (tuple(value.shape), value.dtype, model.dtype) == (shape, dtype, str(dtype)[6:])


@pytest.mark.parametrize("case", MAIN, ids=str)
def test_without_training_samples_the_test_samples_are_both(case):
    model, batch = fitted(DirectInfluence, case), case.batch(5)
    assert_close(model.influences(*batch), model.influences(*batch, *batch), 1e-14)


def test_up_weighting_a_training_sample_lowers_a_test_loss_of_positive_influence():
    """The change of the test loss, by retraining with one sample weighted more, has this sign."""
    x, y = LINEAR.batch(30)
    damping, model = 0.1, torch.nn.Linear(4, 3).double()
    weights = torch.full((30,), 1 / 30, dtype=torch.float64)

    def trained(weights):
        optimizer = torch.optim.LBFGS(
            model.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16
        )

        def closure():
            optimizer.zero_grad()
            losses = torch.nn.functional.cross_entropy(model(x), y, reduction="none")
            decay = sum(p.square().sum() for p in model.parameters())
            (loss := weights @ losses + damping / 2 * decay).backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(x), y, reduction="none")

    step = 1e-4
    moved = torch.nn.functional.one_hot(torch.tensor(7), 30) * step
    change = (trained(weights + moved) - trained(weights - moved)) / (2 * step)
    trained(weights)
    influence = DirectInfluence(model, LINEAR.loss, regularization=damping)
    values = influence.fit([(x, y)], progress=False).influences(x, y, x[7:8], y[7:8])
    assert_close(-change, values[:, 0], 1e-4)
