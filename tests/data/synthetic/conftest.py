"""What the tests of synthetic pictures share: a record of every text that is drawn."""

from dataclasses import dataclass

import pytest

from viq.data.synthetic.canvas import Box, Canvas


@dataclass(frozen=True)
class Drawn:
    canvas: Canvas
    text: str
    box: Box
    font: str


@pytest.fixture
def drawn(monkeypatch) -> list[Drawn]:
    """Grows by what is drawn during the test."""
    record = []

    def recording(method):
        def draw(self, place, text, font, *args, **kwargs):
            box = method(self, place, text, font, *args, **kwargs)
            record.append(Drawn(self, text, box, font.path))
            return box

        return draw

    for name in ("text", "upright_text"):
        monkeypatch.setattr(Canvas, name, recording(getattr(Canvas, name)))
    return record
