"""One fitted model, used by many threads, and sent elsewhere."""

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import cloudpickle
import pytest
import torch
import torch.backends.cuda
from torch_zoo import ATTENTION, CONVOLUTION, MLP, TOKENS, ZOO, case

from upweight.errors import ModelError
from upweight_torch import CgInfluence, DirectInfluence, TorchObjective

THREADS = 8
SOME = [MLP, CONVOLUTION, ATTENTION, TOKENS, case("lstm"), case("tied weights")]
METHODS = ["losses", "gradients", "inner_products", "hessian_product", "hessian"]

PICKLED = [case for case in ZOO if case.name != "parametrised"]  # torch refuses to pickle those


def ask(objective, method, batch):
    rows = (objective.zeros(3) + 1,) if method in {"inner_products", "hessian_product"} else ()
    return getattr(objective, method)(*rows, batch)


def at_once(tasks):
    """Run all tasks at the same time, each in a thread of its own."""
    barrier = Barrier(len(tasks))

    def run(task):
        barrier.wait(timeout=60)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


@pytest.mark.parametrize("case", SOME, ids=str)
def test_threads_get_the_numbers_of_one_thread(case):
    batches = [case.batch(5, seed=seed) for seed in range(THREADS)]
    objective = TorchObjective(case.model(), case.loss)
    questions = [(METHODS[i % len(METHODS)], batches[i]) for i in range(THREADS)]
    alone = [ask(objective, *question) for question in questions]
    for _ in range(3):
        together = at_once([lambda q=q: ask(objective, *q) for q in questions])
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", [MLP, ATTENTION], ids=str)
def test_a_fresh_objective_may_be_met_by_many_threads(case):
    batch = case.batch(5)
    expected = TorchObjective(case.model(), case.loss).gradients(batch)
    objective = TorchObjective(case.model(), case.loss)
    found = at_once([lambda: objective.gradients(batch)] * THREADS)
    torch.testing.assert_close(found, [expected] * THREADS, rtol=1e-12, atol=1e-12)


def test_threads_leave_the_kernels_of_attention_as_found():
    objective, batch = TorchObjective(ATTENTION.model(), ATTENTION.loss), ATTENTION.batch(5)
    at_once([lambda: objective.hessian(batch)] * THREADS)
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("method", [DirectInfluence, CgInfluence])
def test_a_fitted_model_says_it_is_thread_safe(method):
    assert method(MLP.model(), MLP.loss).is_thread_safe


@pytest.mark.parametrize("method", [DirectInfluence, CgInfluence])
@pytest.mark.parametrize("case", PICKLED, ids=str)
def test_a_pickled_model_gives_the_same_numbers(case, method):
    batch = case.batch(3)
    model = method(case.model(), case.loss, regularization=5.0).fit([batch], progress=False)
    expected = model.influences(*batch)
    again = cloudpickle.loads(cloudpickle.dumps(model))
    torch.testing.assert_close(again.influences(*batch), expected, rtol=1e-12, atol=1e-12)


def test_a_model_that_torch_cannot_pickle_says_what_to_do():
    objective = TorchObjective(case("parametrised").model(), case("parametrised").loss)
    assert copy.deepcopy(objective).parameters == objective.parameters
    with pytest.raises(ModelError, match="remove_parametrizations"):
        cloudpickle.dumps(objective)


def test_a_model_may_be_pickled_before_it_is_fitted():
    again = cloudpickle.loads(cloudpickle.dumps(DirectInfluence(MLP.model(), MLP.loss)))
    assert not again.is_fitted


def test_a_direct_model_travels_without_its_training_data():
    x, y = MLP.batch(10_000)
    model = DirectInfluence(MLP.model(), MLP.loss, regularization=5.0).fit([(x, y)], progress=False)
    assert len(cloudpickle.dumps(model)) < x.nbytes / 2
