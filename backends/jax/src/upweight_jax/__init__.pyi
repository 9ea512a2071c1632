"""Names of the package and where they are: read by type checkers, and when a name is first used."""

from .aggregators import JaxCatAggregator, NestedJaxCatAggregator
from .converter import JaxNumpyConverter
from .influence import (
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
from .losses import binary_cross_entropy, cross_entropy, squared_error
from .model import JaxModel
from .objective import JaxObjective

__version__: str

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
    "binary_cross_entropy",
    "cross_entropy",
    "squared_error",
]
