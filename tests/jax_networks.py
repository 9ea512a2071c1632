"""Small networks in JAX, Equinox and Flax, each next to the same in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

CLASSES = 3

#: Mean and variance that the normalisation has, which nobody trained.
STATISTICS = (np.zeros(4), np.ones(4))


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
    head = jax.jit(jax.checkpoint(lambda w, b, x: x @ w.T + b))
    return head(*params["head"], mixed)


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
