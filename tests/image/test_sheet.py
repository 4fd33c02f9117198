"""Pictures in rows and columns."""

import numpy as np
import pytest
from PIL import Image

from viq.image.sheet import Cell, Row, sheet, shrink


def colours(image):
    return {colour for _, colour in image.getcolors(image.width * image.height)}


def test_every_picture_is_there_in_full():
    red, blue = Image.new("RGB", (50, 30), "red"), Image.new("RGB", (20, 40), "blue")
    values = np.asarray(sheet(["one", "two"], [Row("first", [Cell(red, "r"), Cell(blue, "b")])]))
    assert (values == (255, 0, 0)).all(-1).sum() == 50 * 30
    assert (values == (0, 0, 255)).all(-1).sum() == 20 * 40


def test_rows_are_below_each_other_and_do_not_overlap():
    names = ["red", "lime", "blue"]
    rows = [Row(name, [Cell(Image.new("RGB", (64, 48), name), "")]) for name in names]
    values = np.asarray(sheet(["one"], rows))
    tops = []
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        found = (values == colour).all(-1)
        assert found.sum() == 64 * 48
        tops.append(int(found.any(1).argmax()))
    assert tops == sorted(tops)


def test_a_large_picture_is_scaled_down_to_its_cell():
    image = Image.new("RGB", (1000, 500), "red")
    values = np.asarray(sheet(["one"], [Row("", [Cell(image, "")])], cell_side=200))
    assert (values == (255, 0, 0)).all(-1).sum() == 200 * 100


@pytest.mark.parametrize(
    ("size", "expected"), [((10, 20), (10, 20)), ((400, 100), (40, 10)), ((1, 9000), (1, 40))]
)
def test_shrink_keeps_the_shape_and_never_enlarges(size, expected):
    assert shrink(Image.new("RGB", size), 40).size == expected


def test_a_cell_without_a_picture_has_its_words():
    with_words = sheet(["one"], [Row("", [Cell(None, "there is none")])])
    without = sheet(["one"], [Row("", [Cell(None, "")])])
    assert with_words.size == without.size
    assert with_words != without


def test_long_words_are_cut_to_their_cell():
    image = sheet(["one", "two"], [Row("", [Cell(None, "word " * 50), Cell(None, "")])])
    values = np.asarray(image)
    right = values[80:, image.width // 2 + 12 :]
    assert (right == 255).all()


def test_any_text_can_be_written():
    sheet(["one"], [Row("a\nb \udcff é 漢字", [Cell(None, "")])])


def test_no_rows_are_an_error():
    with pytest.raises(ValueError, match="no rows"):
        sheet(["one"], [])


def test_a_row_with_too_few_cells_is_an_error():
    with pytest.raises(ValueError, match="row 'first' has 1 cells, but there are 2 columns"):
        sheet(["one", "two"], [Row("first", [Cell(None, "")])])
