"""What the page is filled with: its summary, and all that its script shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from upweight.finding import ids_of
from upweight.report._contents import Given, contents, facts
from upweight.report._images import encoded

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from upweight.report._ranking import Pair, Ranking, Suspect

#: What the caller gave of the samples of an axis, and their ids in the store.
Known: TypeAlias = "tuple[Given, zarr.Array[Any] | None]"

#: Images of at most so many pixels a side are enlarged without smoothing.
COARSE = 32


@dataclass(frozen=True)
class PageData:
    """What a page is about.

    Attributes:
        summary: Terms and what there is to say of them.
        embedded: What the script shows, as JSON.
    """

    summary: list[tuple[str, str]]
    embedded: dict[str, Any]


def influence_data(
    array: zarr.Array[Any],
    rankings: Sequence[Ranking],
    suspects: Sequence[Suspect],
    test: Known,
    train: Known,
    *,
    k: int,
    want_suspects: bool,
) -> PageData:
    """Return the data of a page about influences (test, train), k at most on each side."""
    listed = {i for one in rankings for i, _ in (*one.proponents, *one.opponents)}
    used = sorted(listed.union(one.index for one in suspects))
    sides = {
        "test": _samples(test, "test", [one.index for one in rankings]),
        "train": _samples(train, "train", used),
    }
    told, coarse = _encode(sides)
    tests = [
        {
            **sides["test"][one.index],
            "proponents": _rounded(one.proponents),
            "opponents": _rounded(one.opponents),
            "leftOut": one.left_out,
        }
        for one in rankings
    ]
    m, n = array.shape
    left_out = sum(one.left_out for one in rankings)
    summary = [
        ("Result", f"influences of {n:,} training samples on {m:,} test samples"),
        ("Shown", _shown([one.index for one in rankings], m) + f", with at most {k} of each side"),
    ]
    if left_out:
        of = f"{left_out:,} of {n * len(rankings):,}"
        why = "NaN: their samples were marked, or they are not written"
        summary.append(("Left out", f"{of} influences on the test samples shown, which are {why}"))
    return PageData(
        summary=[*summary, *([("Images", told)] if told else [])],
        embedded={
            "kind": "influences",
            "coarse": coarse,
            "k": k,
            "testCount": m,
            "wantSuspects": want_suspects,
            "tests": tests,
            "train": sides["train"],
            "suspects": [[one.index, _short(one.value), one.opposed] for one in suspects],
        },
    )


def value_data(
    array: zarr.Array[Any], largest: Sequence[Suspect], left_out: int, given: Given, ids: Any
) -> PageData:
    """Return the data of a page about a result with one number a sample."""
    sides = {"train": _samples((given, ids), "train", [one.index for one in largest])}
    told, coarse = _encode(sides)
    n = array.shape[0]
    summary = [("Result", f"one number for each of {n:,} samples")]
    summary.append(("Shown", f"the {len(largest):,} largest"))
    if left_out:
        summary.append(("Left out", f"{left_out:,} of {n:,} numbers, which are NaN"))
    return PageData(
        summary=[*summary, *([("Images", told)] if told else [])],
        embedded={
            "kind": "values",
            "coarse": coarse,
            "tests": [],
            "train": sides["train"],
            "suspects": [[one.index, _short(one.value), 0] for one in largest],
        },
    )


def _samples(known: Known, side: str, indices: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return what is known of samples, by index; an image is still an array."""
    given, ids = known
    names = ids_of(indices, ids)
    shown = contents(given, side, indices)
    samples: dict[int, dict[str, Any]] = {}
    for place, index in enumerate(indices):
        samples[index] = {"index": index, **facts(given, side, index)}
        if names is not None:
            samples[index]["id"] = str(names[place])
        if index in shown:
            kind = "text" if isinstance(shown[index], str) else "image"
            samples[index][kind] = shown[index]
    return samples


def _encode(sides: dict[str, dict[int, dict[str, Any]]]) -> tuple[str, bool]:
    """Put data URIs in place of images, all in one scale, and say what it is."""
    images: dict[tuple[str, int], NDArray[Any]] = {
        (side, index): sample["image"]
        for side, samples in sides.items()
        for index, sample in samples.items()
        if "image" in sample
    }
    uris, told = encoded(images)
    for (side, index), uri in uris.items():
        sides[side][index]["image"] = uri
    return " ".join(told), all(max(image.shape[:2]) <= COARSE for image in images.values())


def _shown(indices: list[int], m: int) -> str:
    if len(indices) == m:
        return "all test samples"
    if indices == list(range(len(indices))):
        return f"the first {len(indices):,} of {m:,} test samples"
    return f"{len(indices):,} chosen ones of {m:,} test samples"


def _rounded(pairs: Iterable[Pair]) -> list[list[float]]:
    return [[index, _short(value)] for index, value in pairs]


def _short(value: float) -> float:
    """Return a number in six digits, which take less room."""
    return float(f"{value:.6g}")
