"""Gradients of samples by block: factored where a block is a layer, plain elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from upweight.checks import check_finite
from upweight.models._blocks import Blocks
from upweight.models._fisher import LayerFactors, layer_factors
from upweight.protocols import Objective, SupportsLayers
from upweight.trees import Batch

WHAT = "gradient of the loss or measurement"


class BlockGradients(NamedTuple):
    """Gradients of n samples.

    Attributes:
        factored: By block, inputs and output gradients of the layer it consists of.
        plain: The gradients in the other blocks, (n, p of the block).
        blocks: The other blocks, as a division of their parameters.
    """

    factored: dict[str, LayerFactors]
    plain: dict[str, Any]
    blocks: Blocks

    def piece(self, start: int, stop: int) -> BlockGradients:
        """Return those of the samples from `start` up to `stop`."""
        return BlockGradients(
            {
                name: layer._replace(
                    inputs=layer.inputs[start:stop, :, :],
                    gradients=layer.gradients[:, start:stop, :, :],
                )
                for name, layer in self.factored.items()
            },
            {name: rows[start:stop, :] for name, rows in self.plain.items()},
            self.blocks,
        )


def block_gradients(
    objective: Objective[Any], blocks: Blocks, layer_of: Mapping[str, str], batch: Batch[Any]
) -> BlockGradients:
    """Return the gradients of the samples of a batch by block.

    Arguments and errors are those of `layers_and_rest`.
    """
    factored, rest, others = layers_and_rest(objective, blocks, layer_of, batch)
    if rest is None:
        return BlockGradients(factored, {}, others)
    gradients = rest.gradients(batch)
    check_finite(gradients, what=WHAT)
    return BlockGradients(factored, others.split(gradients), others)


def layers_and_rest(
    objective: Objective[Any], blocks: Blocks, layer_of: Mapping[str, str], batch: Batch[Any]
) -> tuple[dict[str, LayerFactors], Objective[Any] | None, Blocks]:
    """Return the statistics of blocks that are layers, and what the other blocks need.

    Args:
        objective: The function of each sample.
        blocks: The division of its parameters.
        layer_of: Names of the layers that blocks consist of.
        batch: n samples.

    Returns:
        The statistics by block; the objective as a function of the other parameters, or None if
        there are none; and the division of these, or of all.

    Raises:
        NonFiniteError: a gradient is NaN or infinite.
    """
    known: Mapping[str, LayerFactors] = {}
    if isinstance(objective, SupportsLayers):
        known = layer_factors(objective.layers(batch))
    factored = {block: known[layer] for block, layer in layer_of.items() if layer in known}
    for factors in factored.values():
        check_finite(factors.inputs, what=WHAT)
        check_finite(factors.gradients, what=WHAT, axis=1)
    others = {
        name: block.parameters for name, block in blocks.by_name.items() if name not in factored
    }
    if not others:
        return factored, None, blocks
    rest = objective.restrict([name for names in others.values() for name in names])
    return factored, rest, Blocks(rest.parameters, others)
