"""Curvatures of torch models as dense NumPy matrices, from plain autograd one output at a time."""

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten
from torch_oracles import samples


def curvature_vectors(model, loss, batch, *, directions=None):
    """Return the vectors whose mean outer product a sample is the curvature, (n, d, p).

    They are Jᵀu for the eigenvectors u of the Hessian of the loss in the output, in ascending order
    of eigenvalues, times the roots of these.
    """
    rows = []
    for one in samples(batch):
        output = _output(model, one[0])
        J = np.stack([_gradient(model, value) for value in _flat(output)])
        values, vectors = np.linalg.eigh(_hessian(loss, output, one[1]))
        roots = vectors * np.sqrt(np.clip(values, 0, None))
        rows.append(roots.T[-(directions or len(values)) :] @ J)
    return np.stack(rows)


def loss_gradients(model, loss, batch):
    """Return the gradient of the loss of each sample, (n, p)."""
    return np.stack(
        [_gradient(model, loss(_output(model, one[0]), one[1])) for one in samples(batch)]
    )


def influences(vectors, test, train, *, damping):
    """Return influences for the mean over n of products of vectors (n, d, p), (k, n)."""
    rows = vectors.reshape(-1, vectors.shape[-1])
    curvature = rows.T @ rows / len(vectors)
    return test @ np.linalg.solve(curvature + damping * np.eye(len(curvature)), train.T)


def _output(model, x):
    if isinstance(x, dict):
        return model(**tree_map(torch.clone, x))
    return model(*tree_map(torch.clone, x if isinstance(x, tuple) else (x,)))


def _flat(output):
    return torch.cat([leaf.reshape(-1) for leaf in tree_leaves(output)])


def _gradient(model, value):
    free = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(
        value, free, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return np.concatenate([part.numpy().ravel() for part in found])


def _hessian(loss, output, y):
    shapes = [leaf.shape for leaf in tree_leaves(output)]

    def of_flat(flat):
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        leaves = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        return loss(tree_unflatten(leaves, tree_structure(output)), y)

    return torch.autograd.functional.hessian(of_flat, _flat(output).detach()).numpy()
