"""Batches: a pair `(x, y)`, each an array or a tuple or mapping of arrays with samples first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from array_api_compat import array_namespace

from upweight.errors import UnsupportedInfluenceModeError

A = TypeVar("A")
B = TypeVar("B")

Tree: TypeAlias = A | tuple[A, ...] | list[A] | Mapping[str, A]
Batch: TypeAlias = tuple[Tree[A], Tree[A]]


def leaves(tree: Tree[A]) -> tuple[A, ...]:
    """Return the arrays of a tree in order."""
    if isinstance(tree, Mapping):
        return tuple(tree.values())
    if isinstance(tree, tuple | list):
        return tuple(tree)
    return (tree,)


def map_leaves(function: Callable[[A], B], tree: Tree[A]) -> Tree[B]:
    """Apply a function to each array of a tree and keep its structure."""
    if isinstance(tree, Mapping):
        return {name: function(leaf) for name, leaf in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(function(leaf) for leaf in tree)
    return function(tree)


def rebuild(tree: Tree[A], new_leaves: tuple[B, ...]) -> Tree[B]:
    """Return a tree of the same structure as `tree` that holds `new_leaves`."""
    remaining = iter(new_leaves)
    return map_leaves(lambda _: next(remaining), tree)


def summed(left: Tree[Any], right: Tree[Any]) -> Tree[Any]:
    """Return the sum of two arrays, or of two mappings by their names."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        both = {name: left[name] + right[name] for name in left if name in right}
        return {**left, **right, **both}
    total: Any = left
    return total + right


def perturbed_leaf(x: Tree[A]) -> A:
    """Return the one floating-point array of the input, which perturbation influence perturbs.

    Raises:
        UnsupportedInfluenceModeError: there is no such array (token ids), or several.
    """
    floating = [
        leaf
        for leaf in leaves(x)
        if array_namespace(leaf).isdtype(leaf.dtype, "real floating")  # type: ignore[attr-defined]  # the array API has no static type
    ]
    if len(floating) == 1:
        return floating[0]
    if floating:
        raise UnsupportedInfluenceModeError(
            f"Perturbation influence needs one floating-point input; got {len(floating)}. "
            "Wrap the model so that the inputs that stay fixed do not go through x."
        )
    raise UnsupportedInfluenceModeError(
        "Perturbation influence is a derivative in the input, and no input is floating-point; got "
        f"{[str(leaf.dtype) for leaf in leaves(x)]}. "  # type: ignore[attr-defined]  # as above
        "Use mode='up', or a model that takes embeddings."
    )
