"""Influence methods, each written once for the arrays of any framework."""

from upweight.models.cg import CgInfluence
from upweight.models.direct import DirectInfluence

__all__ = ["CgInfluence", "DirectInfluence"]
