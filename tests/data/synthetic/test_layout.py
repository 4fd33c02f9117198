from itertools import combinations

import pytest

from viq.data.synthetic.canvas import Canvas, line_height, text_width, wrap
from viq.data.synthetic.fonts import find_fonts
from viq.data.synthetic.source import TASKS, SyntheticSource
from viq.data.synthetic.splits import SPLITS

FACES = find_fonts("train").faces + find_fonts("validation").faces


def clipped(item):
    (left, top, right, bottom), (width, height) = item.box, item.canvas.size
    return left < 0 or top < 0 or right > width or bottom > height


def overlap(first, second):
    """Whether two texts share more than a line of pixels."""
    a, b = first.box, second.box
    across = min(a.right, b.right) - max(a.left, b.left)
    down = min(a.bottom, b.bottom) - max(a.top, b.top)
    return first.canvas is second.canvas and across > 1 and down > 1


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", [task for task in TASKS if task != "pairs"])
def test_texts_are_inside_the_picture_and_apart(task, split, drawn):
    source = SyntheticSource((task,), split, seed=2)
    for k in range(40):
        drawn.clear()
        source[k]
        assert drawn or task == "shapes"
        assert [item.text for item in drawn if clipped(item)] == []
        pairs = [(a.text, b.text) for a, b in combinations(drawn, 2) if overlap(a, b)]
        assert pairs == []


def test_the_checks_above_see_what_is_wrong(drawn):
    canvas, font = Canvas((60, 30), (255, 255, 255)), FACES[0].at(16)
    canvas.text((2, 2), "inside", font, (0, 0, 0))
    canvas.text((40, 15), "outside", font, (0, 0, 0))
    canvas.text((8, 4), "over", font, (0, 0, 0))
    assert [clipped(item) for item in drawn] == [False, True, False]
    assert overlap(drawn[0], drawn[2])


@pytest.mark.parametrize("anchor", ["la", "ma", "ra", "mm", "ls"])
def test_ink_lies_in_the_box_that_text_returns(anchor):
    for face in FACES:
        canvas = Canvas((400, 100), (255, 255, 255))
        box = canvas.text((200, 50), "fjord Quay", face.at(24), (0, 0, 0), anchor)
        left, top, right, bottom = canvas.image().convert("L").point(lambda v: 255 - v).getbbox()
        assert box.left <= left < right <= box.right
        assert box.top <= top < bottom <= box.bottom


def test_upright_ink_lies_in_its_box():
    canvas = Canvas((100, 300), (255, 255, 255))
    box = canvas.upright_text((50, 150), "Quay of ages", FACES[0].at(20), (0, 0, 0))
    left, top, right, bottom = canvas.image().convert("L").point(lambda v: 255 - v).getbbox()
    assert box.left <= left < right <= box.right
    assert box.top <= top < bottom <= box.bottom
    assert box.height > box.width
    assert box.width == line_height(FACES[0].at(20))


def test_wrapped_lines_fit_and_keep_all_words():
    text = "a few words of different length, one of which isverymuchlongerthanthewholeline, end"
    for face in FACES:
        for size, width in ((9, 60), (16, 120), (40, 300)):
            font = face.at(size)
            lines = wrap(text, font, width)
            assert " ".join(lines) == text
            assert all(text_width(line, font) <= width or " " not in line for line in lines)


def test_a_line_is_broken_only_where_the_next_word_does_not_fit():
    text = " ".join(["word"] * 40)
    for face in FACES:
        font = face.at(14)
        lines = wrap(text, font, 200)
        assert all(text_width(f"{line} word", font) > 200 for line in lines[:-1])


def test_shapes_never_cover_texts():
    canvas = Canvas((80, 40), (255, 255, 255))
    canvas.text((10, 10), "text", FACES[0].at(16), (0, 0, 0))
    canvas.rectangle((0, 0, 80, 40), (200, 30, 30))
    assert canvas.image().getextrema()[0][0] < 20


def test_finer_shapes_have_soft_edges_in_the_same_place():
    pictures = []
    for scale in (1, 2):
        canvas = Canvas((64, 64), (255, 255, 255), scale)
        canvas.ellipse((8, 8, 56, 56), (0, 0, 0))
        pictures.append(canvas.image().convert("L"))
    rough, fine = pictures
    assert rough.size == fine.size
    assert len(rough.getcolors()) == 2
    assert len(fine.getcolors()) > 2
    assert fine.point(lambda v: 255 - v).getbbox() == (8, 8, 56, 56)
