"""Models to fit where their training data is, in NumPy; worker processes import them from here."""

import math

import numpy as np
from calculators.problems import die_once
from curvatures import Softmax
from reference import SoftmaxRegression

from upweight import DaskTrainingData, DisableClientSingleThreadCheck
from upweight.models import (
    ArnoldiInfluence,
    CgInfluence,
    DirectInfluence,
    EkfacInfluence,
    EkfacPreconditioner,
    InverseHarmonicMeanInfluence,
    JacobiPreconditioner,
    NystroemPreconditioner,
    NystroemSketchInfluence,
)
from upweight.protocols import LayerStatistics


class NumpyIdentity:
    """The converter of a model whose arrays are NumPy arrays."""

    def to_numpy(self, x):
        assert isinstance(x, np.ndarray)
        return x

    def from_numpy(self, x):
        assert isinstance(x, np.ndarray)
        return x


class Layered(Softmax):
    """The reference model with its one layer."""

    def layers(self, batch, directions=None):
        x, y = batch
        gradients = self._slopes(x, y) if directions is None else directions
        inputs, gradients = x[:, None, :], gradients[..., None, :]
        return {"": LayerStatistics("weight", "bias", inputs, gradients)}

    def output_hessians(self, batch):
        p = self._probabilities(batch[0])
        return p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :]

    def sampled_directions(self, batch, rng):
        p = self._probabilities(batch[0])
        labels = (p.cumsum(1) < rng.random((len(p), 1))).sum(1).clip(max=p.shape[1] - 1)
        return p - np.eye(p.shape[1])[labels]


class Undrawn(Layered):
    """Of a loss whose labels cannot be drawn."""

    def sampled_directions(self, batch, rng):
        from upweight import UnsupportedCurvatureError

        raise UnsupportedCurvatureError("No labels are drawn.")


class Noisy(Layered):
    """Of a squared error: what is drawn is normal."""

    def sampled_directions(self, batch, rng):
        return rng.standard_normal((len(batch[0]), math.prod(self.bias.shape)))


class Coverless(Layered):
    """None of whose layers is covered."""

    def layers(self, batch, directions=None):
        return {}

    def restrict(self, names):
        assert list(names) == list(self.parameters)
        return self


class Dying(Layered):
    """A model whose worker is killed in the middle of a fit, once."""

    grave = None

    def hessian_product(self, rows, batch):
        die_once(self.grave)
        return super().hessian_product(rows, batch)


class SingleThreaded(Layered):
    is_thread_safe = False


def cg(objective, **options):
    return CgInfluence(objective, regularization=0.1, rtol=1e-12, **options)


#: Each method that sums over its training data.
METHODS = {
    "direct": lambda o: DirectInfluence(o, regularization=0.1),
    "direct, blocks": lambda o: DirectInfluence(
        o, regularization=0.1, block_structure="parameter_wise", second_order_mode="gauss_newton"
    ),
    "direct, fisher": lambda o: DirectInfluence(
        o, regularization=0.1, second_order_mode="empirical_fisher"
    ),
    "cg": cg,
    "cg, block": lambda o: cg(o, solver="block", second_order_mode="empirical_fisher"),
    "cg, blocks": lambda o: cg(o, block_structure="parameter_wise"),
    "cg, jacobi": lambda o: cg(o, preconditioner=JacobiPreconditioner(probes=4)),
    "cg, nystroem": lambda o: cg(o, preconditioner=NystroemPreconditioner(rank=4)),
    "cg, ekfac": lambda o: cg(o, preconditioner=EkfacPreconditioner()),
    "arnoldi": lambda o: ArnoldiInfluence(o, regularization=0.1, rank=4, krylov_dimension=6),
    "nystroem": lambda o: NystroemSketchInfluence(o, regularization=0.1, rank=5),
    "ekfac": lambda o: EkfacInfluence(o, draws=2, seed=1),
    "ekfac, exact": lambda o: EkfacInfluence(o, fisher="exact"),
    "ekfac, empirical": lambda o: EkfacInfluence(o, fisher="empirical"),
    "kfac": lambda o: EkfacInfluence(o, corrected=False),
    "harmonic": lambda o: InverseHarmonicMeanInfluence(
        o, regularization=0.1, block_structure="full"
    ),
}


def on_dask(batch, client=DisableClientSingleThreadCheck, converter=None):
    """Return Dask arrays as training data."""
    return DaskTrainingData(*batch, converter or NumpyIdentity(), client)


def of_kind(kind, objective):
    """Return the reference model of another class."""
    assert isinstance(objective, SoftmaxRegression)
    return kind(objective.weight, objective.bias)
