"""What JAX brings."""

from types import MappingProxyType

from upweight import Backend
from upweight_jax.aggregators import JaxCatAggregator, NestedJaxCatAggregator
from upweight_jax.converter import JaxNumpyConverter
from upweight_jax.influence import (
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
from upweight_jax.objective import JaxObjective
from upweight_jax.reference import reference

jax_backend = Backend(
    name="jax",
    objective=JaxObjective,
    converter=JaxNumpyConverter,
    aggregator=JaxCatAggregator,
    nested_aggregator=NestedJaxCatAggregator,
    models=MappingProxyType(
        {
            "direct": DirectInfluence,
            "cg": CgInfluence,
            "arnoldi": ArnoldiInfluence,
            "nystroem_sketch": NystroemSketchInfluence,
            "lissa": LissaInfluence,
            "inverse_harmonic_mean": InverseHarmonicMeanInfluence,
            "ekfac": EkfacInfluence,
            "gradient": GradientInfluence,
            "gram": GramInfluence,
        }
    ),
    capabilities=frozenset(
        {
            "SupportsGaussNewton",
            "SupportsLayers",
            "SupportsOutputGradients",
            "SuggestsBatchSize",
            "ReportsMemory",
            "SupportsSaving",
        }
    ),
    reference=reference,
)
