"""A torch module as a pure function of its parameters and inputs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch.func import functional_call, grad
from torch.nn.utils.parametrize import is_parametrized

from upweight.errors import ModelError
from upweight.trees import Tree
from upweight_torch.flat import Parameters
from upweight_torch.recurrent import start_from_given_states


class FunctionalModel:
    """A snapshot of a module in evaluation mode, callable from several threads at once.

    The module itself is copied and never touched again: neither its mode and flags nor its
    gradients change, and training it further does not change the snapshot.

    Args:
        module: The model. Parameters that do not require gradients count as constants.

    Raises:
        TypeError: this is no module.
        ModelError: the module cannot be copied.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"The model must be a torch.nn.Module; got {type(module).__name__!r}.")
        trainable = [name for name, p in module.named_parameters() if p.requires_grad]
        try:
            with torch.inference_mode(False):  # what is copied in it could not be differentiated
                self.module = copy.deepcopy(module).eval().requires_grad_(False)
        except RuntimeError as error:
            raise ModelError(
                f"The model cannot be copied: {error}. Tensors that are kept on the module must be "
                "parameters, buffers or detached."
            ) from error
        start_from_given_states(self.module)
        parameters = dict(self.module.named_parameters())
        self.trainable: Parameters = {name: parameters[name].detach() for name in trainable}
        self._local = threading.local()

    def __call__(self, parameters: Parameters, x: Tree[torch.Tensor]) -> Any:
        """Return the output of the model, called as `model(x)`, `model(*x)` or `model(**x)`."""
        skeleton, values = self._skeleton(), dict(parameters)
        if isinstance(x, Mapping):
            return functional_call(skeleton, values, (), dict(x))
        return functional_call(skeleton, values, tuple(x) if isinstance(x, tuple | list) else (x,))

    def with_outputs_through(
        self,
        visit: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
        parameters: Parameters,
        x: Tree[torch.Tensor],
    ) -> Any:
        """Return the output of the model while outputs of submodules are replaced.

        Args:
            visit: For each submodule a function of its first input and its output.
            parameters: The parameters.
            x: The input of the model.
        """
        skeleton = self._skeleton()
        with ExitStack() as hooks:
            for name, function in visit.items():
                layer = skeleton.get_submodule(name)
                handle = layer.register_forward_hook(_hook(function), with_kwargs=True)
                hooks.callback(handle.remove)
            return self(parameters, x)

    def _skeleton(self) -> torch.nn.Module:
        """Return this thread's own module over the shared tensors.

        A functional call swaps the parameters of a module for its duration, which other threads
        must not see.
        """
        if not hasattr(self._local, "skeleton"):
            shared = {id(t): t for t in [*self.module.parameters(), *self.module.buffers()]}
            self._local.skeleton = copy.deepcopy(self.module, shared)
        skeleton: torch.nn.Module = self._local.skeleton
        return skeleton

    def __deepcopy__(self, memo: dict[int, Any]) -> FunctionalModel:
        return self  # a snapshot does not change

    def __getstate__(self) -> dict[str, Any]:
        parametrised = [
            name for name, layer in self.module.named_modules() if is_parametrized(layer)
        ]
        if parametrised:
            raise ModelError(
                f"torch cannot pickle the parametrised modules {parametrised}, so the model cannot "
                "be sent to other processes or saved. Use threads, or remove the parametrisation "
                "(torch.nn.utils.parametrize.remove_parametrizations)."
            )
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()


def _hook(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    def hook(
        _: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor
    ) -> torch.Tensor:
        (entering,) = (*args, *kwargs.values())
        return function(entering, output)

    return hook


def gradient_of(loss: Callable[[Parameters], torch.Tensor], at: Parameters) -> Parameters:
    """Return the gradient of a scalar function of parameters."""
    gradient: Parameters = grad(loss)(at)
    return gradient
