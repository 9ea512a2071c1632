"""The samples that are drawn are the right ones, in order, as they stand."""

import numpy as np
import pytest

from upweight.plot import proponents

INFLUENCES = np.array([0.5, -2.0, np.nan, 3.0, 0.0, -1.0, 1.0, -0.25])
TEXTS = [f"text {i}" for i in range(8)]


def images(*shape, seed=0):
    return np.random.default_rng(seed).random((8, *shape))


def tick_texts(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


def captions(ax):
    return [text.get_text() for text in ax.texts if text.get_text().startswith("#")]


def test_texts_stand_beside_bars_of_falling_influence(ax):
    assert proponents(INFLUENCES, TEXTS, k=2, ax=ax) is ax
    assert tick_texts(ax) == ["#3 text 3", "#6 text 6", "#5 text 5", "#1 text 1"]
    assert [bar.get_width() for bar in ax.patches] == [3, 1, -1, -2]
    assert [bar.get_y() + bar.get_height() / 2 for bar in ax.patches] == [0, 1, 2, 3]
    top, bottom = ax.get_ylim()[::-1]
    assert top < bottom


def test_samples_without_influence_are_neither_proponents_nor_opponents(ax):
    proponents(INFLUENCES, TEXTS, k=8, ax=ax)
    assert [bar.get_width() for bar in ax.patches] == [3, 1, 0.5, -0.25, -1, -2]


def test_equal_influences_are_taken_by_index(ax):
    proponents(np.ones(8), TEXTS, k=3, ax=ax)
    assert tick_texts(ax) == ["#0 text 0", "#1 text 1", "#2 text 2"]


def test_marked_samples_are_told(ax):
    proponents(INFLUENCES, TEXTS, ax=ax)
    assert ax.get_xlabel() == "influence\n(1 of 8 training samples left out: NaN)"


def test_nothing_is_told_where_nothing_is_left_out(ax):
    proponents(np.nan_to_num(INFLUENCES), TEXTS, ax=ax)
    assert ax.get_xlabel() == "influence"


def test_long_texts_are_wrapped_and_shortened(ax):
    proponents(INFLUENCES, ["word  \n " * 500] * 8, k=1, ax=ax)
    lines = tick_texts(ax)[0].splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 60
    assert lines[-1].endswith("…")
    assert "  " not in " ".join(lines)


@pytest.mark.parametrize("kind", ["text", "table", "image"])
def test_dollar_signs_are_no_formulas(ax, kind):
    samples = {"text": ["$x^{$ $\\frac$"] * 8, "table": [["$\\bad$"]] * 8, "image": images(3, 3)}
    proponents(INFLUENCES, samples[kind], labels=["$\\no$"] * 8, ax=ax)
    artists = [*ax.get_yticklabels(), *ax.texts]
    from_data = [artist for artist in artists if "$" in artist.get_text()]
    assert len(from_data) == 6
    assert not any(artist.get_parse_math() or artist.get_usetex() for artist in from_data)


def test_rows_of_a_table_name_their_columns(ax):
    rows = np.arange(16).reshape(8, 2) / 3
    proponents(INFLUENCES, rows, k=1, labels=range(8), columns=["age", "$"], ax=ax)
    assert tick_texts(ax) == ["#3 [3] age=2, $=2.333", "#1 [1] age=0.6667, $=1"]


def test_rows_of_mixed_types_are_shown_as_they_are(ax):
    proponents(INFLUENCES, [[f"name {i}", i] for i in range(8)], k=1, ax=ax)
    assert tick_texts(ax) == ["#3 name 3, 3", "#1 name 1, 1"]


def test_images_stand_in_two_rows_strongest_first(ax):
    samples = images(4, 2)
    proponents(INFLUENCES, samples, k=2, labels=list("abcdefgh"), ax=ax)
    order = [3, 6, 1, 5]
    for image, index in zip(ax.images, order, strict=True):
        assert np.array_equal(image.get_array(), samples[index])
        assert image.get_clim() == (samples[order].min(), samples[order].max())
    lefts, _, bottoms, tops = np.array([image.get_extent() for image in ax.images]).T
    assert lefts[0] == lefts[2] < lefts[1] == lefts[3]
    assert tops[0] == tops[1] > bottoms[0] > tops[2] == tops[3]
    assert np.allclose(tops - bottoms, 2)  # twice as high as wide
    assert captions(ax) == ["#3 [d]\n+3", "#6 [g]\n+1", "#1 [b]\n-2", "#5 [f]\n-1"]
    assert ax.get_xlabel() == "(1 of 8 training samples left out: NaN)"


def test_every_image_and_caption_lies_within_the_axes(ax):
    proponents(INFLUENCES, images(5, 3), k=3, ax=ax)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for image in ax.images:
        x0, x1, y0, y1 = image.get_extent()
        assert left < x0 < x1 < right
        assert bottom < y0 < y1 < top


def test_one_channel_is_gray(ax):
    samples = images(4, 4, 1)
    proponents(INFLUENCES, samples, k=1, ax=ax)
    assert np.array_equal(ax.images[0].get_array(), samples[3, :, :, 0])


def test_colours_in_range_are_left_as_they_are(ax):
    proponents(INFLUENCES, images(4, 4, 3), k=1, ax=ax)
    assert np.array_equal(ax.images[0].get_array(), images(4, 4, 3)[3])


def test_integers_are_colours_of_255_levels(ax):
    samples = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3))
    proponents(INFLUENCES, samples, k=1, ax=ax)
    assert np.allclose(ax.images[0].get_array(), samples[3] / 255)


def test_standardised_colours_share_one_scale(ax):
    samples = 10 * images(4, 4, 3) - 5
    proponents(INFLUENCES, samples, k=1, ax=ax)
    low, high = samples[[3, 1]].min(), samples[[3, 1]].max()
    assert np.allclose(ax.images[0].get_array(), (samples[3] - low) / (high - low))


def test_only_opponents_make_one_row(ax):
    proponents(-np.ones(8), images(4, 4), k=2, ax=ax)
    assert captions(ax) == ["#0\n-1", "#1\n-1"]


@pytest.mark.parametrize(
    ("influences", "samples", "options", "message"),
    [
        (INFLUENCES[None, :], TEXTS, {}, r"`influences` must have shape \(n,\); got \(1, 8\)"),
        (INFLUENCES, TEXTS[:7], {}, "`samples` must hold one for each of the 8 .* holds 7"),
        (INFLUENCES, TEXTS, {"labels": [1]}, "`labels` must hold one"),
        (INFLUENCES, TEXTS, {"k": 0}, "`k` must be at least 1; got 0"),
        (np.full(8, np.inf), TEXTS, {}, r"infinite at \[0, 1"),
        (0 * INFLUENCES, TEXTS, {}, "nothing to draw"),
        (INFLUENCES, np.zeros((8, 3, 5, 5)), {}, "channels last"),
        (INFLUENCES, np.zeros((8, 4, 4, 3, 1)), {}, "channels last"),
        (INFLUENCES, np.zeros(8), {}, "rows of a table"),
        (INFLUENCES, np.zeros((8, 2)), {"columns": ["a"]}, "all 2 columns; got 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before(closed, influences, samples, options, message):
    with pytest.raises(ValueError, match=message):
        proponents(influences, samples, **options)
    assert closed.get_fignums() == []


def test_influences_must_be_numbers(ax):
    with pytest.raises(TypeError, match="`influences` must be real numbers"):
        proponents(TEXTS, TEXTS, ax=ax)
