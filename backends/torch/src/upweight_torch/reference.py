"""The reference problem of the conformance kit, rebuilt in torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray


def reference(
    weights: Mapping[str, NDArray[Any]],
) -> tuple[torch.nn.Module, Any, tuple[str, ...]]:
    """Return the network with these weights, its loss, and the order of its parameters."""
    with torch.device("meta"):  # nothing is drawn for weights that are replaced
        network = torch.nn.Sequential(
            OrderedDict(
                hidden=torch.nn.Linear(4, 5), tanh=torch.nn.Tanh(), head=torch.nn.Linear(5, 3)
            )
        )
    values = {name: torch.tensor(value) for name, value in weights.items()}
    network.load_state_dict(values, assign=True)
    return network, torch.nn.functional.cross_entropy, tuple(dict(network.named_parameters()))
