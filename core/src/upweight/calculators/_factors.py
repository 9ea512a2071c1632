"""What stands for test samples while their influences are computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from upweight.calculators._marking import NanPolicy, checked_policy, marked_pairs, marked_samples
from upweight.influence import InfluenceFunctionModel, InfluenceMode
from upweight.protocols import SupportsPairFactors


@dataclass(frozen=True)
class Factors:
    """Influence factors, or the pair factors of a model.

    Attributes:
        width: Numbers for each test sample.
        of_pairs: Whether they are pair factors, which serve the mode "up" only.
        nan_policy: What becomes of samples whose numbers are NaN or infinite.
    """

    width: int
    of_pairs: bool = False
    nan_policy: NanPolicy = "raise"

    @classmethod
    def of(cls, model: InfluenceFunctionModel[Any], nan_policy: NanPolicy = "raise") -> Factors:
        """Return influence factors."""
        return cls(model.n_parameters, nan_policy=checked_policy(nan_policy))

    @classmethod
    def cheapest(
        cls,
        model: InfluenceFunctionModel[Any],
        mode: InfluenceMode,
        nan_policy: NanPolicy = "raise",
    ) -> Factors:
        """Return pair factors if the model has them, they are no larger and the mode allows it."""
        if mode is InfluenceMode.Up and isinstance(model, SupportsPairFactors):
            width = model.pair_width
            if width <= model.n_parameters:
                return cls(width, of_pairs=True, nan_policy=checked_policy(nan_policy))
        return cls.of(model, nan_policy)

    def solve(self, model: Any, x: Any, y: Any) -> Any:
        """Return the factors of test samples, (n, width)."""
        solve = model.pair_factors if self.of_pairs else model.influence_factors
        return self._for_samples(solve, model, x, y, shape=(self.width,))

    def self_influences(self, model: Any, x: Any, y: Any) -> Any:
        """Return the influence of each sample on itself, (n,)."""
        return self._for_samples(model.self_influences, model, x, y, shape=())

    def influences(self, model: Any, factors: Any, x: Any, y: Any, mode: InfluenceMode) -> Any:
        """Return the influences of training samples on test samples with these factors."""

        def influences(factors: Any, x: Any, y: Any) -> Any:
            if self.of_pairs:
                return model.influences_from_pair_factors(factors, x, y)
            return model.influences_from_factors(factors, x, y, mode)

        if self.nan_policy == "raise":
            return influences(factors, x, y)
        return marked_pairs(influences, factors, x, y, mode, dtype=model.dtype)

    def _for_samples(
        self, compute: Callable[..., Any], model: Any, x: Any, y: Any, *, shape: tuple[int, ...]
    ) -> Any:
        if self.nan_policy == "raise":
            return compute(x, y)
        return marked_samples(compute, x, y, shape=shape, dtype=model.dtype)
