"""Names of the package and where they are: read by type checkers, and when a name is first used."""

from .aggregators import NestedTorchCatAggregator, TorchCatAggregator
from .converter import TorchNumpyConverter
from .data import torch_dataset_to_dask_array
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
from .objective import TorchObjective

__version__: str

__all__ = [
    "ArnoldiInfluence",
    "CgInfluence",
    "DirectInfluence",
    "EkfacInfluence",
    "GradientInfluence",
    "GramInfluence",
    "InverseHarmonicMeanInfluence",
    "LissaInfluence",
    "NestedTorchCatAggregator",
    "NystroemSketchInfluence",
    "TorchCatAggregator",
    "TorchNumpyConverter",
    "TorchObjective",
    "torch_dataset_to_dask_array",
]
