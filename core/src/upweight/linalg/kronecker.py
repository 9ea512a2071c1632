r"""Eigendecomposition of Kronecker products, and solves in their eigenbasis.

The curvature of a layer with weights (o, i) is taken to be \(G \otimes A\), with G the second
moment of output gradients and A that of inputs (K-FAC), or to be diagonal in the eigenbasis
\(Q_G \otimes Q_A\) of that product, with eigenvalues of its own (EK-FAC).

References:
    Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature",
    ICML 2015, equation (1) and appendix B; George, Laurent, Bouthillier, Ballas and Vincent, "Fast
    Approximate Natural Gradient Descent in a Kronecker-factored Eigenbasis", NeurIPS 2018,
    section 3; Grosse and Martens, "A Kronecker-factored approximate Fisher matrix for convolution
    layers", ICML 2016, theorem 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace

from upweight.linalg.gram import Factored, inner_products, outer

Array = Any

#: Numbers in the rows that are solved at a time: what stays in the cache of a processor.
ROW_NUMBERS = 2**18

#: Numbers in the gradients of samples that are formed at a time.
GRADIENT_NUMBERS = 2**22


@dataclass(frozen=True)
class KroneckerEigen:
    r"""A symmetric matrix over weights (o, i) that is diagonal in a Kronecker eigenbasis.

    Attributes:
        outputs: \(Q_G\), eigenvectors as columns, (o, o).
        inputs: \(Q_A\), eigenvectors as columns, (i, i).
        eigenvalues: \(\Lambda \ge 0\), (o, i).
    """

    outputs: Array
    inputs: Array
    eigenvalues: Array

    @classmethod
    def of(cls, gradients: Array, inputs: Array) -> KroneckerEigen:
        r"""Decompose \(G \otimes A\).

        Args:
            gradients: G, symmetric and positive semidefinite, (o, o).
            inputs: A, likewise, (i, i).
        """
        xp = array_namespace(gradients, inputs)
        g_values, g_vectors = xp.linalg.eigh(gradients)
        a_values, a_vectors = xp.linalg.eigh(inputs)
        values = _not_negative(g_values)[:, None] * _not_negative(a_values)[None, :]
        return cls(g_vectors, a_vectors, values)

    def corrected(self, eigenvalues: Array) -> KroneckerEigen:
        """Return the matrix with other eigenvalues (o, i) in the same basis."""
        return replace(self, eigenvalues=eigenvalues)

    def solve(self, rows: Array, *, damping: float) -> Array:
        r"""Apply \((Q_G \otimes Q_A) (\Lambda + \lambda)^{-1} (Q_G \otimes Q_A)^\top\).

        Args:
            rows: Vectors in the form of the weights, (k, o, i).
            damping: \(\lambda\), in units of the eigenvalues.
        """
        xp = array_namespace(rows, self.eigenvalues)
        into = xp.matrix_transpose(self.outputs)
        step = self._at_once()
        return xp.concat(
            [
                self._back(into @ (rows[start : start + step, :, :] @ self.inputs), damping)
                for start in range(0, max(1, rows.shape[0]), step)
            ]
        )

    def solve_factored(self, inputs: Array, gradients: Array, *, damping: float) -> Array:
        r"""Apply the same inverse to \(\sum_t g_t a_t^\top\) of each sample, (n, o, i).

        Inputs and gradients are taken into the eigenbasis each by itself, which saves half of the
        work.

        Args:
            inputs: a, (n, t, i).
            gradients: g, (n, t, o).
            damping: \(\lambda\), in units of the eigenvalues.
        """
        xp = array_namespace(inputs, gradients)
        step = self._at_once()
        return xp.concat(
            [
                self._back(
                    self._projected(
                        inputs[start : start + step, :, :], gradients[start : start + step, :, :]
                    ),
                    damping,
                )
                for start in range(0, max(1, inputs.shape[0]), step)
            ]
        )

    def solve_inside(self, inputs: Array, gradients: Array, *, damping: float) -> Array:
        r"""Return the solution of `solve_factored` in the eigenbasis, (n, o, i)."""
        xp = array_namespace(inputs, gradients)
        step, damped = self._at_once(), self.eigenvalues + damping
        return xp.concat(
            [
                self._projected(
                    inputs[start : start + step, :, :], gradients[start : start + step, :, :]
                )
                / damped
                for start in range(0, max(1, inputs.shape[0]), step)
            ]
        )

    def products_inside(self, rows: Array, inputs: Array, gradients: Array) -> Array:
        r"""Return the inner products of rows with \(\sum_t g_t a_t^\top\), in the eigenbasis.

        Args:
            rows: Matrices in the eigenbasis, (k, o · i).
            inputs: a, (n, t, i).
            gradients: g, (d, n, t, o).

        Returns:
            (k, d · n).
        """
        projected = Factored(inputs @ self.inputs, gradients @ self.outputs)
        return inner_products(rows, projected)

    def self_products(self, inputs: Array, gradients: Array, *, damping: float) -> Array:
        r"""Return \(v^\top H^{-1} v\) for \(v = \sum_t g_t a_t^\top\) of each sample, (n,).

        The arguments are those of `solve_factored`.
        """
        xp = array_namespace(inputs, gradients)
        damped = self.eigenvalues + damping
        if inputs.shape[1] == 1:  # the square of a product is the product of squares
            a, g = inputs[:, 0, :] @ self.inputs, gradients[:, 0, :] @ self.outputs
            return xp.sum((g**2 @ (1 / damped)) * a**2, axis=1)
        step = self._at_once()
        pieces = []
        for start in range(0, inputs.shape[0], step):
            stop = start + step
            projected = self._projected(inputs[start:stop, :, :], gradients[start:stop, :, :])
            pieces.append(xp.sum(projected**2 / damped, axis=(1, 2)))
        return xp.concat(pieces)

    def _projected(self, inputs: Array, gradients: Array) -> Array:
        """Return the gradients of samples in the eigenbasis, (n, o, i)."""
        xp = array_namespace(inputs, gradients)
        o, i = self.eigenvalues.shape
        if inputs.shape[1] * (o**2 + i**2) < o * i * (o + i):
            a, g = inputs @ self.inputs, gradients @ self.outputs
            return outer(g, a)
        into = xp.matrix_transpose(self.outputs)
        return into @ (outer(gradients, inputs) @ self.inputs)

    def _back(self, projected: Array, damping: float) -> Array:
        """Divide by the damped eigenvalues, and leave the eigenbasis."""
        back = array_namespace(projected).matrix_transpose(self.inputs)
        return self.outputs @ ((projected / (self.eigenvalues + damping)) @ back)

    def _at_once(self) -> int:
        o, i = self.eigenvalues.shape
        return max(1, ROW_NUMBERS // int(o * i))


def second_moments(inputs: Array, gradients: Array) -> tuple[Array, Array]:
    r"""Return \(\sum a a^\top\) (i, i) and \(\sum g g^\top\) (o, o) over samples and positions.

    Args:
        inputs: a, (n, t, i).
        gradients: g, for d directions, (d, n, t, o).
    """
    xp = array_namespace(inputs, gradients)
    a = xp.reshape(inputs, (-1, inputs.shape[-1]))
    g = xp.reshape(gradients, (-1, gradients.shape[-1]))
    return xp.matrix_transpose(a) @ a, xp.matrix_transpose(g) @ g


def squared_projections(basis: KroneckerEigen, inputs: Array, gradients: Array) -> Array:
    r"""Return \(\sum_{d, n} (Q_G^\top (\sum_t g_t a_t^\top) Q_A)^2\), squared by element, (o, i).

    Args:
        basis: What to project on.
        inputs: a, (n, t, i).
        gradients: g, (d, n, t, o).
    """
    xp = array_namespace(inputs, gradients)
    a, g = inputs @ basis.inputs, gradients @ basis.outputs
    n, t, i = a.shape
    if t == 1:  # the square of a product is the product of squares
        squares = xp.sum(g[:, :, 0, :] ** 2, axis=0)
        return xp.matrix_transpose(squares) @ a[:, 0, :] ** 2
    total = xp.zeros_like(basis.eigenvalues)
    step = max(1, GRADIENT_NUMBERS // (i * g.shape[-1]))
    for direction in range(g.shape[0]):
        for start in range(0, n, step):
            part = g[direction, start : start + step, :, :]
            projected = xp.matrix_transpose(part) @ a[start : start + step, :, :]
            total = total + xp.sum(projected**2, axis=0)
    return total


def _not_negative(values: Array) -> Array:
    """Return the values without the negative ones that rounding makes of zero."""
    return array_namespace(values).where(values > 0, values, 0 * values)
