"""Small JAX models of many kinds, each with the same network in NumPy and random data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from complex_step import SteppedNetwork
from flax import linen, nnx

from upweight_jax import JaxModel, JaxObjective, cross_entropy

CLASSES = 3


@dataclass(frozen=True)
class Case:
    """A model, the same in NumPy, what it eats, and the weights in layers with their biases."""

    name: str
    make: Callable[[], Any]
    forward: Callable[[Any, Any], Any]
    inputs: Callable[[np.random.Generator, int], Any]
    covered: dict[str, str | None]

    def __str__(self):
        return self.name

    def model(self, dtype="float64"):
        """Return the model with weights that are the same in every call."""
        return cast(self.make(), dtype)

    def objective(self, dtype="float64", loss=cross_entropy, **options):
        return JaxObjective(self.model(dtype), loss, **options)

    def network(self):
        """Return the oracle."""
        values = self.objective()._problem.model.values
        return SteppedNetwork(self.forward, {name: np.asarray(v) for name, v in values.items()})

    def batch(self, n, dtype="float64", seed=0):
        """Return a batch `(x, y)` of n samples, in NumPy."""
        rng = np.random.default_rng(seed)
        x = jax.tree.map(
            lambda leaf: leaf.astype(dtype) if leaf.dtype.kind == "f" else leaf, self.inputs(rng, n)
        )
        return x, rng.integers(0, CLASSES, n)


def cast(model, dtype):
    """Return a model of any kind with floating-point arrays of a type, no two of them equal."""
    if isinstance(model, nnx.Module):
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        typed = jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, rest)
        return nnx.merge(graph, cast(params, dtype), typed)
    if isinstance(model, JaxModel):
        return JaxModel(model.apply, cast(model.params, dtype))
    floating = [leaf for leaf in jax.tree.leaves(model) if eqx.is_inexact_array(leaf)]
    rng = np.random.default_rng(len(floating))

    def one(leaf):
        if not eqx.is_inexact_array(leaf):
            return leaf
        return jnp.asarray(0.5 + 0.4 * rng.standard_normal(leaf.shape), dtype)

    return jax.tree.map(one, model)


def normal(*shape):
    return lambda rng, n: rng.standard_normal((n, *shape))


def softmax(z):
    e = np.exp(z)
    return e / e.sum(-1, keepdims=True)


def patches(x, size, stride, before, after):
    """Return the patches of images (n, c, h, w) as rows, (n, h', w', c, size, size)."""
    padded = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))
    last = padded.shape[2] - size + 1
    rows = [
        [padded[:, :, a : a + size, b : b + size] for b in range(0, last, stride)]
        for a in range(0, last, stride)
    ]
    return np.stack([np.stack(row, 1) for row in rows], 1)


def mlp():
    return eqx.nn.MLP(4, CLASSES, 5, 2, activation=jnp.tanh, key=jax.random.key(0))


def mlp_forward(p, x):
    for layer in ("layers.0", "layers.1"):
        x = np.tanh(x @ p[f"{layer}.weight"].T + p[f"{layer}.bias"])
    return x @ p["layers.2.weight"].T + p["layers.2.bias"]


class Convolution(eqx.Module):
    conv: eqx.nn.Conv2d
    drop: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self):
        keys = jax.random.split(jax.random.key(0))
        self.conv = eqx.nn.Conv2d(1, 2, 3, stride=2, padding=1, key=keys[0])
        self.drop = eqx.nn.Dropout(0.5)
        self.head = eqx.nn.Linear(8, CLASSES, key=keys[1])

    def __call__(self, x):
        return self.head(self.drop(jnp.tanh(self.conv(x)).ravel()))


def convolution_forward(p, x):
    h = np.einsum("nabcij,ocij->noab", patches(x, 3, 2, 1, 1), p["conv.weight"])
    h = np.tanh(h + p["conv.bias"])
    return h.reshape(len(x), -1) @ p["head.weight"].T + p["head.bias"]


class Attention(nnx.Module):
    """Attention with heads between layers, with normalisations and dropout."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.attention = nnx.MultiHeadAttention(2, 4, 6, decode=False, dropout_rate=0.2, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(self.norm(self.attention(x)).mean(1))


def attention_forward(p, x):
    def projected(name):
        kernel, bias = p[f"attention.{name}.kernel"], p[f"attention.{name}.bias"]
        return np.einsum("nti,ihd->nthd", x, kernel) + bias

    query, key, value = map(projected, ("query", "key", "value"))
    weights = softmax(np.einsum("nqhd,nkhd->nhqk", query, key) / np.sqrt(3))
    h = np.einsum("nhqk,nkhd->nqhd", weights, value)
    h = np.einsum("nqhd,hdo->nqo", h, p["attention.out.kernel"]) + p["attention.out.bias"]
    mean, variance = STATISTICS
    h = (h - mean) / np.sqrt(variance + 1e-5) * p["norm.scale"] + p["norm.bias"]
    return h.mean(1) @ p["head.kernel"] + p["head.bias"]


class Strided(linen.Module):
    """A convolution of a sequence, and a layer that is used twice."""

    @linen.compact
    def __call__(self, x):
        h = linen.Conv(2, (3,), strides=2)(x)
        twice = linen.Dense(2)
        h = jnp.tanh(twice(jax.checkpoint(jnp.tanh)(twice(h))))
        return linen.Dense(CLASSES)(h.reshape(len(x), -1))


def strided():
    module = Strided()
    return module, module.init(jax.random.key(0), jnp.ones((1, 5, 2)))


