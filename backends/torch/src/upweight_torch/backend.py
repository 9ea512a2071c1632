"""What torch brings."""

from types import MappingProxyType

from upweight import Backend
from upweight_torch.aggregators import NestedTorchCatAggregator, TorchCatAggregator
from upweight_torch.converter import TorchNumpyConverter
from upweight_torch.influence import (
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
from upweight_torch.objective import TorchObjective
from upweight_torch.reference import reference

torch_backend = Backend(
    name="torch",
    objective=TorchObjective,
    converter=TorchNumpyConverter,
    aggregator=TorchCatAggregator,
    nested_aggregator=NestedTorchCatAggregator,
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
            "SupportsDenseHessian",
            "SupportsLinearisedProducts",
            "SuggestsBatchSize",
            "ReportsMemory",
            "SupportsSaving",
        }
    ),
    reference=reference,
)
