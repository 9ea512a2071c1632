"""What a user passes in is what it was before, and a fitted model is not changed from outside."""

import copy

import pytest
import torch
import torch.backends.cuda
from torch_zoo import ATTENTION, CONVOLUTION, MLP, ZOO
from torch_zoo import case as named

from upweight_torch import CgInfluence, DirectInfluence, TorchObjective

SOME = [MLP, CONVOLUTION, ATTENTION, named("lstm"), named("in-place"), named("partly frozen")]
SAME = {"rtol": 0, "atol": 0, "equal_nan": True}


def use_everything(case, model, batch):
    """Fit, and ask for influences in both modes."""
    influence = DirectInfluence(model, case.loss, regularization=3.0).fit([batch], progress=False)
    influence.influences(*batch)
    influence.influences(*batch, mode="perturbation")


@pytest.fixture(params=SOME, ids=str)
def case(request):
    return request.param


@pytest.mark.parametrize("training", [True, False])
def test_mode_of_every_submodule(case, training):
    model = case.model().train(training)
    list(model.modules())[-1].train(not training)
    before = [module.training for module in model.modules()]
    use_everything(case, model, case.batch(4))
    assert [module.training for module in model.modules()] == before


def test_flags_of_parameters(case):
    model = case.model()
    before = [p.requires_grad for p in model.parameters()]
    use_everything(case, model, case.batch(4))
    assert [p.requires_grad for p in model.parameters()] == before


def test_parameters_and_buffers(case):
    model = case.model().train()
    before = copy.deepcopy(model.state_dict())
    use_everything(case, model, case.batch(4))
    torch.testing.assert_close(model.state_dict(), before, **SAME)


def test_gradients_that_were_there(case):
    model = case.model()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    use_everything(case, model, case.batch(4))
    assert all(bool((p.grad == 1).all()) for p in model.parameters())


def test_gradients_that_were_not_there(case):
    model = case.model()
    use_everything(case, model, case.batch(4))
    assert all(p.grad is None for p in model.parameters())


def test_hooks_of_the_model(case):
    model = case.model()
    use_everything(case, model, case.batch(4))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_random_state(case):
    model, batch = case.model().train(), case.batch(4)
    before = torch.random.get_rng_state()
    use_everything(case, model, batch)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_data(case):
    batch = case.batch(4)
    before = copy.deepcopy(batch)
    use_everything(case, case.model(), batch)
    torch.testing.assert_close(batch, before, **SAME)


@pytest.mark.parametrize("enabled", [True, False])
def test_kernels_of_attention(enabled):
    flags = torch.backends.cuda
    before = flags.flash_sdp_enabled(), flags.mem_efficient_sdp_enabled()
    flags.enable_flash_sdp(enabled)
    flags.enable_mem_efficient_sdp(not enabled)
    try:
        use_everything(ATTENTION, ATTENTION.model(), ATTENTION.batch(4))
        assert (flags.flash_sdp_enabled(), flags.mem_efficient_sdp_enabled()) == (
            enabled,
            not enabled,
        )
    finally:
        flags.enable_flash_sdp(before[0])
        flags.enable_mem_efficient_sdp(before[1])


def test_kernels_of_attention_after_an_error():
    flags = torch.backends.cuda
    objective, batch = TorchObjective(ATTENTION.model(), ATTENTION.loss), ATTENTION.batch(4)
    objective.losses(batch)
    with pytest.raises(RuntimeError):
        objective.hessian_product(objective.zeros(1)[:, 1:], batch)
    assert flags.flash_sdp_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("method", [DirectInfluence, CgInfluence])
def test_further_training_does_not_change_a_fitted_model(case, method):
    model, batch = case.model(), case.batch(4)
    influence = method(model, case.loss, regularization=3.0).fit([batch], progress=False)
    before = influence.influences(*batch)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    model.train().requires_grad_(False)
    torch.testing.assert_close(influence.influences(*batch), before, **SAME)


def test_training_mode_makes_no_difference(case):
    results = []
    for training in (True, False):
        objective = TorchObjective(case.model().train(training), case.loss)
        results.append(objective.gradients(case.batch(4)))
    torch.testing.assert_close(*results, **SAME)


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_nothing_depends_on_whether_gradients_are_enabled(case):
    objective, batch = TorchObjective(case.model(), case.loss), case.batch(3)
    rows = objective.gradients(batch)
    results = [objective.hessian_product(rows, batch)]
    with torch.no_grad():
        results.append(objective.hessian_product(rows, batch))
    torch.testing.assert_close(*results, **SAME)


def test_results_carry_no_graph(case):
    model, (x, y) = case.model(), case.batch(4)
    batch = (x.requires_grad_(), y)
    objective = TorchObjective(model, case.loss)
    rows = objective.gradients(batch)
    results = [
        rows,
        objective.losses(batch),
        objective.hessian(batch),
        objective.hessian_product(rows, batch),
        objective.inner_products(rows, batch),
        objective.input_gradients(rows, batch),
    ]
    assert not any(value.requires_grad for value in results)