def strided_forward(p, x):
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    windows = np.stack([padded[:, a : a + 3] for a in (0, 2, 4)], 1)  # (n, 3, 3, 2)
    h = np.einsum("ntwi,wio->nto", windows, p["Conv_0.kernel"]) + p["Conv_0.bias"]
    for _ in range(2):
        h = np.tanh(h @ p["Dense_0.kernel"] + p["Dense_0.bias"])
    return h.reshape(len(x), -1) @ p["Dense_1.kernel"] + p["Dense_1.bias"]


def tokens_and_mask(rng, n):
    lengths = rng.integers(1, 5, n)
    return {"tokens": rng.integers(0, 6, (n, 4)), "mask": np.arange(4) < lengths[:, None]}


def masked(params, tokens, mask):
    """An embedding, tied to a layer that comes later, and a mean over what the mask leaves."""
    h = params["embedding"][tokens]
    weights = mask.astype(h.dtype)[:, :, None]
    h = jnp.tanh((h * weights).sum(1) / weights.sum(1))
    return (h @ params["embedding"].T) @ params["head"]["w"]


def masked_forward(p, x):
    weights = x["mask"].astype(float)[:, :, None]
    h = np.tanh((p["embedding"][x["tokens"]] * weights).sum(1) / weights.sum(1))
    return h @ p["embedding"].T @ p["head.w"]


def recurrent(params, x):
    """A loop, whose weights are used as often as there are steps, and attention by einsum."""

    def step(h, x):
        h = jnp.tanh(x @ params["cell"]["w"] + h @ params["cell"]["u"])
        return h, h

    _, h = jax.lax.scan(step, jnp.zeros((len(x), 4), x.dtype), x.swapaxes(0, 1))
    query = jnp.einsum("tni,hij->nhtj", h, params["query"]["w"])
    scores = jax.nn.softmax(jnp.einsum("nhtj,snj->nhts", query, h), axis=-1)
    mixed = jnp.einsum("nhts,sni->nhti", scores, h).mean(2).reshape(len(x), 8)
    return jax.jit(lambda w, b, x: x @ w.T + b)(*params["head"], mixed)


def recurrent_forward(p, x):
    h, states = 0, []
    for t in range(x.shape[1]):
        first = x[:, t] @ p["cell.w"]
        h = np.tanh(first if t == 0 else first + h @ p["cell.u"])
        states.append(h)
    h = np.stack(states)
    query = np.einsum("tni,hij->nhtj", h, p["query.w"])
    scores = softmax(np.einsum("nhtj,snj->nhts", query, h))
    mixed = np.einsum("nhts,sni->nhti", scores, h).mean(2).reshape(len(x), 8)
    return mixed @ p["head.0"].T + p["head.1"]


def zeros(**shapes):
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


def embedded(params, tokens, features):
    h = jnp.concatenate([params["embedding"]["table"][tokens], features], axis=1)
    # The first weight is stored as (o, i) of several axes each, the bias is added after a reshape.
    h = jnp.einsum("ni,abi->nab", h, params["first"]["w"]).reshape(len(h), 6) + params["first"]["b"]
    return jnp.tanh(h) @ params["last"]["w"] + params["scale"]


def embedded_forward(p, x):
    tokens, features = x
    h = np.concatenate([p["embedding.table"][tokens], features], axis=1)
    h = np.einsum("ni,abi->nab", h, p["first.w"]).reshape(len(h), 6) + p["first.b"]
    return np.tanh(h) @ p["last.w"] + p["scale"]


#: Mean and variance that the normalisation has, which nobody trained.
STATISTICS = (np.zeros(4), np.ones(4))


def case(name):
    """Return the case of this name."""
    return next(case for case in ZOO if case.name == name)


MLP = Case(
    "equinox mlp",
    mlp,
    mlp_forward,
    normal(4),
    {f"layers.{i}.weight": f"layers.{i}.bias" for i in range(3)},
)
CONVOLUTION = Case(
    "equinox convolution",
    Convolution,
    convolution_forward,
    normal(1, 4, 4),
    {f"{name}.weight": f"{name}.bias" for name in ("conv", "head")},
)
ATTENTION = Case(
    "nnx attention",
    Attention,
    attention_forward,
    normal(3, 4),
    {
        f"attention.{name}.kernel": f"attention.{name}.bias"
        for name in ("query", "key", "value", "out")
    }
    | {"head.kernel": "head.bias"},
)
STRIDED = Case(
    "linen convolution",
    strided,
    strided_forward,
    normal(5, 2),
    {f"{name}.kernel": f"{name}.bias" for name in ("Conv_0", "Dense_0", "Dense_1")},
)
TOKENS = Case(
    "mapping of tokens and mask",
    lambda: JaxModel(masked, {"embedding": jnp.zeros((6, 4)), "head": zeros(w=(6, CLASSES))}),
    masked_forward,
    tokens_and_mask,
    {"head.w": None},
)
LOOP = Case(
    "loop and einsum",
    lambda: JaxModel(
        recurrent,
        {
            "cell": zeros(w=(2, 4), u=(4, 4)),
            "query": zeros(w=(2, 4, 4)),
            "head": [jnp.zeros((CLASSES, 8)), jnp.zeros(CLASSES)],
        },
    ),
    recurrent_forward,
    normal(3, 2),
    {"head.0": "head.1"},
)
PAIR = Case(
    "tuple of inputs",
    lambda: JaxModel(
        embedded,
        {
            "embedding": zeros(table=(6, 3)),
            "first": zeros(w=(2, 3, 5), b=6),
            "last": zeros(w=(6, CLASSES)),
            "scale": jnp.zeros(CLASSES),
        },
    ),
    embedded_forward,
    lambda rng, n: (rng.integers(0, 6, n), rng.standard_normal((n, 2))),
    {"first.w": "first.b", "last.w": "scale"},
)

#: Every kind of model.
ZOO = [MLP, CONVOLUTION, ATTENTION, STRIDED, TOKENS, LOOP, PAIR]
