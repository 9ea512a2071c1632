"""Runs of the sequential calculator that write to a store and break off there."""

import pytest
from calculators.problems import NumpyIdentity, batches, forget, problem
from zarr.storage import MemoryStore

from upweight import SequentialInfluenceCalculator

SIZES = 2, 7  # samples in test and training batches: 4 and 3 of them, the last ones shorter
ROOMY, TINY = "1 GiB", 1


class PowerCutError(Exception):
    """Nothing more is written."""


class CutAfter(NumpyIdentity):
    """A converter that breaks off after so many chunks."""

    def __init__(self, chunks):
        self.left = chunks

    def to_numpy(self, x):
        if self.left == 0:
            raise PowerCutError
        self.left -= 1
        return x


def influences(model, test, train, mode="up", *, max_memory=ROOMY):
    calc = SequentialInfluenceCalculator(model, max_memory=max_memory, progress=False)
    return calc.influences(batches(test, SIZES[0]), batches(train, SIZES[1]), mode)


def from_factors(model, test, train, *, max_memory=ROOMY):
    calc = SequentialInfluenceCalculator(model, max_memory=max_memory, progress=False)
    factors = [model.influence_factors(*batch) for batch in batches(test, SIZES[0])]
    forget(model)
    return calc.influences_from_factors(factors, batches(train, SIZES[1]))


def factors(model, test, train):
    calc = SequentialInfluenceCalculator(model, progress=False)
    return calc.influence_factors(batches(test, SIZES[0]))


def self_influences(model, test, train):
    return SequentialInfluenceCalculator(model, progress=False).self_influences(
        batches(train, SIZES[1])
    )


def tiny(make):
    return lambda *args: make(*args, max_memory=TINY)


KINDS = {
    "one group": influences,
    "many groups": tiny(influences),
    "perturbations": lambda *args: influences(*args, "perturbation"),
    "from factors": from_factors,
    "from factors, many groups": tiny(from_factors),
    "factors": factors,
    "self-influences": self_influences,
}


def interrupted(lazy, store, *, after):
    with pytest.raises(PowerCutError):
        lazy.to_zarr(store, CutAfter(after))


def begun(make, *, after=5):
    """Return a store in which a run broke off."""
    store = MemoryStore()
    interrupted(make(*problem()), store, after=after)
    return store
