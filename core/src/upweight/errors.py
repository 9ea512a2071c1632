"""Every exception and warning of upweight: what was wrong, what arrived, what to do."""


class UpweightError(Exception):
    """Base of all errors raised by upweight and its backends."""


class NotFittedError(UpweightError, RuntimeError):
    """The model was asked for influences before `fit`."""


class BatchError(UpweightError, ValueError):
    """A batch is not `(x, y)` with the same number of samples in every array."""


class DataError(UpweightError, ValueError):
    """A collection of batches is empty, can be read only once, or changes between passes."""


class LossError(UpweightError, ValueError):
    """The loss of a batch is not the mean of the losses of its samples."""


class ModelError(UpweightError, ValueError):
    """A model cannot be differentiated as it is."""


class IncompleteResultError(UpweightError, ValueError):
    """A stored result or model lacks parts, because what wrote it did not come to its end."""


class ResumeError(UpweightError, ValueError):
    """A stored result was begun with another model, other options or other data."""


class SavedModelError(UpweightError, ValueError):
    """A saved model cannot be loaded: it is of a newer version, damaged, or something else."""


class ParametersError(UpweightError, ValueError):
    """A model has other parameters than the one that was fitted and saved."""


class NonFiniteError(UpweightError, ArithmeticError):
    """A loss, gradient or result is NaN or infinite.

    Attributes:
        samples: Indices in the batch of all samples that are meant, where they are known.
    """

    samples: tuple[int, ...] = ()


class IndefiniteCurvatureError(UpweightError, ArithmeticError):
    """The damped curvature has a direction of no or negative curvature."""


class DivergenceError(UpweightError, ArithmeticError):
    """An iteration grows without bound: its steps are too long."""


class MemoryLimitError(UpweightError, MemoryError):
    """A computation would need more memory than there is."""


class UnsupportedInfluenceModeError(UpweightError, ValueError):
    """The influence mode is unknown, or has no meaning for this model or data."""


class UnsupportedCurvatureError(UpweightError, TypeError):
    """The objective of the backend cannot form the curvature or statistics that are asked for."""


class UnalignedChunksError(UpweightError, ValueError):
    """Arrays that describe the same samples are chunked differently."""


class InvalidDimensionChunksError(UpweightError, ValueError):
    """An array is chunked along another axis than its samples."""


class ThreadSafetyViolationError(UpweightError, RuntimeError):
    """A model that is not thread-safe would run on workers with several threads."""


class ExtraNotInstalledError(UpweightError, ImportError):
    """A part of upweight needs packages that an extra brings, and they are not installed."""


class BackendError(UpweightError, ImportError):
    """Base of the errors about backends."""


class BackendNotInstalledError(BackendError):
    """No installed distribution offers the backend."""


class BackendBrokenError(BackendError):
    """The backend is installed, but it or its framework cannot be imported."""


class BackendConflictError(BackendError):
    """Two distributions offer a backend of the same name."""


class ChunkSizeWarning(UserWarning):
    """Chunks of Dask arrays are so small, or so large, that computing would suffer from it."""


class ConvergenceWarning(UserWarning):
    """An iterative solve stopped before it reached its tolerance."""


class NonFiniteWarning(UserWarning):
    """Samples have NaN for a result, because their loss or gradient is NaN or infinite."""


class CurvatureWarning(UserWarning):
    """The damped curvature has negative directions, so influences may have the wrong sign."""
