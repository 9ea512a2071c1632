"""Small torch models of many kinds, each with a loss and random data."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization

CLASSES = 3


@dataclass(frozen=True)
class Case:
    """A model, what it eats, and its loss."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[np.random.Generator, int], Any]
    labels: Callable[[np.random.Generator, int], Any] = lambda rng, n: rng.integers(0, CLASSES, n)
    loss: Callable[[Any, Any], torch.Tensor] = functional.cross_entropy

    def __str__(self):
        return self.name

    def model(self, dtype=torch.float64, seed=0):
        """Return the model with weights, and running statistics, that depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.make().to(dtype)
            for name, buffer in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer.uniform_(0.5, 1.5)
        return model.eval()

    def batch(self, n, dtype=torch.float64, seed=0):
        """Return a batch `(x, y)` of n samples."""
        rng = np.random.default_rng(seed)
        return tensors(self.inputs(rng, n), dtype), tensors(self.labels(rng, n), dtype)


def tensors(tree, dtype):
    """Turn the arrays of a tree into tensors, floating-point ones of the given type."""
    if isinstance(tree, dict):
        return {name: tensors(leaf, dtype) for name, leaf in tree.items()}
    if isinstance(tree, tuple):
        return tuple(tensors(leaf, dtype) for leaf in tree)
    tensor = torch.as_tensor(tree)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def normal(*shape):
    return lambda rng, n: rng.standard_normal((n, *shape))


def tokens_and_mask(rng, n):
    lengths = rng.integers(1, 5, n)
    return {"tokens": rng.integers(0, 6, (n, 4)), "mask": np.arange(4) < lengths[:, None]}


def tokens_and_features(rng, n):
    return rng.integers(0, 6, n), rng.standard_normal((n, 2))


class SelfAttention(nn.Module):
    """Attention over positions, then their mean."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.2, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        attended, _ = self.attention(x, x, x, need_weights=False)
        return self.head(attended.mean(1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            4, 2, 3, batch_first=True, activation=functional.gelu
        )
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


class AttentionBetweenLinears(nn.Module):
    """Linear layers with one position a sample, and attention among parts of their outputs."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 12), nn.Linear(4, CLASSES)

    def forward(self, x):
        query, key, value = self.first(x).reshape(-1, 3, 1, 2, 2).unbind(1)
        return self.head(functional.scaled_dot_product_attention(query, key, value).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.layer = kind(2, 3, batch_first=True, **options)
        self.head = nn.LazyLinear(CLASSES)
        self(torch.zeros(1, 1, 2))

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class MaskedTokens(nn.Module):
    """Called with a mapping: attention over the tokens that the mask leaves, then their mean."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(6, 4), nn.Linear(4, CLASSES)

    def forward(self, tokens, mask):
        e = self.embedding(tokens)
        attended = functional.scaled_dot_product_attention(e, e, e, attn_mask=mask[:, None, :])
        weights = mask.to(e.dtype)[..., None]
        return self.head((attended * weights).sum(1) / weights.sum(1))


class TokensAndFeatures(nn.Module):
    """Called with two inputs."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(6, 3), nn.Linear(5, CLASSES)

    def forward(self, tokens, features):
        return self.head(torch.cat([self.embedding(tokens), features], 1).tanh())


class Tied(nn.Module):
    """Two layers that share their weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).tanh())


class UsedTwice(nn.Module):
    """One layer, called twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(self.layer(x).tanh())


class UsedBesides(nn.Module):
    """A weight that is used by its layer and again without it."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(3, 3), nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.head(self.layer(x).tanh()) + functional.linear(x, self.layer.weight)


class Backwards(nn.Module):
    """Layers that are registered in another order than they are used in."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(4, CLASSES), nn.Linear(3, 4)

    def forward(self, x):
        return self.last(self.first(x).tanh())


class Parameterised(nn.Module):
    """Parameters on the root module itself."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(3))
        self.layer = nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.layer((x * self.scale).sin())


class TwoHeads(nn.Module):
    """Two outputs, of different shapes."""

    def __init__(self):
        super().__init__()
        self.classes, self.value = nn.Linear(3, CLASSES), nn.Linear(3, 1)

    def forward(self, x):
        return {"classes": self.classes(x), "value": self.value(x.tanh())[:, 0]}


def loss_of_two_heads(output, y):
    classes, value = y
    return functional.cross_entropy(output["classes"], classes) + functional.mse_loss(
        output["value"], value
    )


def partly_frozen():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    model[0].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    return model


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight @ weight.T


def symmetric_layer():
    return register_parametrization(nn.Linear(3, CLASSES), "weight", Symmetric())


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(18, CLASSES),
    )


def network(*widths, activation=nn.Tanh):
    layers = [part for i, o in pairwise(widths) for part in (nn.Linear(i, o), activation())]
    return nn.Sequential(*layers[:-1])


LINEAR = Case("linear", lambda: nn.Linear(4, CLASSES), normal(4))
MLP = Case("mlp", lambda: network(4, 5, 4, CLASSES), normal(4))
CONVOLUTION = Case("convolution", convolutional, normal(1, 5, 5))
ATTENTION = Case("attention", SelfAttention, normal(3, 4))
TOKENS = Case("dict of tokens and mask", MaskedTokens, tokens_and_mask)

#: One model of each kind that matters for influences as a whole.
MAIN = [LINEAR, CONVOLUTION, ATTENTION, TOKENS]

#: Every kind of model.
ZOO = [
    *MAIN,
    MLP,
    Case("encoder layer", Encoder, normal(2, 4)),
    Case("attention between linears", AttentionBetweenLinears, normal(3)),
    Case("lstm", Recurrent, normal(3, 2)),
    Case("gru", lambda: Recurrent(nn.GRU, bidirectional=True), normal(3, 2)),
    Case("two layers of lstm", lambda: Recurrent(num_layers=2), normal(2, 2)),
    Case("tuple of inputs", TokensAndFeatures, tokens_and_features),
    Case("tied weights", Tied, normal(3)),
    Case("layer used twice", UsedTwice, normal(3)),
    Case("weight used besides", UsedBesides, normal(3)),
    Case("layers in another order", Backwards, normal(3)),
    Case("partly frozen", partly_frozen, normal(4)),
    Case("parameters on the root", Parameterised, normal(3)),
    Case(
        "two heads",
        TwoHeads,
        normal(3),
        lambda rng, n: (rng.integers(0, CLASSES, n), rng.standard_normal(n)),
        loss_of_two_heads,
    ),
    Case("regression", lambda: network(3, 4, 2), normal(3), normal(2), functional.mse_loss),
    Case("in-place", lambda: network(3, 8, 3, activation=lambda: nn.ELU(inplace=True)), normal(3)),
    Case(
        "parametrised",
        symmetric_layer,
        normal(3),
    ),
]


def case(name):
    """Return the case of this name."""
    return next(case for case in ZOO if case.name == name)
