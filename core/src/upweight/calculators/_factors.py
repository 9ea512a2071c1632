"""What stands for test samples while their influences are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from upweight.influence import InfluenceFunctionModel, InfluenceMode
from upweight.protocols import SupportsCompactFactors


@dataclass(frozen=True)
class Factors:
    """Influence factors, or the compact ones of a model.

    Attributes:
        width: Numbers for each test sample.
        compact: Whether factors are compact, which serves the mode "up" only.
    """

    width: int
    compact: bool = False

    @classmethod
    def of(cls, model: InfluenceFunctionModel[Any]) -> Factors:
        """Return influence factors."""
        return cls(model.n_parameters)

    @classmethod
    def smallest(cls, model: InfluenceFunctionModel[Any], mode: InfluenceMode) -> Factors:
        """Return compact factors if the model has them, they are smaller and the mode allows it."""
        if mode is InfluenceMode.Up and isinstance(model, SupportsCompactFactors):
            width = model.compact_width
            if width < model.n_parameters:
                return cls(width, compact=True)
        return cls.of(model)

    def solve(self, model: Any, x: Any, y: Any) -> Any:
        """Return the factors of test samples, (n, width)."""
        return model.compact_factors(x, y) if self.compact else model.influence_factors(x, y)

    def influences(self, model: Any, factors: Any, x: Any, y: Any, mode: InfluenceMode) -> Any:
        """Return the influences of training samples on test samples with these factors."""
        if self.compact:
            return model.influences_from_compact_factors(factors, x, y)
        return model.influences_from_factors(factors, x, y, mode)
