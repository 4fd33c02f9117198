"""The look of plots."""

import numpy as np
from PIL import Image

from viq.evaluation.plots import COLOURS, new_figure, save_figure, series


def draw(path):
    figure, (left, right) = new_figure(columns=2, height=300)
    left.plot([1, 2], [3, 4], **series(0), label="a")
    right.plot([1, 2], [4, 3], **series(1))
    left.legend()
    save_figure(figure, path)


def test_a_figure_is_900_pixels_wide_and_its_bytes_are_the_same_each_time(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as image:
        assert (image.size, image.format) == ((900, 300), "PNG")
        assert len(np.unique(np.asarray(image))) > 10  # something is drawn
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_axes_come_in_reading_order():
    _, axes = new_figure(rows=2, columns=2)
    places = [axis.get_subplotspec().num1 for axis in axes]
    assert places == [0, 1, 2, 3]


def test_no_two_of_the_first_series_look_alike():
    looks = [tuple(series(index).values()) for index in range(4 * len(COLOURS))]
    assert len(set(looks)) == len(looks)
