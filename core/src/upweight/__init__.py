"""Which training examples made a model behave as it does, at any scale.

A module is imported when one of its names is used: the command line starts without NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from upweight.version import __version__

if TYPE_CHECKING:
    from upweight.aggregators import ListAggregator, NestedListAggregator
    from upweight.arrays import LazyChunkSequence
    from upweight.calculators.dask import DaskInfluenceCalculator, DisableClientSingleThreadCheck
    from upweight.calculators.dask_reduction import reduce_influences
    from upweight.calculators.sequential import SequentialInfluenceCalculator
    from upweight.calculators.training_data import DaskTrainingData
    from upweight.errors import (
        BackendBrokenError,
        BackendConflictError,
        BackendError,
        BackendNotInstalledError,
        BatchError,
        ChunkSizeWarning,
        ConvergenceWarning,
        CurvatureWarning,
        DataError,
        DivergenceError,
        IncompleteResultError,
        IndefiniteCurvatureError,
        InvalidDimensionChunksError,
        LossError,
        MemoryLimitError,
        ModelError,
        NonFiniteError,
        NonFiniteWarning,
        NotFittedError,
        ParametersError,
        ResumeError,
        SavedModelError,
        ThreadSafetyViolationError,
        UnalignedChunksError,
        UnsupportedCurvatureError,
        UnsupportedInfluenceModeError,
        UpweightError,
    )
    from upweight.influence import (
        BlockMode,
        InfluenceFunctionModel,
        InfluenceMode,
        SecondOrderMode,
    )
    from upweight.loading import load
    from upweight.nested import NestedLazyChunkSequence
    from upweight.plugins import Backend, backends, get_backend, hookimpl
    from upweight.protocols import (
        InverseCurvature,
        NestedSequenceAggregator,
        NumpyConverter,
        Objective,
        Reduction,
        SequenceAggregator,
    )
    from upweight.reductions import (
        ArgMax,
        ArgMin,
        BottomK,
        Max,
        Mean,
        Min,
        Ranked,
        Sum,
        TopK,
    )
    from upweight.stored import StoredChunks, open_result

__all__ = [
    "ArgMax",
    "ArgMin",
    "Backend",
    "BackendBrokenError",
    "BackendConflictError",
    "BackendError",
    "BackendNotInstalledError",
    "BatchError",
    "BlockMode",
    "BottomK",
    "ChunkSizeWarning",
    "ConvergenceWarning",
    "CurvatureWarning",
    "DaskInfluenceCalculator",
    "DaskTrainingData",
    "DataError",
    "DisableClientSingleThreadCheck",
    "DivergenceError",
    "IncompleteResultError",
    "IndefiniteCurvatureError",
    "InfluenceFunctionModel",
    "InfluenceMode",
    "InvalidDimensionChunksError",
    "InverseCurvature",
    "LazyChunkSequence",
    "ListAggregator",
    "LossError",
    "Max",
    "Mean",
    "MemoryLimitError",
    "Min",
    "ModelError",
    "NestedLazyChunkSequence",
    "NestedListAggregator",
    "NestedSequenceAggregator",
    "NonFiniteError",
    "NonFiniteWarning",
    "NotFittedError",
    "NumpyConverter",
    "Objective",
    "ParametersError",
    "Ranked",
    "Reduction",
    "ResumeError",
    "SavedModelError",
    "SecondOrderMode",
    "SequenceAggregator",
    "SequentialInfluenceCalculator",
    "StoredChunks",
    "Sum",
    "ThreadSafetyViolationError",
    "TopK",
    "UnalignedChunksError",
    "UnsupportedCurvatureError",
    "UnsupportedInfluenceModeError",
    "UpweightError",
    "__version__",
    "backends",
    "get_backend",
    "hookimpl",
    "load",
    "open_result",
    "reduce_influences",
]

_MODULES = {
    "ArgMax": "reductions",
    "ArgMin": "reductions",
    "Backend": "plugins",
    "BackendBrokenError": "errors",
    "BackendConflictError": "errors",
    "BackendError": "errors",
    "BackendNotInstalledError": "errors",
    "BatchError": "errors",
    "BlockMode": "influence",
    "BottomK": "reductions",
    "ChunkSizeWarning": "errors",
    "ConvergenceWarning": "errors",
    "CurvatureWarning": "errors",
    "DaskInfluenceCalculator": "calculators.dask",
    "DaskTrainingData": "calculators.training_data",
    "DataError": "errors",
    "DisableClientSingleThreadCheck": "calculators.dask",
    "DivergenceError": "errors",
    "IncompleteResultError": "errors",
    "IndefiniteCurvatureError": "errors",
    "InfluenceFunctionModel": "influence",
    "InfluenceMode": "influence",
    "InvalidDimensionChunksError": "errors",
    "InverseCurvature": "protocols",
    "LazyChunkSequence": "arrays",
    "ListAggregator": "aggregators",
    "LossError": "errors",
    "Max": "reductions",
    "Mean": "reductions",
    "MemoryLimitError": "errors",
    "Min": "reductions",
    "ModelError": "errors",
    "NestedLazyChunkSequence": "nested",
    "NestedListAggregator": "aggregators",
    "NestedSequenceAggregator": "protocols",
    "NonFiniteError": "errors",
    "NonFiniteWarning": "errors",
    "NotFittedError": "errors",
    "NumpyConverter": "protocols",
    "Objective": "protocols",
    "ParametersError": "errors",
    "Ranked": "reductions",
    "Reduction": "protocols",
    "ResumeError": "errors",
    "SavedModelError": "errors",
    "SecondOrderMode": "influence",
    "SequenceAggregator": "protocols",
    "SequentialInfluenceCalculator": "calculators.sequential",
    "StoredChunks": "stored",
    "Sum": "reductions",
    "ThreadSafetyViolationError": "errors",
    "TopK": "reductions",
    "UnalignedChunksError": "errors",
    "UnsupportedCurvatureError": "errors",
    "UnsupportedInfluenceModeError": "errors",
    "UpweightError": "errors",
    "backends": "plugins",
    "get_backend": "plugins",
    "hookimpl": "plugins",
    "load": "loading",
    "open_result": "stored",
    "reduce_influences": "calculators.dask_reduction",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
