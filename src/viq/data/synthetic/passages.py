"""Family passages: as much text as the picture holds, large enough to be read letter by letter."""

from collections.abc import Callable

import numpy as np

from viq.data.synthetic.canvas import Canvas, line_height, text_width
from viq.data.synthetic.colours import theme
from viq.data.synthetic.draws import between, chance, scaled
from viq.data.synthetic.kit import Kit, Scene, Turn, ordinal
from viq.data.synthetic.lines import written
from viq.data.synthetic.wear import worn

QUESTIONS = {
    "line": (
        "What does the {ordinal} line say?",
        "Read line {number} of the passage.",
        "Copy line {number}.",
    ),
    "first": (
        "Which word does line {number} begin with?",
        "What is the first word of line {number}?",
    ),
    "last": (
        "Which word does line {number} end with?",
        "What is the last word of line {number}?",
    ),
    "lines": ("How many lines does the passage have?", "Count the lines of the passage."),
}

SMALLEST, LARGEST = 12, 40  # pixels, of the font


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Fills a picture with lines of one font."""
    font = kit.fonts.full(rng).at(scaled(rng, SMALLEST, LARGEST))
    colours, leading = theme(rng), line_height(font) + between(rng, 0, int(font.size) // 3)
    size = between(rng, 128, 384), between(rng, 64, 224)
    left, y = between(rng, 2, 16), between(rng, 0, 12)
    room = size[0] - left - 4
    canvas = Canvas(size, colours.background)
    texts: list[str] = []
    while not texts or (y + line_height(font) <= size[1] and len(texts) < 12):
        text = _line(rng, kit, lambda text: text_width(text, font) <= room)
        # Ink may begin left of where the line does.
        x = left - min(0, int(font.getbbox(text, anchor="la")[0]))
        canvas.text((x, y), text, font, colours.ink)
        texts.append(text)
        y += leading
    return Scene([worn(rng, canvas)], _turns(rng, kit, texts))


def _line(rng: np.random.Generator, kit: Kit, fits: Callable[[str], bool]) -> str:
    """Words and the like until the line is full."""
    text = ""
    while True:
        more = written(rng, kit.words)
        longer = f"{text} {more}" if text else more
        if fits(longer):
            text = longer
        elif text:
            return text
        elif chance(rng, 0.2):  # the room may be too narrow for nearly all there is
            text = str(between(rng, 0, 99))


def _turns(rng: np.random.Generator, kit: Kit, texts: list[str]) -> list[Turn]:
    place = between(rng, 1, len(texts))
    text, words = texts[place - 1], texts[place - 1].split()
    named = {"ordinal": ordinal(place), "number": place}
    turns = [
        (kit.ask(rng, QUESTIONS["line"], **named), text),
        (kit.ask(rng, QUESTIONS["first"], **named), words[0]),
        (kit.ask(rng, QUESTIONS["last"], **named), words[-1]),
    ]
    if chance(rng, 0.3):
        turns.append((kit.ask(rng, QUESTIONS["lines"]), str(len(texts))))
    return turns
