"""The one class that the author of a backend inherits."""

from __future__ import annotations

from upweight.testing.arrays import ArraysConformance
from upweight.testing.calculators import CalculatorsConformance
from upweight.testing.conduct import ConductConformance
from upweight.testing.methods import MethodsConformance
from upweight.testing.plugin import PluginConformance
from upweight.testing.primitives import PrimitivesConformance
from upweight.testing.saving import SavingConformance


class BackendConformance(
    PluginConformance,
    ArraysConformance,
    PrimitivesConformance,
    ConductConformance,
    MethodsConformance,
    SavingConformance,
    CalculatorsConformance,
):
    """Tests that a backend does what core relies on, for pytest to collect.

    Inherit in a test file, name the backend, and write `build`:

        class TestMine(BackendConformance):
            backend = "mine"

            def build(self, weights):
                return model, loss, ("hidden.weight", "hidden.bias", "head.weight", "head.bias")

    `weights` holds the NumPy arrays "hidden.weight" (5, 4), "hidden.bias" (5,), "head.weight"
    (3, 5) and "head.bias" (3,), all float64 or all float32. The model is to compute
    head(tanh(hidden(x))) for x (n, 4), in their type, and the loss is the mean cross-entropy of the
    softmax of its outputs for integer labels (n,). What is returned is what `Backend.objective`
    takes, and the names of the weights in the order in which the objective has its parameters, with
    ".T" after those that it stores transposed ("hidden.weight.T"). A backend with a `reference`
    needs no `build`.

    Tests of capabilities that the backend does not claim are skipped.

    Attributes:
        backend: Name of the backend.
        dtypes: The types in which it computes, "float64" and "float32" unless said otherwise.
        known_gaps: Reasons by name of a test, with or without the parameters in brackets, that is
            known to fail. When it no longer fails, that is a failure.
    """
