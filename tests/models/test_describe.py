"""What a model says of itself: enough to tell it from others, and as JSON."""

import json

import pytest
from curvatures import problem

from upweight.models import (
    ArnoldiInfluence,
    CgInfluence,
    DirectInfluence,
    GradientInfluence,
    GramInfluence,
    InverseHarmonicMeanInfluence,
    JacobiPreconditioner,
    LissaInfluence,
    NystroemSketchInfluence,
)

FISHER = {"second_order_mode": "empirical_fisher"}

#: For each method the options that it is made with, and others, each of which makes a difference.
METHODS = {
    DirectInfluence: ({}, [{"regularization": 0.2}, FISHER, {"block_structure": "parameter_wise"}]),
    CgInfluence: (
        {},
        [{"rtol": 1e-3}, {"solver": "block"}, {"preconditioner": JacobiPreconditioner()}],
    ),
    LissaInfluence: ({}, [{"seed": 1}, {"scale": 3.0}, {"repeats": 2}]),
    ArnoldiInfluence: ({"rank": 2}, [{"rank": 3}, {"outside": "dropped"}, {"seed": 1}]),
    NystroemSketchInfluence: ({"rank": 2}, [{"rank": 3}, {"indefinite": "shift"}, {"seed": 1}]),
    InverseHarmonicMeanInfluence: ({}, [{"regularization": 0.2}]),
    GradientInfluence: ({}, [{"normalize": True}]),
    GramInfluence: (FISHER, [{"landmarks": 5}, {"seed": 1}, {"damping": "absolute"}]),
}

CASES = [
    pytest.param(method, options, other, id=f"{method.__name__}-{'-'.join(map(str, other))}")
    for method, (options, others) in METHODS.items()
    for other in others
]


def described(method, options):
    objective, *_ = problem()
    damped = {} if method is GradientInfluence else {"regularization": 0.1}
    return method(objective, **{**damped, **options}).describe()


@pytest.mark.parametrize(("method", "options", "other"), CASES)
def test_other_options_are_told_apart(method, options, other):
    first, second = described(method, options), described(method, {**options, **other})
    assert first != second
    assert first == described(method, options)


@pytest.mark.parametrize("method", METHODS)
def test_it_survives_a_file(method):
    told = described(method, METHODS[method][0])
    assert json.loads(json.dumps(told)) == told
    assert told["method"] == method.__name__
    assert sorted(name for names in told["blocks"].values() for name in names) == ["bias", "weight"]
