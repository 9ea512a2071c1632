"""What cannot work is refused, before work starts or at the batch that shows it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from upweight import SequentialInfluenceCalculator
from upweight.errors import (
    BatchError,
    DataError,
    LossError,
    ModelError,
    NonFiniteError,
    NotFittedError,
    UnsupportedInfluenceModeError,
)
from upweight_torch import DirectInfluence, NestedTorchCatAggregator, TorchObjective

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 1, 0, 0, 0, 1, 0])


def fitted(model=None, loss=functional.cross_entropy, data=((X, Y),)):
    model = nn.Linear(3, 2) if model is None else model
    return DirectInfluence(model, loss, regularization=1.0).fit(list(data), progress=False)


class Branching(nn.Linear):
    def forward(self, x):
        out = super().forward(x)
        return out if out.sum().item() > 0 else -out


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.randn(2)


class Summed(nn.Linear):
    def forward(self, x):
        return super().forward(x).sum(0)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.CrossEntropyLoss(reduction="sum"), "of 8 samples it is .* reduction='mean'"),
        (nn.CrossEntropyLoss(reduction="none"), r"got the shape \(8,\).* reduction='mean'"),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0])), "weights that depend on the batch"),
        (
            lambda out, y: functional.cross_entropy(out, y) + out.var(),
            "must be the mean of the losses",
        ),
    ],
    ids=["sum", "none", "class weights", "variance over the batch"],
)
def test_a_loss_that_is_no_mean_over_samples_is_refused(loss, message):
    with pytest.raises(LossError, match=message):
        fitted(loss=loss)


def test_a_sum_is_noticed_in_a_batch_of_one():
    with pytest.raises(LossError, match="of 1 samples"):
        fitted(loss=nn.CrossEntropyLoss(reduction="sum"), data=[(X[:1], Y[:1])])


@pytest.mark.parametrize(
    "model", [None, functional.relu, {"weight": X}], ids=["none", "function", "dict"]
)
def test_a_model_that_is_no_module_is_refused(model):
    with pytest.raises(TypeError, match=r"torch.nn.Module; got"):
        TorchObjective(model, functional.cross_entropy)


def test_a_loss_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="must be callable"):
        TorchObjective(nn.Linear(3, 2), "cross_entropy")


@pytest.mark.parametrize(
    "model", [nn.Flatten(), nn.Linear(3, 2).requires_grad_(False)], ids=["none", "frozen"]
)
def test_a_model_without_trainable_parameters_is_refused(model):
    with pytest.raises(ModelError, match=r"no trainable parameter.*Unfreeze"):
        DirectInfluence(model, functional.cross_entropy)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).double()), "one type.*float32.*float64"),
        (nn.Linear(3, 2).half(), "float16"),
        (nn.Linear(3, 2).bfloat16(), "bfloat16"),
        (nn.Linear(3, 2, dtype=torch.complex64), "complex64"),
    ],
    ids=["mixed", "float16", "bfloat16", "complex64"],
)
def test_parameters_of_other_types_are_refused(model, message):
    with pytest.raises(ModelError, match=message):
        TorchObjective(model, functional.cross_entropy)


@pytest.mark.parametrize("model", [Branching(3, 2), Noisy(3, 2)], ids=["item", "random"])
def test_a_model_that_cannot_be_differentiated_by_sample_is_refused(model):
    with pytest.raises(ModelError, match="sample by sample"):
        fitted(model)


def test_it_is_refused_again_at_the_next_call():
    objective = TorchObjective(Branching(3, 2), functional.cross_entropy)
    for _ in range(2):
        with pytest.raises(ModelError, match="sample by sample"):
            objective.hessian((X, Y))


def test_an_output_without_samples_is_refused():
    with pytest.raises(ModelError, match="sample by sample"):
        fitted(Summed(3, 2))


def test_a_model_that_writes_to_its_input_is_refused_before_it_writes():
    x = X.clone()
    with pytest.raises(ModelError, match="in-place operation"):
        fitted(nn.Sequential(nn.ELU(inplace=True), nn.Linear(3, 2)), data=[(x, Y)])
    assert torch.equal(x, X)


def test_a_model_that_cannot_be_copied_is_refused():
    model = nn.Linear(3, 2)
    model.last = model(X)
    with pytest.raises(ModelError, match="cannot be copied"):
        TorchObjective(model, functional.cross_entropy)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X.double(), Y, "The model is torch.float32, and an array of the batch is torch.float64"),
        (X.half(), Y, "torch.float16"),
        (X.numpy(), Y, "must be torch tensors; got 'ndarray'"),
        (X, Y.numpy(), "must be torch tensors; got 'ndarray'"),
        (X, Y[:3], r"got lengths \[8, 3\]"),
        (X[:0], Y[:0], "at least one sample"),
        (X, torch.tensor(1), "got a scalar"),
    ],
)
@pytest.mark.parametrize("use", ["fit", "influence_factors", "influences"])
def test_batches_that_do_not_fit_the_model_are_refused(x, y, message, use):
    if use == "fit":
        with pytest.raises(BatchError, match=message):
            fitted(data=[(x, y)])
    else:
        with pytest.raises(BatchError, match=message):
            getattr(fitted(), use)(x, y)


def with_nan_at(*samples):
    x = X.clone()
    x[list(samples), 1] = np.nan
    return x


def test_nan_in_training_data_names_batch_and_sample():
    with pytest.raises(NonFiniteError, match=r"samples \[2, 5\](.|\n)*training batch 1"):
        fitted(data=[(X, Y), (with_nan_at(2, 5), Y)])


@pytest.mark.parametrize("which", ["test", "training"])
def test_nan_in_data_of_a_calculator_names_batch_and_sample(which):
    good, bad = [(X, Y), (X, Y)], [(X, Y), (with_nan_at(3), Y)]
    data = (bad, good) if which == "test" else (good, bad)
    lazy = SequentialInfluenceCalculator(fitted(), progress=False).influences(*data)
    with pytest.raises(NonFiniteError, match=rf"samples \[3\](.|\n)*batch 1 of the {which} data"):
        lazy.compute()


@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_nan_in_training_samples_is_refused_in_each_mode(mode):
    with pytest.raises(NonFiniteError, match=r"samples \[3\]"):
        fitted().influences(X, Y, with_nan_at(3), Y, mode=mode)


def loader(**options):
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(X, Y), batch_size=2, generator=generator, **options)


@pytest.mark.parametrize("which", ["test", "training"])
def test_a_shuffling_loader_is_refused(which):
    shuffling, fixed = loader(shuffle=True), loader()
    data = (shuffling, fixed) if which == "test" else (fixed, shuffling)
    lazy = SequentialInfluenceCalculator(fitted(), progress=False).influences(*data)
    with pytest.raises(DataError, match=rf"of the {which} data is not what it was.*shuffle=False"):
        lazy.compute(NestedTorchCatAggregator())


def test_a_shuffling_loader_is_welcome_to_fit():
    model = nn.Linear(3, 2)
    values = [fitted(model, data=loader(shuffle=s)).influences(X, Y) for s in (True, False)]
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-6)


def test_a_generator_is_refused_by_fit():
    model = DirectInfluence(nn.Linear(3, 2), functional.cross_entropy)
    with pytest.raises(DataError, match="read only once"):
        model.fit(batch for batch in loader())


@pytest.mark.parametrize("position", [0, 1])
def test_a_generator_is_refused_by_the_calculator(position):
    data = [loader(), loader()]
    data[position] = (batch for batch in loader())
    with pytest.raises(DataError, match="read only once"):
        SequentialInfluenceCalculator(fitted()).influences(*data)


def test_an_empty_loader_is_refused_by_fit():
    empty = DataLoader(TensorDataset(X[:0], Y[:0]), batch_size=2)
    with pytest.raises(DataError, match="no batch"):
        fitted(data=empty)


@pytest.mark.parametrize("position", [0, 1])
def test_an_empty_loader_is_refused_by_the_calculator(position):
    data = [loader(), loader()]
    data[position] = DataLoader(TensorDataset(X[:0], Y[:0]), batch_size=2)
    lazy = SequentialInfluenceCalculator(fitted(), progress=False).influences(*data)
    with pytest.raises(DataError, match="no batch"):
        lazy.compute()


def test_an_unfitted_model_is_refused():
    with pytest.raises(NotFittedError, match=r"fit\(data\)"):
        DirectInfluence(nn.Linear(3, 2), functional.cross_entropy).influences(X, Y)


def test_an_unknown_mode_is_refused():
    with pytest.raises(UnsupportedInfluenceModeError, match="'down'"):
        fitted().influences(X, Y, mode="down")


def test_perturbing_token_ids_is_refused():
    model = nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(6, 2))
    ids = torch.randint(0, 4, (8, 2), generator=torch.Generator().manual_seed(0))
    influence = DirectInfluence(model, functional.cross_entropy, regularization=3.0)
    influence.fit([(ids, Y)], progress=False)
    with pytest.raises(UnsupportedInfluenceModeError, match="no input is floating-point"):
        influence.influences(ids, Y, mode="perturbation")
