"""Influence methods, each written once for the arrays of any framework."""

from upweight.models.arnoldi import ArnoldiInfluence
from upweight.models.cg import CgInfluence
from upweight.models.direct import DirectInfluence
from upweight.models.ekfac import EkfacInfluence
from upweight.models.gradient import GradientInfluence
from upweight.models.gram import GramInfluence
from upweight.models.harmonic import InverseHarmonicMeanInfluence
from upweight.models.lissa import LissaInfluence
from upweight.models.nystroem import NystroemSketchInfluence
from upweight.models.preconditioners import (
    EkfacPreconditioner,
    JacobiPreconditioner,
    NystroemPreconditioner,
    Preconditioner,
)

__all__ = [
    "ArnoldiInfluence",
    "CgInfluence",
    "DirectInfluence",
    "EkfacInfluence",
    "EkfacPreconditioner",
    "GradientInfluence",
    "GramInfluence",
    "InverseHarmonicMeanInfluence",
    "JacobiPreconditioner",
    "LissaInfluence",
    "NystroemPreconditioner",
    "NystroemSketchInfluence",
    "Preconditioner",
]
