import autograd.numpy as np

from upweight import Backend
from upweight.models import DirectInfluence
from upweight_autograd.objective import AutogradObjective, Model, NumpyConverter


def concatenate(chunks):
    return np.concatenate(list(chunks))


def concatenate_rows(rows):
    return concatenate(np.concatenate(list(row), axis=1) for row in rows)


def network(parameters, x):
    hidden = np.tanh(x @ parameters["hidden.weight"].T + parameters["hidden.bias"])
    return hidden @ parameters["head.weight"].T + parameters["head.bias"]


def cross_entropy(outputs, y):
    normaliser = np.log(np.sum(np.exp(outputs), axis=1))
    return np.mean(normaliser - outputs[np.arange(len(y)), y])


def reference(weights):
    return Model(network, weights), cross_entropy, tuple(weights)


autograd_backend = Backend(
    name="autograd",
    objective=AutogradObjective,
    converter=NumpyConverter,
    aggregator=lambda: concatenate,
    nested_aggregator=lambda: concatenate_rows,
    models={"direct": lambda m, loss, **o: DirectInfluence(AutogradObjective(m, loss), **o)},
    capabilities=frozenset({"SupportsGaussNewton", "SupportsSaving"}),
    reference=reference,
)
