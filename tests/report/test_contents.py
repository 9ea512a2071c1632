"""Samples are read one by one, where they show up, and are shown as they are."""

import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread
from report.stores import report, stored

from upweight.report._images import SIDE, encoded, thumbnail
from upweight.report._png import png

MATRIX = np.array([[3.0, -1, 0, 2, 0, -5], [1.0, -2, 0, 4, 0, -3]])


@pytest.fixture
def page(tmp_path):
    """Return a function that writes a page and returns its data."""
    store = stored(MATRIX, tmp_path / "r")
    return lambda **options: report(store, tmp_path / "p.html", overwrite=True, **options)


class Noting:
    """Samples that note which of them are read."""

    def __init__(self, samples):
        self.samples, self.read = samples, []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.read.append(index)
        return self.samples[index]


def pixels(uri):
    kind, _, text = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.round(imread(io.BytesIO(base64.b64decode(text)), format="png") * 255)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 7, 3), (2, 2, 4)])
def test_png_files_hold_every_pixel(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = np.round(imread(io.BytesIO(png(image)), format="png") * 255)
    assert np.array_equal(found, image)


def test_only_the_samples_that_show_up_are_read_each_once(page):
    samples = Noting([f"text {i}" for i in range(6)])
    data, _ = page(train_samples=samples, k=1)
    assert samples.read == [0, 1, 3, 5]
    assert {i: one["text"] for i, one in data["train"].items()} == {
        str(i): f"text {i}" for i in (0, 1, 3, 5)
    }


def test_gray_images_share_one_scale_and_the_page_says_which(page):
    images = np.arange(6)[:, None, None] * np.array([[0.0, 1], [2, 3]])
    data, text = page(train_samples=images, test_samples=images[:2] + 1)
    assert "Gray images: 0 is black, 15 is white." in text
    assert pixels(data["train"]["3"]["image"]).tolist() == [[0, 51], [102, 153]]
    assert pixels(data["tests"][1]["image"]).tolist() == [[17, 34], [51, 68]]


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.full((2, 2, 3), 100, dtype=np.uint8), "0 is black, 255 is white"),
        (np.full((2, 2, 3), 0.5), "0 is black, 1 is white"),
        (np.array([[[-1.0, 0, 3]]]), "-1 is black, 3 is white"),
        (np.full((2, 2), np.nan), "0 is black, 1 is white"),
        (np.ones((2, 2), dtype=bool), "1 is black, 1 is white"),
        (np.array([[-1e308, 1e308]]), "-1e+308 is black, 1e+308 is white"),
    ],
)
def test_the_scale_of_colours_is_known(image, told):
    _, (sentence,) = encoded({0: image})
    assert told in sentence


def test_channels_of_one_are_gray(page):
    data, text = page(train_samples=np.ones((6, 2, 2, 1)))
    assert pixels(data["train"]["0"]["image"]).shape == (2, 2)
    assert "Gray images" in text


@pytest.mark.parametrize("shape", [(100, 300), (97, 96, 3), (1, 5000)])
def test_thumbnails_are_small_and_keep_the_mean_of_what_they_show(shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    small = thumbnail(image)
    assert max(small.shape[:2]) <= SIDE
    assert small.shape[2:] == shape[2:]
    step = -(-max(shape[:2]) // SIDE)
    np.testing.assert_allclose(small[0, 0], image[:step, :step].mean(axis=(0, 1)), rtol=1e-5)
    rest = image[(small.shape[0] - 1) * step :, (small.shape[1] - 1) * step :]
    np.testing.assert_allclose(small[-1, -1], rest.mean(axis=(0, 1)), rtol=1e-5)


def test_thumbnails_of_bytes_are_rounded_means():
    image = np.full((200, 200, 3), 255, dtype=np.uint8)
    image[::2] = 0
    small = thumbnail(image)
    assert (small.dtype, small.shape) == (np.uint8, (67, 67, 3))
    assert np.unique(small[0]).tolist() == [85]  # of 3 rows, one is white
    assert np.unique(small[1]).tolist() == [170]


def test_rows_of_a_table_have_the_names_of_their_columns(page):
    data, _ = page(train_samples=np.arange(12).reshape(6, 2) / 3, columns=["age", "<i>"])
    assert data["train"]["5"]["text"] == "age=3.333, <i>=3.667"


def test_long_texts_end_in_an_ellipsis(page):
    data, _ = page(train_samples=["x" * 600] * 5 + ["y" * 601])
    assert data["train"]["0"]["text"] == "x" * 600
    assert data["train"]["5"]["text"] == "y" * 599 + "…"


def test_labels_may_be_of_any_type(page):
    data, _ = page(train_labels=np.arange(6) / 3, test_labels=[None, "b"], predictions=np.eye(2)[0])
    assert data["train"]["5"]["label"] == "1.667"
    assert [(one["label"], one["prediction"]) for one in data["tests"]] == [
        ("None", "1"),
        ("b", "0"),
    ]


@pytest.mark.parametrize(
    ("samples", "error", "said"),
    [
        (["a"] * 5, ValueError, "each of the 6 train samples"),
        (np.zeros((6, 3, 8, 8)), ValueError, "channels last"),
        (np.zeros((6, 0)), ValueError, "must be an image"),
        ([1.0] * 6, ValueError, "must be an image"),
        (np.zeros((6, 2, 2), dtype=complex), TypeError, "real numbers"),
        (iter("abcdef"), TypeError, "have a length"),
        ("abcdef", TypeError, "have a length"),
        (dict.fromkeys("abcdef").keys(), TypeError, "have a length"),
    ],
)
def test_what_cannot_be_shown_is_refused(page, tmp_path, samples, error, said):
    with pytest.raises(error, match=said):
        page(train_samples=samples)
    assert not (tmp_path / "p.html").exists()
    assert not list(tmp_path.glob(".*"))
