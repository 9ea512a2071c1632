"""It does not matter to influences whether a weight is stored as (o, i) or as (i, o)."""

import numpy as np
import pytest
from reference import SoftmaxRegression, softmax_problem

from upweight.models import CgInfluence, EkfacInfluence, EkfacPreconditioner, GramInfluence
from upweight.protocols import LayerStatistics

C, D = 3, 4


class Layered(SoftmaxRegression):
    """The reference model with its one layer."""

    transposed = False

    def layers(self, batch, directions=None):
        x, y = batch
        gradients = self._slopes(x, y) if directions is None else directions
        inputs, gradients = x[:, None, :], gradients[..., None, :]
        return {"": LayerStatistics("weight", "bias", inputs, gradients, self.transposed)}

    def output_hessians(self, batch):
        p = self._probabilities(batch[0])
        return p[:, :, None] * np.eye(C) - p[:, :, None] * p[:, None, :]

    def sampled_directions(self, batch, rng):
        raise NotImplementedError

    def gauss_newton_product(self, rows, batch):
        return SoftmaxRegression.hessian_product(self, self.straight(rows), batch)[:, self.order]

    # Where the parameters, as they are stored, are in the vector of the reference model.
    order = np.arange(C * D + C)

    def straight(self, rows):
        return rows[:, np.argsort(self.order)]

    def gradients(self, batch):
        return super().gradients(batch)[:, self.order]


class Transposed(Layered):
    """The same with the weight stored as (i, o), and after the bias."""

    transposed = True
    order = np.concatenate([C * D + np.arange(C), np.arange(C * D).reshape(C, D).T.ravel()])

    def __init__(self, weight, bias):
        super().__init__(weight, bias)
        self.parameters = {"bias": (C,), "weight": (D, C)}


METHODS = {
    "ekfac": lambda o: EkfacInfluence(o, fisher="exact"),
    "kfac": lambda o: EkfacInfluence(o, fisher="exact", corrected=False),
    "gram": lambda o: GramInfluence(o, directions=None),
    "preconditioned": lambda o: CgInfluence(
        o,
        regularization=0.1,
        rtol=1e-10,
        second_order_mode="gauss_newton",
        preconditioner=EkfacPreconditioner(fisher="exact"),
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_influences_and_factors_do_not_depend_on_the_form_of_a_weight(method):
    reference, batch = softmax_problem(c=C, d=D)
    fitted = [
        METHODS[method](kind(reference.weight, reference.bias)).fit([batch], progress=False)
        for kind in (Layered, Transposed)
    ]
    straight, stored = (model.influence_factors(*batch) for model in fitted)
    np.testing.assert_allclose(stored, straight[:, Transposed.order], rtol=1e-7, atol=1e-10)
    straight, stored = (model.influences(*batch) for model in fitted)
    np.testing.assert_allclose(stored, straight, rtol=1e-7, atol=1e-10)
