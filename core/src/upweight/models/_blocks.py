"""Parameters in blocks, each with a curvature of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from upweight.influence import BlockMode

#: Name of the block of the parameters that belong to the model itself and to no layer.
ROOT = "root"


@dataclass(frozen=True)
class Block:
    """Some parameters of a model.

    Attributes:
        parameters: Their names, in the model's own order.
        columns: Their places in the vector of all parameters, (p of the block,).
    """

    parameters: tuple[str, ...]
    columns: np.ndarray[Any, np.dtype[np.int64]]


class Blocks:
    """A division of the vector of p parameters into named blocks.

    Args:
        shapes: Name and shape of each parameter, in the model's own order.
        structure: One block, one a layer, one a parameter, or the names of the parameters of each
            block. Parameters that a mapping leaves out are constants.

    Raises:
        ValueError: the mapping names an unknown parameter, one twice, or none in a block.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        structure: BlockMode | str | Mapping[str, Sequence[str]],
    ) -> None:
        named = _named_blocks(shapes, structure)
        covered = {name for names in named.values() for name in names}
        self.parameters = tuple(name for name in shapes if name in covered)
        place = parameter_places({name: shapes[name] for name in self.parameters})
        self.by_name: dict[str, Block] = {}
        for block, names in named.items():
            ordered = tuple(name for name in self.parameters if name in names)
            self.by_name[block] = Block(ordered, np.concatenate([place[name] for name in ordered]))
        columns = np.concatenate([block.columns for block in self.by_name.values()])
        in_order = bool(np.all(columns[:-1] < columns[1:]))  # as blocks of layers usually are
        self._order = None if in_order else np.argsort(columns)

    def split(self, rows: Any) -> dict[str, Any]:
        """Return the columns of each block, (k, p of the block) by name."""
        if len(self.by_name) == 1:
            return dict.fromkeys(self.by_name, rows)
        return {name: take_columns(rows, block.columns) for name, block in self.by_name.items()}

    def join(self, rows: Mapping[str, Any]) -> Any:
        """Return the columns of all blocks in the order of the parameters, (k, p)."""
        if len(self.by_name) == 1:
            (only,) = rows.values()
            return only
        pieces = [rows[name] for name in self.by_name]
        joined = array_namespace(*pieces).concat(pieces, axis=1)
        return joined if self._order is None else take_columns(joined, self._order)

    def isolate(self, rows: Any) -> Any:
        """Return, for each block in turn, the rows with all other columns zero, (blocks · k, p)."""
        xp = array_namespace(rows)
        masks = []
        for block in self.by_name.values():
            mask = np.zeros((1, rows.shape[1]), dtype=bool)
            mask[:, block.columns] = True
            masks.append(xp.asarray(mask, device=device(rows)))
        return xp.concat([xp.where(mask, rows, xp.zeros_like(rows)) for mask in masks])


def parameter_places(
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return where each parameter stands in the vector of all of them, by name."""
    ends = np.cumsum([0, *map(math.prod, shapes.values())])
    return {
        name: np.arange(start, end)
        for name, start, end in zip(shapes, ends[:-1], ends[1:], strict=True)
    }


def take_columns(rows: Any, columns: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
    """Return some columns of rows, (k, number of columns)."""
    xp = array_namespace(rows)
    return xp.take(rows, xp.asarray(columns, device=device(rows)), axis=1)


def _named_blocks(
    shapes: Mapping[str, tuple[int, ...]],
    structure: BlockMode | str | Mapping[str, Sequence[str]],
) -> dict[str, list[str]]:
    if isinstance(structure, Mapping):
        named = {block: list(names) for block, names in structure.items()}
        _check_names(named, shapes)
        return named
    mode = BlockMode(structure)
    if mode is BlockMode.FULL:
        return {"full": list(shapes)}
    if mode is BlockMode.PARAMETER_WISE:
        return {name: [name] for name in shapes}
    layers: dict[str, list[str]] = {}
    for name in shapes:
        layers.setdefault(name.rpartition(".")[0] or ROOT, []).append(name)
    return layers


def _check_names(named: Mapping[str, list[str]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    listed = [name for names in named.values() for name in names]
    unknown = sorted({name for name in listed if name not in shapes})
    twice = sorted({name for name in listed if listed.count(name) > 1})
    empty = [block for block, names in named.items() if not names]
    if not named or unknown or twice or empty:
        raise ValueError(
            "`block_structure` must give each block at least one parameter of its own; got "
            f"unknown parameters {unknown}, parameters in several places {twice} and empty blocks "
            f"{empty}. The trainable parameters are {list(shapes)}."
        )
