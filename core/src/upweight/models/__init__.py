"""Influence methods, each written once for the arrays of any framework."""

from upweight.models.cg import CgInfluence
from upweight.models.direct import DirectInfluence
from upweight.models.ekfac import EkfacInfluence
from upweight.models.preconditioners import JacobiPreconditioner, Preconditioner

__all__ = [
    "CgInfluence",
    "DirectInfluence",
    "EkfacInfluence",
    "JacobiPreconditioner",
    "Preconditioner",
]
