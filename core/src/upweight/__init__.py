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
    IncompleteResultError,
    IndefiniteCurvatureError,
    InvalidDimensionChunksError,
    LossError,
    MemoryLimitError,
    ModelError,
    NonFiniteError,
    NotFittedError,
    ResumeError,
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
from upweight.store import open_result

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
    "IncompleteResultError",
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
    "ResumeError",
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
    "open_result",
]
