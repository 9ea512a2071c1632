"""The tasks of a Dask calculator: one for each chunk of factors, one for each block of influences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upweight.calculators._blockwise import DaskTree, batch_builder, blocks
from upweight.calculators._chunks import advise, check_chunks, check_factor_chunks, merged_chunks
from upweight.calculators._factors import Factors
from upweight.checks import located
from upweight.influence import InfluenceMode
from upweight.protocols import NumpyConverter
from upweight.trees import leaves, perturbed_leaf

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Graphs:
    """Builds lazy results of a model.

    Attributes:
        model: What stands for the model in a graph: a key that all tasks refer to, or a future.
        converter: Turns chunks into arrays of the framework of the model, and results back.
        dtype: Of the results.
        max_memory: Bytes that the factors of a group of test chunks may take.
    """

    model: Any
    converter: NumpyConverter[Any]
    dtype: np.dtype[Any]
    max_memory: int

    def for_each_chunk(
        self,
        compute: Callable[..., Any],
        what: str,
        x: DaskTree,
        y: DaskTree,
        *,
        new_axes: dict[int, int],
    ) -> da.Array:
        """Return `compute(model, *chunk)` of each chunk of samples, (n, *new axes)."""
        check_chunks(x, y)
        converter, build = self.converter, batch_builder(self.converter, x, y)

        def computed(model: Any, index: tuple[int], *arrays: NDArray[Any]) -> NDArray[Any]:
            with located(f"chunk {index[0]} of the given or test data"):
                return converter.to_numpy(compute(model, *build(arrays)))

        return blocks(
            self.model,
            computed,
            what,
            (0, *new_axes),
            [],
            (x, y),
            new_axes=new_axes,
            dtype=self.dtype,
        )

    def influences(
        self, form: Factors, factors: da.Array, x: DaskTree, y: DaskTree, mode: InfluenceMode
    ) -> da.Array:
        """Return the influences of training samples on test samples with these factors.

        Warns:
            ChunkSizeWarning: chunks are far too small or far too large.
        """
        check_chunks(x, y)
        check_factor_chunks(factors, form.width)
        rows = self.max_memory // (form.width * self.dtype.itemsize)
        grouped = factors.rechunk({0: merged_chunks(factors.chunks[0], rows)})
        shape = perturbed_leaf(x).shape[1:] if mode is InfluenceMode.Perturbation else ()
        numbers = math.prod(shape) * self.dtype.itemsize
        advise(grouped.chunks[0], leaves(y)[0].chunks[0], numbers, x)
        converter, build = self.converter, batch_builder(self.converter, x, y)

        def influences(
            model: Any, index: tuple[int], rows: NDArray[Any], *arrays: NDArray[Any]
        ) -> NDArray[Any]:
            held = converter.from_numpy(rows)
            with located(f"chunk {index[0]} of the training data"):
                return converter.to_numpy(form.influences(model, held, *build(arrays), mode))

        input_axes = tuple(range(-2, -2 - len(shape), -1))
        return blocks(
            self.model,
            influences,
            f"influences-{mode.value}",
            (1, 0, *input_axes),
            [grouped, (1, -1)],
            (x, y),
            new_axes=dict(zip(input_axes, shape, strict=True)),
            dtype=self.dtype,
        )
