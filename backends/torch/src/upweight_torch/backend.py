"""What torch brings."""

from types import MappingProxyType

from upweight import Backend
from upweight_torch.aggregators import NestedTorchCatAggregator, TorchCatAggregator
from upweight_torch.converter import TorchNumpyConverter
from upweight_torch.influence import CgInfluence, DirectInfluence, EkfacInfluence
from upweight_torch.objective import TorchObjective

torch_backend = Backend(
    name="torch",
    objective=TorchObjective,
    converter=TorchNumpyConverter,
    aggregator=TorchCatAggregator,
    nested_aggregator=NestedTorchCatAggregator,
    models=MappingProxyType(
        {"direct": DirectInfluence, "cg": CgInfluence, "ekfac": EkfacInfluence}
    ),
    capabilities=frozenset(
        {"SupportsDenseHessian", "SupportsLayers", "SuggestsBatchSize", "ReportsMemory"}
    ),
)
