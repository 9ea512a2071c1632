"""EK-FAC shortens the conjugate-gradient solves of Gauss-Newton influence, and only that."""

import numpy as np
import pytest
import torch
from layer_problems import F64, in_batches
from torch.nn.functional import cross_entropy

from upweight.models import EkfacPreconditioner
from upweight_torch import CgInfluence, DirectInfluence

OPTIONS = {"regularization": 1e-3, "second_order_mode": "gauss_newton"}


def ill_conditioned_problem():
    """Return a network whose inputs have scales from 0.03 to 30, and its data."""
    torch.manual_seed(0)
    scales = torch.from_numpy(np.logspace(-1.5, 1.5, 12))
    x, y = torch.randn(200, 12, dtype=F64) * scales, torch.randint(0, 4, (200,))
    network = torch.nn.Sequential(torch.nn.Linear(12, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4))
    network = network.to(F64)
    with torch.no_grad():
        network[0].weight /= scales
    return network, (x, y)


def solved(preconditioner, *, rtol, **options):
    network, (x, y) = ill_conditioned_problem()
    model = CgInfluence(
        network, cross_entropy, rtol=rtol, preconditioner=preconditioner, **OPTIONS, **options
    ).fit(in_batches((x, y), 64), progress=False)
    factors = model.influence_factors(x[:5], y[:5])
    return factors, [max(told.steps) for told in model.solve_diagnostics.values()]


@pytest.mark.parametrize("fisher", ["exact", "sampled"])
def test_steps_are_halved_on_an_ill_conditioned_problem(fisher):
    _, plain = solved(None, rtol=1e-4)
    _, shortened = solved(EkfacPreconditioner(fisher=fisher), rtol=1e-4)
    assert 2 * shortened[0] < plain[0]


@pytest.mark.parametrize("structure", ["full", "layer_wise"])
def test_the_solution_is_that_of_the_dense_matrix(structure):
    factors, _ = solved(EkfacPreconditioner(), rtol=1e-10, block_structure=structure)
    network, (x, y) = ill_conditioned_problem()
    direct = DirectInfluence(network, cross_entropy, block_structure=structure, **OPTIONS)
    expected = direct.fit([(x, y)], progress=False).influence_factors(x[:5], y[:5])
    torch.testing.assert_close(factors, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
