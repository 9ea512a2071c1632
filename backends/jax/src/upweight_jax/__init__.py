"""The JAX backend of upweight. No JAX is imported before a name that needs it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upweight_jax.aggregators import JaxCatAggregator, NestedJaxCatAggregator
    from upweight_jax.converter import JaxNumpyConverter
    from upweight_jax.influence import (
        ArnoldiInfluence,
        CgInfluence,
        DirectInfluence,
        EkfacInfluence,
        GradientInfluence,
        GramInfluence,
        InverseHarmonicMeanInfluence,
        LissaInfluence,
        NystroemSketchInfluence,
    )
    from upweight_jax.losses import binary_cross_entropy, cross_entropy, squared_error
    from upweight_jax.model import JaxModel
    from upweight_jax.objective import JaxObjective

__version__ = "0.1.0"

__all__ = [
    "ArnoldiInfluence",
    "CgInfluence",
    "DirectInfluence",
    "EkfacInfluence",
    "GradientInfluence",
    "GramInfluence",
    "InverseHarmonicMeanInfluence",
    "JaxCatAggregator",
    "JaxModel",
    "JaxNumpyConverter",
    "JaxObjective",
    "LissaInfluence",
    "NestedJaxCatAggregator",
    "NystroemSketchInfluence",
    "__version__",
    "binary_cross_entropy",
    "cross_entropy",
    "squared_error",
]

_MODULES = {
    "ArnoldiInfluence": "influence",
    "CgInfluence": "influence",
    "DirectInfluence": "influence",
    "EkfacInfluence": "influence",
    "GradientInfluence": "influence",
    "GramInfluence": "influence",
    "InverseHarmonicMeanInfluence": "influence",
    "JaxCatAggregator": "aggregators",
    "JaxModel": "model",
    "JaxNumpyConverter": "converter",
    "JaxObjective": "objective",
    "LissaInfluence": "influence",
    "NestedJaxCatAggregator": "aggregators",
    "NystroemSketchInfluence": "influence",
    "binary_cross_entropy": "losses",
    "cross_entropy": "losses",
    "squared_error": "losses",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
