r"""Inner products of matrices \(\sum_t g_t a_t^\top\), taken from their factors.

Such is the gradient of a sample in the weight (o, i) of a layer. The inner product of two of them is
\(\sum_{s, t} (a_s \cdot a'_t)(g_s \cdot g'_t)\): with one position t a matrix, i + o operations
instead of i·o, and the matrices are never formed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

Array = Any

#: Rows up to which they map a side of factored matrices with one position.
FEW = 16

#: Numbers in a temporary array: what stays in the cache of a processor.
NUMBERS = 2**22


@dataclass(frozen=True)
class Factored:
    r"""d·n matrices (o, i), the d of a sample with the same inputs, ordered by d and then by n.

    Attributes:
        inputs: a at each of t positions, (n, t, i).
        gradients: g, (d, n, t, o).
    """

    inputs: Array
    gradients: Array

    def __len__(self) -> int:
        return int(self.gradients.shape[0] * self.gradients.shape[1])

    def samples(self, start: int, stop: int) -> Factored:
        """Return the matrices of the samples from `start` up to `stop`, if there are as many."""
        stop = min(stop, self.inputs.shape[0])
        return Factored(self.inputs[start:stop, ...], self.gradients[:, start:stop, ...])

    def take(self, indices: Array) -> Factored:
        """Return some of the matrices, (m,), each with inputs of its own."""
        xp = array_namespace(self.inputs)
        flat = xp.reshape(self.gradients, (1, len(self), *self.gradients.shape[2:]))
        inputs = xp.take(self.inputs, indices % self.inputs.shape[0], axis=0)
        return Factored(inputs, xp.take(flat, indices, axis=1))

    def padded(self, positions: int) -> Factored:
        """Return the same matrices with zeros at further positions, up to this number of them."""
        xp = array_namespace(self.inputs)
        missing = positions - self.inputs.shape[1]
        if missing <= 0:
            return self
        inputs = xp.zeros_like(self.inputs[:, :1, :])
        gradients = xp.zeros_like(self.gradients[:, :, :1, :])
        return Factored(
            xp.concat([self.inputs, *[inputs] * missing], axis=1),
            xp.concat([self.gradients, *[gradients] * missing], axis=2),
        )


def joined(parts: Sequence[Factored]) -> Factored:
    """Return the matrices of all parts, with zeros at positions that only others have."""
    if len(parts) == 1:
        return parts[0]
    positions = max(part.inputs.shape[1] for part in parts)
    even = [part.padded(positions) for part in parts]
    xp = array_namespace(parts[0].inputs)
    return Factored(
        xp.concat([part.inputs for part in even]),
        xp.concat([part.gradients for part in even], axis=1),
    )


def gram(lefts: Sequence[Factored], rights: Sequence[Factored]) -> Array:
    """Return the inner products of all pairs, summed over the layers, (d·n, d'·n').

    Args:
        lefts: One item for each layer.
        rights: The same layers, for other samples.
    """
    xp = array_namespace(lefts[0].inputs)
    d, n = lefts[0].gradients.shape[:2]
    numbers = max(
        d * left.inputs.shape[1] * len(right) * right.inputs.shape[1]
        for left, right in zip(lefts, rights, strict=True)
    )
    step = max(1, NUMBERS // max(1, numbers))
    pieces = []
    for start in range(0, max(1, n), step):
        some = [left.samples(start, start + step) for left in lefts]
        total = _pairs(some[0], rights[0])
        for left, right in zip(some[1:], rights[1:], strict=True):
            total += _pairs(left, right)
        pieces.append(total)
    whole = xp.concat(pieces, axis=1) if len(pieces) > 1 else pieces[0]
    return xp.reshape(whole, (d * n, len(rights[0])))


def paired(left: Factored, right: Factored) -> Array:
    """Return the inner product of each matrix with the one in its place, (n,), for d = 1."""
    xp = array_namespace(left.inputs)
    inputs = left.inputs @ xp.matrix_transpose(right.inputs)  # (n, t, t')
    gradients = left.gradients[0, ...] @ xp.matrix_transpose(right.gradients[0, ...])
    return xp.sum(inputs * gradients, axis=(1, 2))


def squared_norms(parts: Sequence[Factored]) -> Array:
    """Return the squared norm of each vector over all layers, (d, n)."""
    xp = array_namespace(parts[0].inputs)
    total = 0
    for part in parts:
        inputs = part.inputs @ xp.matrix_transpose(part.inputs)  # (n, t, t)
        gradients = part.gradients @ xp.matrix_transpose(part.gradients)  # (d, n, t, t)
        total = total + xp.sum(inputs[None, ...] * gradients, axis=(2, 3))
    return total


def inner_products(rows: Array, part: Factored) -> Array:
    """Return the inner products of matrices as rows (k, o·i) with factored ones, (k, d·n).

    Where there are many rows, the factored matrices are formed, a few at a time; otherwise the rows
    map one of their sides.
    """
    many = FEW if part.inputs.shape[1] == 1 else 1
    return (_formed_products if rows.shape[0] > many else _mapped_products)(rows, part)


def _formed_products(rows: Array, part: Factored) -> Array:
    xp = array_namespace(rows)
    d, n, _, o = part.gradients.shape
    i = part.inputs.shape[2]
    pieces = []
    samples = min(n, max(1, NUMBERS // i)) or 1
    outputs = min(o, max(1, NUMBERS // (samples * i)))
    for direction in range(d):
        for start in range(0, max(1, n), samples):
            few = part.samples(start, start + samples)
            a, g = few.inputs, few.gradients[direction, ...]
            total: Any = 0
            for low in range(0, o, outputs):
                high = min(o, low + outputs)
                formed = outer(g[:, :, low:high], a)
                formed = xp.reshape(formed, (a.shape[0], (high - low) * i))
                theirs = rows if high - low == o else rows[:, low * i : high * i]
                # A transpose is a view for some, and a copy for others.
                total = total + xp.tensordot(theirs, formed, axes=((1,), (1,)))
            pieces.append(total)
    return xp.concat(pieces, axis=1)


def outer(gradients: Array, inputs: Array) -> Array:
    """Return the sum over positions of the products of g and a, (n, o, i)."""
    if inputs.shape[1] == 1:
        return gradients[:, 0, :, None] * inputs[:, 0, None, :]
    return array_namespace(gradients).matrix_transpose(gradients) @ inputs


def _mapped_products(rows: Array, part: Factored) -> Array:
    xp = array_namespace(rows)
    d, n, t, o = part.gradients.shape
    k, i = rows.shape[0], part.inputs.shape[2]
    columns = xp.matrix_transpose(xp.reshape(rows, (k * o, i)))
    pieces = []
    for few in _in_steps(part, t * k * o):
        moved = xp.reshape(few.inputs @ columns, (1, -1, t, k, o))
        pieces.append(xp.sum(moved * few.gradients[:, :, :, None, :], axis=(2, 4)))  # (d, n, k)
    whole = xp.reshape(xp.concat(pieces, axis=1), (d * n, k))
    return xp.matrix_transpose(whole)


def combinations(weights: Array, part: Factored) -> Array:
    """Return sums of factored matrices with weights (k, d·n), as rows (k, o·i)."""
    xp = array_namespace(weights)
    d, n, t, o = part.gradients.shape
    inputs = xp.reshape(part.inputs, (n * t, -1))
    step = max(1, NUMBERS // max(1, n * t * o))
    pieces = []
    for start in range(0, max(1, weights.shape[0]), step):
        k = min(step, weights.shape[0] - start)
        few = xp.reshape(weights[start : start + k, :], (k, d, n, 1, 1))
        mixed = xp.reshape(xp.sum(few * part.gradients[None, ...], axis=1), (k, n * t, o))
        pieces.append(xp.reshape(xp.matrix_transpose(mixed) @ inputs, (k, -1)))
    return xp.concat(pieces)


def _pairs(left: Factored, right: Factored) -> Array:
    """Return the inner products, (d, n, d'·n')."""
    xp = array_namespace(left.inputs)
    d, n, t = left.gradients.shape[:3]
    e, m, s = right.gradients.shape[:3]
    inputs = _flat(left.inputs) @ xp.matrix_transpose(_flat(right.inputs))
    gradients = _flat(left.gradients) @ xp.matrix_transpose(_flat(right.gradients))
    if t == s == 1:
        shaped = xp.reshape(gradients, (d, n, e, m))
        return xp.reshape(shaped * xp.reshape(inputs, (1, n, 1, m)), (d, n, e * m))
    shaped = xp.reshape(gradients, (d, n, t, e, m, s))
    products = shaped * xp.reshape(inputs, (1, n, t, 1, m, s))
    return xp.reshape(xp.sum(products, axis=(2, 5)), (d, n, e * m))


def _flat(array: Array) -> Array:
    return array_namespace(array).reshape(array, (-1, array.shape[-1]))


def _in_steps(part: Factored, numbers: int) -> Iterator[Factored]:
    """Yield the samples, few enough at a time for a temporary array of `numbers` for each."""
    step = max(1, NUMBERS // max(1, numbers))
    for start in range(0, max(1, part.inputs.shape[0]), step):
        yield part.samples(start, start + step)
