"""Which training examples made a model behave as it does, at any scale."""

from upweight.aggregators import ListAggregator, NestedListAggregator
from upweight.arrays import LazyChunkSequence, NestedLazyChunkSequence
from upweight.calculators.dask import DaskInfluenceCalculator, DisableClientSingleThreadCheck
from upweight.calculators.sequential import SequentialInfluenceCalculator
from upweight.errors import (
    BackendBrokenError,
    BackendConflictError,
    BackendError,
    BackendNotInstalledError,
    BatchError,
    ConvergenceWarning,
    CurvatureWarning,
    DataError,
    DivergenceError,
    IndefiniteCurvatureError,
    InvalidDimensionChunksError,
    LossError,
    MemoryLimitError,
    ModelError,
    NonFiniteError,
    NotFittedError,
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
from upweight.plugins import Backend, backends, get_backend, hookimpl
from upweight.protocols import (
    InverseCurvature,
    NestedSequenceAggregator,
    NumpyConverter,
    Objective,
    SequenceAggregator,
)

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendBrokenError",
    "BackendConflictError",
    "BackendError",
    "BackendNotInstalledError",
    "BatchError",
    "BlockMode",
    "ConvergenceWarning",
    "CurvatureWarning",
    "DaskInfluenceCalculator",
    "DataError",
    "DisableClientSingleThreadCheck",
    "DivergenceError",
    "IndefiniteCurvatureError",
    "InfluenceFunctionModel",
    "InfluenceMode",
    "InvalidDimensionChunksError",
    "InverseCurvature",
    "LazyChunkSequence",
    "ListAggregator",
    "LossError",
    "MemoryLimitError",
    "ModelError",
    "NestedLazyChunkSequence",
    "NestedListAggregator",
    "NestedSequenceAggregator",
    "NonFiniteError",
    "NotFittedError",
    "NumpyConverter",
    "Objective",
    "SecondOrderMode",
    "SequenceAggregator",
    "SequentialInfluenceCalculator",
    "ThreadSafetyViolationError",
    "UnalignedChunksError",
    "UnsupportedCurvatureError",
    "UnsupportedInfluenceModeError",
    "UpweightError",
    "__version__",
    "backends",
    "get_backend",
    "hookimpl",
]
