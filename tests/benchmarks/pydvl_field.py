"""What upweight and pyDVL are measured on: methods, settings, and how many pairs of samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from digits import TRAIN, Problem
from exact import loss_gradients

REGULARIZATION = 0.1

#: Test samples that are asked about: all of them, fewer where pyDVL would take minutes, and a few for
#: what solves a system for each. It is always asked how all training samples influence them.
ALL, SOME, FEW = 297, 64, 4

FROM_FACTORS = ", from factors"


@dataclass(frozen=True)
class Contestant:
    """One method of one library with its settings.

    Attributes:
        name: What the method is called in the table.
        library: "upweight" or "pyDVL".
        model: Name of the class.
        rows: Number of test samples.
        compared: Number of test samples for which there is an exact answer.
        settings: Options of the class, besides the regularization.
        reference: What the exact answer is.
        from_factors: pyDVL only: whether factors are solved for once and kept. If not, they are
            solved for again for each batch of training samples.
        note: Added to the name of the library.
    """

    name: str
    library: str
    model: str
    rows: int
    compared: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    reference: str = "Hessian"
    from_factors: bool = False
    note: str = ""


def contestants(problem: Problem, *, large: bool) -> list[Contestant]:
    """Return what is compared; of each method, the first is the one that ratios refer to."""
    field = [] if large else _method("Direct", "DirectInfluence", SOME)
    rank = {"rank": 20}
    field += _conjugate_gradients(problem)
    field += _method(
        "LiSSA",
        "LissaInfluence",
        FEW,
        {"maxiter": 100 if large else 500, "rtol": 1e-4, "scale": 10.0},
    )
    field += _method(
        "Arnoldi",
        "ArnoldiInfluence",
        ALL,
        rank | {"krylov_dimension": 40},
        pydvl={"use_woodbury": True},
    )
    field += _method(
        "Nyström", "NystroemSketchInfluence", ALL, rank, upweight={"indefinite": "shift"}
    )
    field += _method(
        "EK-FAC",
        "EkfacInfluence",
        ALL,
        upweight={"damping": "absolute"},
        pydvl={"update_diagonal": True},
        reference="Gauss-Newton",
    )
    field += _method(
        "harmonic mean",
        "InverseHarmonicMeanInfluence",
        SOME,
        upweight={"block_structure": "full"},
        reference="harmonic mean",
    )
    if not large:
        return field
    return [replace(one, compared=min(one.compared, 4)) for one in field]


def _method(
    name: str,
    model: str,
    rows: int,
    same: Mapping[str, Any] | None = None,
    *,
    upweight: Mapping[str, Any] | None = None,
    pydvl: Mapping[str, Any] | None = None,
    reference: str = "Hessian",
) -> list[Contestant]:
    """Return upweight, then pyDVL in both ways, with settings that both or one of them have."""
    ours, theirs = {**(same or {}), **(upweight or {})}, {**(same or {}), **(pydvl or {})}
    other = Contestant(name, "pyDVL", model, rows, rows, theirs, reference)
    return [
        Contestant(name, "upweight", model, rows, rows, ours, reference),
        other,
        replace(other, from_factors=True, note=FROM_FACTORS),
    ]


def _conjugate_gradients(problem: Problem) -> list[Contestant]:
    """Return the ways of conjugate gradients, all of pyDVL's but one from factors.

    pyDVL stops a row at a residual below `atol**2`, or `rtol**2` times a norm across the rows. Its
    "early" entries are given the root of what upweight stops the row of the largest norm at, so
    that no row of pyDVL has to go further than the same row of upweight.
    """
    rtol, atol = 1e-4, 1e-6
    largest = loss_gradients(problem, TRAIN, TRAIN + FEW).squared_norms().max() ** 0.5
    same = {"rtol": rtol, "atol": atol}
    early = {"rtol": 0.0, "atol": max(rtol * largest, atol) ** 0.5}
    together = {"solve_simultaneously": True}
    ours = Contestant("CG", "upweight", "CgInfluence", FEW, FEW, same)
    theirs = replace(ours, library="pyDVL")
    kept = replace(theirs, from_factors=True)
    return [
        ours,
        replace(kept, settings=same | together, note=", together" + FROM_FACTORS),
        replace(kept, settings=early | together, note=", early, together" + FROM_FACTORS),
        replace(theirs, settings=early | together, note=", early, together"),
    ]
