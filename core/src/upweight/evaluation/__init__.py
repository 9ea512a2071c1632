"""How good attributions are: retraining on other data, brittleness, and mislabeled samples.

Attributions are arrays (k, n) of NumPy, of k test and n training samples, from this library or another.
"""

from upweight.evaluation.brittleness import Brittleness, brittleness
from upweight.evaluation.datamodeling import (
    leave_one_out_correlation,
    linear_datamodeling_score,
)
from upweight.evaluation.intervals import Score
from upweight.evaluation.mislabeled import MislabelDetection, mislabel_detection
from upweight.evaluation.retraining import Retrained, Train, retrain
from upweight.evaluation.subsets import leave_one_out_subsets, random_subsets

__all__ = [
    "Brittleness",
    "MislabelDetection",
    "Retrained",
    "Score",
    "Train",
    "brittleness",
    "leave_one_out_correlation",
    "leave_one_out_subsets",
    "linear_datamodeling_score",
    "mislabel_detection",
    "random_subsets",
    "retrain",
]
