"""The methods, and the classes that fits are made of: all that a file may ask to be made."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from upweight.influence import SecondOrderMode
from upweight.linalg.gram import Factored
from upweight.linalg.kronecker import KroneckerEigen
from upweight.linalg.nystroem import NystroemApproximation
from upweight.models import _kronecker as kronecker
from upweight.models import preconditioners
from upweight.models._base import CurvatureInfluence
from upweight.models._batches import BatchCurvatures
from upweight.models._curvature import CurvatureOperator
from upweight.models._diagnostics import Diagnostics
from upweight.models._factoring import Factoring
from upweight.models._fisher import FisherMode
from upweight.models._gram import AllVectors, GramCurvature, Landmarks
from upweight.models._vectors import FactoredVectors
from upweight.models.arnoldi import ArnoldiInfluence, RitzCurvature
from upweight.models.cg import CgCurvature, CgInfluence
from upweight.models.direct import DenseCurvature, DirectInfluence
from upweight.models.ekfac import EkfacInfluence
from upweight.models.gradient import GradientInfluence, Identity
from upweight.models.gram import GramInfluence
from upweight.models.harmonic import (
    InverseHarmonicMeanInfluence,
    KeptGradients,
    SampleCurvatures,
    SampleGradients,
)
from upweight.models.lissa import LissaCurvature, LissaInfluence, LissaOptions
from upweight.models.nystroem import (
    NystroemCurvature,
    NystroemDiagnostics,
    NystroemSketchInfluence,
)

METHODS: Mapping[str, type[CurvatureInfluence[Any]]] = {
    method.__name__: method
    for method in (
        ArnoldiInfluence,
        CgInfluence,
        DirectInfluence,
        EkfacInfluence,
        GradientInfluence,
        GramInfluence,
        InverseHarmonicMeanInfluence,
        LissaInfluence,
        NystroemSketchInfluence,
    )
}

#: What fits are made of. A change of their attributes is a change of the format on disk.
CLASSES: Mapping[str, type[Any]] = {
    **{
        part.__name__: part
        for part in (
            AllVectors,
            BatchCurvatures,
            CgCurvature,
            CurvatureOperator,
            DenseCurvature,
            Diagnostics,
            Factored,
            FactoredVectors,
            Factoring,
            GramCurvature,
            Identity,
            KeptGradients,
            KroneckerEigen,
            Landmarks,
            LissaCurvature,
            LissaOptions,
            NystroemApproximation,
            NystroemCurvature,
            NystroemDiagnostics,
            RitzCurvature,
            SampleCurvatures,
            SampleGradients,
            kronecker.DiagonalCurvature,
            kronecker.KroneckerCurvature,
            preconditioners.EkfacPreconditioner,
            preconditioners.JacobiPreconditioner,
            preconditioners.LayerwiseCurvature,
            preconditioners.NystroemPreconditioner,
            preconditioners.SketchedCurvature,
        )
    },
    "JacobiCurvature": preconditioners.DiagonalCurvature,
}
TAGS = {part: name for name, part in CLASSES.items()}

ENUMS: Mapping[str, type[Enum]] = {each.__name__: each for each in (FisherMode, SecondOrderMode)}

#: What a method has learnt, or was told since, besides its options.
LEARNT = ("_regularization", "_curvatures", "_layer_of")
