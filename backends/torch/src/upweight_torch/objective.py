"""The mean loss of a torch model, seen through its derivatives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.func import grad, vjp, vmap
from torch.utils._pytree import tree_map  # noqa: PLC2701  # the trees that torch.func maps over; they have no public name

from upweight.checks import batch_size
from upweight.errors import ModelError
from upweight.trees import Batch, map_leaves, perturbed_leaf
from upweight_torch.batches import (
    activation_bytes,
    check_loss,
    losses_of_samples,
    prepared_batch,
    sliced,
)
from upweight_torch.converter import TorchNumpyConverter
from upweight_torch.flat import Parameters, check_parameters, flatten, unflatten
from upweight_torch.functional import gradient_of
from upweight_torch.hessian import dense_hessian
from upweight_torch.kernels import twice_differentiable_kernels
from upweight_torch.linear import linear_parameters
from upweight_torch.samples import SampleGradients

Tensor = torch.Tensor
Loss = Callable[[Any, Any], Tensor]


class TorchObjective(SampleGradients):
    """The mean loss of a torch model at its present parameters.

    The model is copied, in evaluation mode: dropout is off and batch normalisation uses its
    running statistics. All derivatives but those of single samples come from one idea: the map
    from θ, x or sample weights to the gradient in θ is linearised once, and all rows are pulled
    back through it together.

    Args:
        model: The model; parameters that do not require gradients are constants. It is called as
            `model(x)`, `model(*x)` for a tuple and `model(**x)` for a mapping.
        loss: Called as `loss(output, y)`, the mean of the losses of the samples of a batch.

    Raises:
        TypeError: the model is no module, or the loss cannot be called.
        ModelError: the model cannot be copied, or its parameters have several types or devices.
    """

    def __init__(self, model: torch.nn.Module, loss: Loss) -> None:
        super().__init__(model, loss)
        check_parameters(self._free)

    @property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of each parameter, in the model's own order."""
        return {name: tuple(value.shape) for name, value in self._free.items()}

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy name of the floating-point type that all results have."""
        return np.dtype(str(self._any().dtype).removeprefix("torch."))

    @property
    def is_thread_safe(self) -> bool:
        """True: every thread works on its own copy of the module's structure."""
        return True

    def restrict(self, names: Sequence[str]) -> TorchObjective:
        """Return the same loss, seen as a function of the named parameters only.

        Raises:
            ValueError: a name is not one of the parameters, or there is none.
        """
        unknown = set(names) - set(self._free)
        if unknown or not names:
            raise ValueError(f"Name some of the parameters {list(self._free)}; got {list(names)}.")
        other = copy.copy(self)
        other._free = {name: value for name, value in self._free.items() if name in names}
        other._fixed = {
            **self._fixed,
            **{name: value for name, value in self._free.items() if name not in names},
        }
        other._layers = None
        return other

    def measuring(self, measurement: Loss) -> TorchObjective:
        """Return the same model with another function of output and label instead of the loss."""
        other = copy.copy(self)
        other._loss = measurement
        return other

    def zeros(self, k: int) -> Tensor:
        """Return k zero vectors over the parameters, on the device of the model, (k, p)."""
        return self._any().new_zeros((k, self._size()))

    def numpy_converter(self) -> TorchNumpyConverter:
        """Return the conversion between NumPy and tensors on the device of the model."""
        return TorchNumpyConverter(self._any().device)

    def parameter_values(self) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        """Yield name and value of every parameter and buffer of the model."""
        module = self._model.module
        converter = self.numpy_converter()
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            try:
                yield name, converter.to_numpy(value)
            except TypeError:  # a type that NumPy does not have, such as bfloat16
                yield name, converter.to_numpy(value.double())

    def available_memory(self) -> int | None:
        """Return the number of free bytes on the device of the model, None for main memory."""
        device = self._any().device
        return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None

    def suggested_batch_size(self, batch: Batch[Tensor]) -> int:
        """Return how many samples like these have activations that fit the working memory."""
        self._prepared(batch)
        return self._capacity()

    def losses(self, batch: Batch[Tensor]) -> Tensor:
        """Return the loss of each sample, (n,).

        Raises:
            LossError: the loss of the batch is not the mean of the losses of its samples.
        """
        x, y = self._prepared(batch)
        with torch.no_grad():
            output = self._model({**self._fixed, **self._free}, x)
            check_loss(self._loss, output, y, batch_size(x, y))
            return losses_of_samples(self._loss, output, y)

    def hessian_product(self, rows: Tensor, batch: Batch[Tensor]) -> Tensor:
        """Return the Hessian of the mean loss of the batch times each row, (k, p)."""
        return self.hessian_products(batch)(rows)

    def gauss_newton_product(self, rows: Tensor, batch: Batch[Tensor]) -> Tensor:
        """Return the Gauss-Newton matrix of the mean loss of the batch times each row, (k, p)."""
        return self.gauss_newton_products(batch)(rows)

    def hessian_products(self, batch: Batch[Tensor]) -> Callable[[Tensor], Tensor]:
        """Return `hessian_product` of the batch, whose gradient is linearised once."""
        x, y = self._prepared(batch)

        def mean_gradient(free: Parameters) -> Parameters:
            return gradient_of(lambda free: self._losses(free, x, y).mean(), free)

        pulled = self._linearised(mean_gradient, self._free, batch_size(x, y))
        return lambda rows: flatten(pulled(rows))

    def gauss_newton_products(self, batch: Batch[Tensor]) -> Callable[[Tensor], Tensor]:
        """Return `gauss_newton_product` of the batch, whose outputs are linearised once."""
        x, y = self._prepared(batch)

        def forward(free: Parameters) -> Any:
            return self._model({**self._fixed, **free}, x)

        def mean_loss(output: Any) -> Tensor:
            return losses_of_samples(self._loss, output, y).mean()

        with twice_differentiable_kernels():
            output, pull, *_ = vjp(forward, self._free)
            nothing = tree_map(torch.zeros_like, output)
            # Jᵀu is linear in u, so that pulling back through it is a product with J.
            _, push, *_ = vjp(pull, nothing)
            _, curve, *_ = vjp(grad(mean_loss), output)
        pulled = self._for_rows(lambda row: pull(*curve(*push((row,))))[0], batch_size(x, y))
        return lambda rows: flatten(pulled(rows))

    def hessian(self, batch: Batch[Tensor]) -> Tensor:
        """Return the Hessian of the mean loss of the batch, (p, p)."""
        x, y = self._prepared(batch)
        linear = linear_parameters(self._model, self._free)
        if linear is not None:
            values = {**self._fixed, **self._free}
            with twice_differentiable_kernels():
                hessian = dense_hessian(self._model, values, linear, self._loss, x, y)
            if hessian is not None and self._confirms(hessian, (x, y)):
                return hessian
        unit = torch.eye(self.zeros(0).shape[1], dtype=self._any().dtype, device=self._any().device)
        return self.hessian_product(unit, batch)

    def _confirms(self, hessian: Tensor, batch: Batch[Tensor]) -> bool:
        """Return whether a matrix maps a random vector to where the Hessian maps it.

        It does not if a weight has another use besides its layer, which neither modules nor, where
        the gradient of that use vanishes, gradients tell.
        """
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn((1, len(hessian)), generator=generator, dtype=hessian.dtype)
        probe = probe.to(hessian.device)
        expected = self.hessian_product(probe, batch)
        error = torch.linalg.vector_norm(probe @ hessian - expected)
        precision = torch.finfo(hessian.dtype).eps ** 0.5
        return bool(error <= precision * torch.linalg.vector_norm(expected))

    def input_gradients(self, rows: Tensor, batch: Batch[Tensor]) -> Tensor:
        """Return ∇x ⟨row, ∇θ loss⟩ for each pair, (k, n, *x).

        Raises:
            UnsupportedInfluenceModeError: not exactly one input is floating-point.
        """
        x, y = self._prepared(batch)
        varied = perturbed_leaf(x)

        def gradient_at(value: Tensor) -> Parameters:
            moved = map_leaves(lambda leaf: value if leaf is varied else leaf, x)
            return gradient_of(lambda free: self._losses(free, moved, y).sum(), self._free)

        mixed: Tensor = self._linearised(gradient_at, varied, batch_size(x, y))(rows)
        return mixed

    def _linearised(
        self, gradient_at: Callable[[Any], Parameters], point: Any, n: int
    ) -> Callable[[Tensor], Any]:
        """Linearise a map to gradients once; return what pulls each row back through it."""
        with twice_differentiable_kernels():
            _, pull, *_ = vjp(gradient_at, point)
        return self._for_rows(lambda row: pull(row)[0], n)

    def _for_rows(self, function: Callable[[Parameters], Any], n: int) -> Callable[[Tensor], Any]:
        """Map a function that handles n samples over rows, as many at once as memory allows."""
        mapped = vmap(function, chunk_size=max(1, self._capacity() // n))

        def for_rows(rows: Tensor) -> Any:
            with twice_differentiable_kernels():
                return mapped(unflatten(rows.detach(), self._free))

        return for_rows

    def _prepared(self, batch: Batch[Tensor]) -> Batch[Tensor]:
        """Check a batch and bring it to the device; the first one is also tried out."""
        x, y = prepared_batch(batch, self._any())
        if self._sample_bytes is None:
            # Copies: a model that writes to its input is found out, and must not have written.
            few = tree_map(torch.clone, (sliced(x, 0, 4), sliced(y, 0, 4)))
            free = {name: value.clone().requires_grad_() for name, value in self._free.items()}
            total = activation_bytes(
                lambda: self._model({**self._fixed, **free}, few[0]), [*free.values()]
            )
            self._try_out(few)
            self._sample_bytes = max(1, total // batch_size(*few))
        return x, y

    def _try_out(self, batch: Batch[Tensor]) -> None:
        try:
            self._materialised(*batch)
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                "The model and its loss cannot be differentiated sample by sample "
                f"(torch.func.vmap of torch.func.grad): {error}"
            ) from error
