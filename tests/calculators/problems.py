"""Small problems for the calculators, whose models tally the work that is asked of them."""

import os
import signal
from collections import Counter
from itertools import pairwise

import numpy as np
from reference import SoftmaxRegression, softmax_problem

from upweight.models import DirectInfluence

MODES = ("up", "perturbation")
TOLERANCE = {"float32": 2e-4, "float64": 1e-10}


class NumpyIdentity:
    """The converter of a model whose arrays are NumPy arrays."""

    def to_numpy(self, x):
        return x

    def from_numpy(self, x):
        return x


class TalliedRegression(SoftmaxRegression):
    """Softmax regression on samples of any shape that tallies what is differentiated.

    `gradients_of` counts, for each sample, how often its gradient in the parameters was taken, and
    `input_gradients_of` its gradient in the input.
    """

    def __init__(self, weight, bias):
        super().__init__(weight, bias)
        self.gradients_of, self.input_gradients_of = Counter(), Counter()

    def gradients(self, batch):
        self.gradients_of.update(keys(batch))
        return super().gradients(batch)

    def input_gradients(self, rows, batch):
        self.input_gradients_of.update(keys(batch))
        x, y = batch
        gradients = super().input_gradients(rows, (flat(x), y))
        varied = next(part for part in parts(x) if part.dtype.kind == "f")
        return gradients.reshape(*gradients.shape[:2], *varied.shape[1:])

    def _inputs(self, x):
        return super()._inputs(flat(x))


class TalliedInfluence(DirectInfluence):
    """Direct influence that notes the batches it is asked about, in order."""

    def __init__(self, objective, *, thread_safe=True):
        super().__init__(objective, regularization=0.1)
        self.calls = []
        self.thread_safe = thread_safe

    @property
    def is_thread_safe(self):
        return self.thread_safe

    def influence_factors(self, x, y):
        self.calls.append(("factors", len(y)))
        return super().influence_factors(x, y)

    def influences_from_factors(self, z_test_factors, x, y, mode="up"):
        self.calls.append(("influences", len(z_test_factors), len(y)))
        return super().influences_from_factors(z_test_factors, x, y, mode)


class DyingInfluence(TalliedInfluence):
    """Direct influence whose worker is killed in the middle of a block, once."""

    grave = None

    def influences_from_factors(self, *args):
        die_once(self.grave)
        return super().influences_from_factors(*args)


def die_once(grave):
    """Kills this process unless `grave`, a path, says that one has died; no two make it."""
    try:
        grave.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def parts(x):
    if isinstance(x, dict):
        return tuple(x.values())
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def flat(x):
    return tuple(part.reshape(len(part), -1) for part in parts(x))


def keys(batch):
    return [sample.tobytes() for sample in np.concatenate(flat(batch[0]), axis=1)]


def taken(counter, x):
    """Return how often each sample of `x` was counted."""
    return [counter[key] for key in keys((x, None))]


def samples(shape, *, n_test, n_train, dtype="float64", seed=0):
    """Return test and training samples `(x, y)` whose inputs have a shape and a type."""
    rng = np.random.default_rng(seed)
    n = n_test + n_train
    x = rng.standard_normal((n, *shape)).astype(dtype)
    if np.dtype(dtype).kind == "i":
        x = rng.integers(0, 9, (n, *shape)).astype(dtype)
        x[:, 0] = np.arange(n)  # no two alike, so that they can be told apart
    y = rng.integers(0, 3, n)
    return (x[:n_test], y[:n_test]), (x[n_test:], y[n_test:])


def fitted_model(train, *, dtype="float64", thread_safe=True):
    """Return an influence model fitted to a batch, with nothing tallied yet."""
    d = sum(part.shape[1] for part in flat(train[0]))
    objective, _ = softmax_problem(n=1, d=d, dtype=dtype)
    tallied = TalliedRegression(objective.weight / d, objective.bias)
    return TalliedInfluence(tallied, thread_safe=thread_safe).fit([train], progress=False)


def problem(*, n_test=7, n_train=20, dtype="float64", thread_safe=True):
    """Return a fitted model, test samples, and the training samples it was fitted to."""
    test, train = samples((4,), n_test=n_test, n_train=n_train, dtype=dtype)
    return fitted_model(train, dtype=dtype, thread_safe=thread_safe), test, train


def tally(model):
    """Return the counters of the objective of a model."""
    return model._objective


def dense(model, test, train, mode="up"):
    """Return the influences from one call, and forget that it was made."""
    values = model.influences(*test, *train, mode)
    forget(model)
    return values


def forget(model):
    model.calls.clear()
    tally(model).gradients_of.clear()
    tally(model).input_gradients_of.clear()


def batches(data, *sizes):
    """Return consecutive batches of a sample collection, the last size repeated to its end."""
    x, y = data
    ends, cut = [0], list(sizes)
    while ends[-1] < len(y):
        ends.append(min(ends[-1] + (cut.pop(0) if len(cut) > 1 else cut[0]), len(y)))
    return [(part(x, start, stop), y[start:stop]) for start, stop in pairwise(ends)]


def part(x, start, stop):
    if isinstance(x, dict):
        return {name: leaf[start:stop] for name, leaf in x.items()}
    if isinstance(x, tuple):
        return tuple(leaf[start:stop] for leaf in x)
    return x[start:stop]


def joined(rows):
    """Return rows of blocks as one array."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def assert_close(actual, desired):
    """Compare to the tolerance of the type of `desired`, types and shapes included."""
    tolerance = TOLERANCE[str(desired.dtype)]
    assert actual.dtype == desired.dtype
    assert actual.shape == desired.shape
    np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance)
