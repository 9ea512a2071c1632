"""The mean loss of a JAX model, seen through its derivatives."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from upweight.checks import batch_size
from upweight.errors import ModelError, UpweightError
from upweight.trees import Batch, perturbed_leaf
from upweight_jax import derivatives
from upweight_jax.batches import Loss, check_loss, prepared_batch
from upweight_jax.capacity import (
    MOST_ROWS,
    bytes_of_sample,
    capacity,
    compiled_rows,
    rows_at_once,
)
from upweight_jax.compiled import CompiledProblem, Problem
from upweight_jax.converter import JaxNumpyConverter
from upweight_jax.flat import Parameters
from upweight_jax.layered import LayeredModel
from upweight_jax.model import Trainable

Array = jax.Array


class JaxObjective(LayeredModel):
    """The mean loss of a JAX model at its present parameters.

    Every derivative is compiled by `jax.jit` for each shape of a batch, and kept as long as an
    objective of the same function and loss lives. The number of rows is padded to a power of two, so that few numbers are compiled for.

    Args:
        model: A `JaxModel`, an Equinox module, a Flax nnx module, or a pair of a Flax linen module
            and its variables. Equinox and nnx modules are put into inference mode: dropout is off
            and batch normalisation uses its running statistics. The model is called with x, with
            `*x` for a tuple and with `**x` for a mapping.
        loss: Called as `loss(output, y)`, the mean of the losses of the samples of a batch.
        trainable: Names of parameters, or of layers, that influences are taken over, or a function
            that says so of a name; by default all. The others are constants.

    Raises:
        TypeError: the model is none of these, or the loss cannot be called.
        ValueError: `trainable` has a name that is not one of the model.
        ModelError: trainable parameters have several types or devices, or JAX would shorten them.
    """

    def __init__(self, model: object, loss: Loss, *, trainable: Trainable | None = None) -> None:
        super().__init__(model, loss, trainable=trainable)
        self._sample_bytes: int | None = None
        self._restricted: dict[tuple[str, ...], JaxObjective] = {}

    @property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of each parameter, in the order of the leaves of the model."""
        return {name: tuple(value.shape) for name, value in self._free.items()}

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy name of the floating-point type that all results have."""
        return np.dtype(self._any().dtype.name)

    @property
    def is_thread_safe(self) -> bool:
        """True: everything is a pure function."""
        return True

    def restrict(self, names: Sequence[str]) -> JaxObjective:
        """Return the same loss, seen as a function of the named parameters only.

        Raises:
            ValueError: a name is not one of the parameters.
        """
        unknown = set(names) - set(self._free)
        if unknown:
            raise ValueError(
                f"There are no parameters {sorted(unknown)}; there are {list(self._free)}."
            )
        chosen = tuple(name for name in self._free if name in names)
        if chosen not in self._restricted:  # kept, with what was compiled for it
            self._restricted[chosen] = self._derived(
                self._problem.loss, OrderedDict((name, self._free[name]) for name in chosen)
            )
        return self._restricted[chosen]

    def measuring(self, measurement: Loss) -> JaxObjective:
        """Return the same model with another function of output and label instead of the loss."""
        return self._derived(measurement, self._free)

    def zeros(self, k: int) -> Array:
        """Return k zero vectors over the parameters, on the device of the model, (k, p)."""
        p = sum(value.size for value in self._free.values())
        return jnp.zeros((k, p), self._any().dtype, device=self._device())

    def numpy_converter(self) -> JaxNumpyConverter:
        """Return the conversion between NumPy and arrays on the device of the model."""
        return JaxNumpyConverter(self._device())

    def parameter_values(self) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        """Yield name and value of every parameter, trainable or not, and of every constant."""
        for name, value in {**self._free, **self._fixed()}.items():
            is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
            yield name, np.asarray(jax.random.key_data(value) if is_key else value)

    def available_memory(self) -> int | None:
        """Return the number of free bytes on the device of the model, None for main memory."""
        told = None if self._device().platform == "cpu" else self._device().memory_stats()
        return None if told is None else int(told["bytes_limit"] - told["bytes_in_use"])

    def suggested_batch_size(self, batch: Batch[Array]) -> int:
        """Return how many samples like these have activations that fit the working memory."""
        self._prepared(batch)
        return self._capacity()

    def losses(self, batch: Batch[Array]) -> Array:
        """Return the loss of each sample, (n,).

        Raises:
            LossError: the loss of the batch is not the mean of the losses of its samples.
        """
        losses, of_batch = self._run(derivatives.losses, self._prepared(batch))
        check_loss(of_batch, losses)
        typed: Array = losses.astype(self._any().dtype)
        return typed

    def gradients(self, batch: Batch[Array]) -> Array:
        """Return the gradient of the loss of each sample in the parameters, (n, p)."""
        prepared = self._prepared(batch)
        gradients: Array = self._run(derivatives.gradients, prepared, at_once=self._capacity())
        return gradients

    def inner_products(self, rows: Array, batch: Batch[Array]) -> Array:
        """Return ⟨row, gradient of sample⟩ for each pair, (k, n)."""
        return self._for_rows(derivatives.inner_products, rows, batch)

    def hessian_product(self, rows: Array, batch: Batch[Array]) -> Array:
        """Return the Hessian of the mean loss of the batch times each row, (k, p)."""
        return self._for_rows(derivatives.hessian_products, rows, batch)

    def gauss_newton_product(self, rows: Array, batch: Batch[Array]) -> Array:
        """Return the Gauss-Newton matrix of the mean loss of the batch times each row, (k, p)."""
        return self._for_rows(derivatives.gauss_newton_products, rows, batch)

    def input_gradients(self, rows: Array, batch: Batch[Array]) -> Array:
        """Return ∇x ⟨row, ∇θ loss⟩ for each pair, (k, n, *x).

        Raises:
            UnsupportedInfluenceModeError: not exactly one input is floating-point.
        """
        perturbed_leaf(batch[0])
        return self._for_rows(derivatives.input_gradients, rows, batch)

    def _for_rows(self, function: Callable[..., Any], rows: Any, batch: Batch[Array]) -> Array:
        """Run a function of rows, which are padded, and split if they are many."""
        x, y = self._prepared(batch)
        times = self._capacity() // batch_size(x, y)
        pieces = []
        for start in range(0, max(1, len(rows)), MOST_ROWS):
            piece = jnp.asarray(rows[start : start + MOST_ROWS], self._any().dtype)
            k = compiled_rows(len(piece))
            padded = jnp.pad(piece, ((0, k - len(piece)), (0, 0))) if k > len(piece) else piece
            at_once = rows_at_once(k, times)
            values = self._run(function, (x, y, padded, np.int32(len(piece))), at_once=at_once)
            pieces.append(values[: len(piece)] if k > len(piece) else values)
        return pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces)

    def _prepared(self, batch: Batch[Array]) -> Batch[Array]:
        """Check a batch and bring it to the device; the first one is also tried out."""
        x, y = prepared_batch(batch, self._any())
        if self._sample_bytes is None:
            self._try_out((x, y))
            values = {**self._fixed(), **self._free}
            self._sample_bytes = bytes_of_sample(self._problem.model, values, (x, y))
        return x, y

    def _try_out(self, batch: Batch[Array]) -> None:
        try:
            jax.eval_shape(
                lambda free, fixed, x, y: derivatives.gradients(
                    self._problem, free, fixed, x, y, at_once=1
                ),
                self._free,
                self._fixed(),
                *batch,
            )
        except UpweightError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                "The model and its loss cannot be differentiated sample by sample "
                f"(jax.vmap of jax.grad): {error}"
            ) from error

    def _derived(self, loss: Loss, free: Parameters) -> JaxObjective:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._compiled = CompiledProblem(Problem(self._problem.model, loss))
        other._free = free
        other._layers = None
        other._restricted = {}
        return other

    def _capacity(self) -> int:
        return capacity(self._sample_bytes or 1, self._device().platform)

    def _device(self) -> jax.Device:
        (device,) = self._any().devices()
        return device

    def _any(self) -> Array:
        return next(iter(self._free.values()))
