"""Reading text in images."""

import pytest
from PIL import Image, ImageDraw, ImageFont

from viq.errors import ModelError
from viq.external import ocr
from viq.external.ocr import _Box, _in_lines, load_ocr


def page(*lines):
    font_manager = pytest.importorskip("matplotlib.font_manager")
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 24)
    image = Image.new("RGB", (420, 60 + 40 * len(lines)), "white")
    draw = ImageDraw.Draw(image)
    for row, pieces in enumerate(lines):
        for left, text in pieces:
            draw.text((left, 20 + 40 * row), text, font=font, fill=(200, 0, 0))
    return image


def test_lines_come_from_top_to_bottom_and_pieces_from_left_to_right():
    pytest.importorskip("rapidocr_onnxruntime")
    read = load_ocr()
    image = page([(20, "Receipt 4711")], [(20, "Total"), (300, "12.50")], [(20, "Thanks")])
    expected = ["Receipt 4711", "Total 12.50", "Thanks"]
    assert read([image, Image.new("RGB", (40, 30))]) == [expected, []]
    assert read([]) == []


def test_its_threads_are_bounded():
    pytest.importorskip("rapidocr_onnxruntime")
    for threads in (1, 10_000):
        engine = load_ocr(threads=threads)._engine
        session = engine.text_rec.session.session
        assert session.get_session_options().intra_op_num_threads == min(
            threads, ocr.os.cpu_count()
        )


def test_the_order_does_not_depend_on_the_order_of_the_boxes():
    boxes = [
        _Box(10, 200, 30, "right"),
        _Box(14, 0, 36, "left"),
        _Box(38, 0, 58, "below"),
        _Box(11, 400, 31, "far"),
    ]
    expected = ["left right far", "below"]
    assert _in_lines(boxes) == _in_lines(boxes[::-1]) == expected
    assert _in_lines([]) == []


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(ocr, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"^PP-OCRv4: .*pip install rapidocr-onnxruntime$"):
        load_ocr()
