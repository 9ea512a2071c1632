"""The torch backend of upweight. No torch is imported before a name that needs it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upweight_torch.aggregators import NestedTorchCatAggregator, TorchCatAggregator
    from upweight_torch.converter import TorchNumpyConverter
    from upweight_torch.data import torch_dataset_to_dask_array
    from upweight_torch.influence import (
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
    from upweight_torch.objective import TorchObjective

__version__ = "0.1.0"

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
    "__version__",
    "torch_dataset_to_dask_array",
]

_MODULES = {
    "ArnoldiInfluence": "influence",
    "CgInfluence": "influence",
    "DirectInfluence": "influence",
    "EkfacInfluence": "influence",
    "GradientInfluence": "influence",
    "GramInfluence": "influence",
    "InverseHarmonicMeanInfluence": "influence",
    "LissaInfluence": "influence",
    "NestedTorchCatAggregator": "aggregators",
    "NystroemSketchInfluence": "influence",
    "TorchCatAggregator": "aggregators",
    "TorchNumpyConverter": "converter",
    "TorchObjective": "objective",
    "torch_dataset_to_dask_array": "data",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
