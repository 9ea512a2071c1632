"""What stands for test samples while their influences are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from upweight.influence import InfluenceFunctionModel, InfluenceMode
from upweight.protocols import SupportsPairFactors


@dataclass(frozen=True)
class Factors:
    """Influence factors, or the pair factors of a model.

    Attributes:
        width: Numbers for each test sample.
        of_pairs: Whether they are pair factors, which serve the mode "up" only.
    """

    width: int
    of_pairs: bool = False

    @classmethod
    def of(cls, model: InfluenceFunctionModel[Any]) -> Factors:
        """Return influence factors."""
        return cls(model.n_parameters)

    @classmethod
    def cheapest(cls, model: InfluenceFunctionModel[Any], mode: InfluenceMode) -> Factors:
        """Return pair factors if the model has them, they are no larger and the mode allows it."""
        if mode is InfluenceMode.Up and isinstance(model, SupportsPairFactors):
            width = model.pair_width
            if width <= model.n_parameters:
                return cls(width, of_pairs=True)
        return cls.of(model)

    def solve(self, model: Any, x: Any, y: Any) -> Any:
        """Return the factors of test samples, (n, width)."""
        return model.pair_factors(x, y) if self.of_pairs else model.influence_factors(x, y)

    def influences(self, model: Any, factors: Any, x: Any, y: Any, mode: InfluenceMode) -> Any:
        """Return the influences of training samples on test samples with these factors."""
        if self.of_pairs:
            return model.influences_from_pair_factors(factors, x, y)
        return model.influences_from_factors(factors, x, y, mode)
