from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from viq.data.synthetic.fonts import find_fonts
from viq.data.synthetic.shapes import OUTLINES, STYLES
from viq.data.synthetic.splits import part
from viq.data.synthetic.vocabulary import CODE_LETTERS
from viq.errors import InputError
from viq.evaluation.understanding import digits, pictures
from viq.evaluation.understanding.digits import read_digits

SETS = {
    "shapes": (pictures.SHAPES, pictures.shapes, pictures.SHAPES_SIDE),
    "charts": (pictures.CHARTS, pictures.chart_kinds, pictures.CHART_SIDE),
    "letters": (pictures.LETTERS, pictures.letters, pictures.LETTERS_SIDE),
}


@pytest.fixture
def draw(monkeypatch):
    """Draws few pictures of a set."""

    def few(name, train=6, test=4):
        counts, make, _ = SETS[name]
        monkeypatch.setitem(counts, "quick", (train, test))
        return make("quick")

    return few


@pytest.mark.parametrize("name", SETS)
def test_sets_are_the_same_squares_every_time(draw, name):
    first, second = draw(name), draw(name)
    for a, b in zip(first.train + first.test, second.train + second.test, strict=True):
        assert a.picture.tobytes() == b.picture.tobytes()
        assert a.labels == b.labels
        assert a.picture.size == (SETS[name][2],) * 2
        assert a.picture.mode == "RGB"
    ids = [one.id for one in first.train + first.test]
    assert len(set(ids)) == 10
    assert len({one.picture.tobytes() for one in first.train + first.test}) == 10


@pytest.mark.parametrize("name", SETS)
def test_a_larger_set_begins_with_the_smaller(draw, name):
    small, large = draw(name), draw(name, 8, 5)
    assert [one.labels for one in small.train] == [one.labels for one in large.train[:6]]


def test_as_many_shapes_are_shown_as_the_label_says(draw):
    right = 0
    shown = draw("shapes", 40, 10).train
    for one in shown:
        pixels = np.asarray(one.picture, np.int16)
        background = np.median(pixels.reshape(-1, 3), axis=0)
        apart = np.abs(pixels - background).max(-1) > 50
        found, count = ndimage.label(ndimage.binary_dilation(apart))
        sizes = ndimage.sum_labels(apart, found, range(1, count + 1))
        right += int((sizes > 40).sum()) == int(one.labels["count"])
    assert right >= 38  # noise may join two


def test_all_labels_of_shapes_are_drawn(draw):
    shown = draw("shapes", 120, 1).train
    assert {one.labels["kind"] for one in shown} == set(OUTLINES)
    assert {one.labels["count"] for one in shown} == {"1", "2", "3", "4"}
    assert len({one.labels["colour"] for one in shown}) > 6


def test_styles_and_fonts_of_what_is_tested_are_held_out():
    styles = {split: part(tuple(STYLES), split) for split in ("train", "validation")}
    assert not set(styles["train"]) & set(styles["validation"])
    fonts = [{face.name for face in find_fonts(split).faces} for split in ("train", "validation")]
    assert fonts[0]
    assert fonts[1]
    assert not fonts[0] & fonts[1]


def test_charts_are_of_four_kinds(draw):
    kinds = {one.labels["kind"] for one in draw("charts", 24, 1).train}
    assert kinds == {"a bar chart", "a line chart", "a pie chart", "a scatter plot"}


def test_a_letter_is_in_each_patch(draw):
    """In one picture the same letters are the same pixels, and others are not."""
    one = draw("letters", 2, 1).train[0]
    pixels, text = np.asarray(one.picture), one.labels["letters"]
    assert len(text) == 64
    assert set(text) <= set(CODE_LETTERS)
    patches = pixels.reshape(8, 16, 8, 16, 3).swapaxes(1, 2).reshape(64, -1)
    by_letter = {letter: patches[place] for place, letter in enumerate(text)}
    for letter, patch in zip(text, patches, strict=True):
        np.testing.assert_array_equal(patch, by_letter[letter])
    assert len({patch.tobytes() for patch in patches}) == len(set(text))
    edges = pixels[::16], pixels[:, ::16]  # where a letter that is too large would be
    assert all((edge == pixels[0, 0]).mean() > 0.95 for edge in edges)


def test_digits_are_mixed_and_whole():
    found = read_digits()
    assert len({digit.number for digit in found}) == 5000
    assert Counter(digit.label for digit in found) == dict.fromkeys("0123456789", 500)
    counts = Counter(digit.label for digit in found[-1000:])
    assert all(70 < counts[label] < 130 for label in "0123456789")
    picture = found[0].picture(64)
    assert picture.size == (64, 64)
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert np.asarray(picture).min() < 40


def test_digits_to_fit_on_are_not_those_to_test_on():
    sets = {size: pictures.digits(size) for size in ("quick", "full")}
    assert [(len(s.train), len(s.test)) for s in sets.values()] == [(2000, 500), (4000, 1000)]
    train = {one.id for s in sets.values() for one in s.train}
    assert not train & {one.id for s in sets.values() for one in s.test}


def test_missing_digits_are_told(monkeypatch):
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    assert not digits.has_digits()
    with pytest.raises(InputError, match=r"reading digits needs a package: pip install 'viq\[eval"):
        read_digits()
