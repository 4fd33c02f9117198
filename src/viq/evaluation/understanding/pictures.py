"""Pictures with labels for probes: digits, shapes, charts and letters, all drawn or at hand.

They are small squares, of one side a set, so that every source of features sees the same grid and
the cost is known. What is tested is held out: digits are other digits, and fonts, words and styles
are those of the validation split.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from viq.data.synthetic import charts
from viq.data.synthetic.canvas import Canvas, text_width
from viq.data.synthetic.colours import mix, named, theme
from viq.data.synthetic.draws import between, pick, several
from viq.data.synthetic.fonts import find_fonts
from viq.data.synthetic.kit import Kit
from viq.data.synthetic.shapes import OUTLINES, STYLES
from viq.data.synthetic.splits import SPLITS, Split
from viq.data.synthetic.vocabulary import CODE_LETTERS
from viq.data.synthetic.wear import worn
from viq.data.synthetic.words import Words
from viq.evaluation.understanding.digits import read_digits

Size = Literal["quick", "full"]
DIGIT_SIDE, SHAPES_SIDE, CHART_SIDE, LETTERS_SIDE = 64, 96, 128, 128  # pixels
LETTER_CELL = 16  # pixels of a letter's place, which is one patch
SHAPE_CELLS = 2  # along each side

# Pictures to fit on and to test on.
DIGITS = {"quick": (2000, 500), "full": (4000, 1000)}
SHAPES = {"quick": (2000, 500), "full": (8000, 2000)}
CHARTS = {"quick": (800, 300), "full": (4000, 1000)}
LETTERS = {"quick": (200, 100), "full": (800, 400)}


class Labelled(NamedTuple):
    """A picture, and what is to be told of it."""

    id: str
    picture: Image.Image | bytes
    labels: Mapping[str, str]  # by what is asked; of letters, all of them in raster order


@dataclass(frozen=True)
class Sets:
    """Pictures to fit on, and others to test on."""

    train: list[Labelled]
    test: list[Labelled]


def digits(size: Size) -> Sets:
    """Handwritten digits, enlarged."""
    train, test = DIGITS[size]
    found = [
        Labelled(f"digit-{digit.number}", digit.picture(DIGIT_SIDE), {"digit": digit.label})
        for digit in read_digits()
    ]
    return Sets(found[:train], found[-test:])


def shapes(size: Size) -> Sets:
    """One to nine shapes of one kind and colour; styles of test pictures are held out."""
    return _sets(_shapes, *SHAPES[size])


def chart_kinds(size: Size) -> Sets:
    """Charts, squashed to a square; words, fonts and styles of test pictures are held out."""
    return _sets(_chart, *CHARTS[size])


def letters(size: Size) -> Sets:
    """A letter in each patch; fonts of test pictures are held out."""
    return _sets(_letters, *LETTERS[size])


Drawn = tuple[Image.Image, Mapping[str, str]]


def _sets(draw: Callable[[np.random.Generator, Kit], Drawn], train: int, test: int) -> Sets:
    def some(split: Split, count: int) -> list[Labelled]:
        kit = Kit(split=split, fonts=find_fonts(split), words=Words(split=split))
        place = SPLITS.index(split)
        return [
            Labelled(f"{split}-{i}", *draw(np.random.default_rng([0, place, i]), kit))
            for i in range(count)
        ]

    return Sets(some("train", train), some("validation", test))


def _shapes(rng: np.random.Generator, kit: Kit) -> Drawn:
    style, colours = kit.style(rng, STYLES), theme(rng, neutral=True)
    kind, count = pick(rng, tuple(OUTLINES)), between(rng, 1, SHAPE_CELLS**2)
    ((colour, pen),) = named(rng, 1, colours.background)
    canvas = Canvas((SHAPES_SIDE, SHAPES_SIDE), colours.background, scale=2)
    side = SHAPES_SIDE / SHAPE_CELLS
    for place in several(rng, range(SHAPE_CELLS**2), count):
        row, column = divmod(place, SHAPE_CELLS)
        radius = side / 2 * style.size * rng.uniform(0.8, 1)
        x, y = (side * (k + 0.5) + rng.uniform(-1, 1) * (side / 2 - radius) for k in (column, row))
        points = [(x + radius * a, y + radius * b) for a, b in OUTLINES[kind]()]
        if style.shadow:
            grey = mix(colours.background, (90, 90, 90), 0.5)
            canvas.polygon([(a + 2, b + 2) for a, b in points], grey)
        if style.hollow:
            canvas.line([*points, *points[:2]], pen, 2)
        else:
            canvas.polygon(points, pen, colours.ink if style.outline else None, 1)
    picture = worn(rng, canvas).resize(canvas.size)  # a crooked one has become larger
    return picture, {"kind": kind, "colour": colour, "count": str(count)}


def _chart(rng: np.random.Generator, kit: Kit) -> Drawn:
    (picture,), turns = charts.draw(rng, kit)
    (kind,) = (answer for question, answer in turns if question in charts.QUESTIONS["kind"])
    return picture.resize((CHART_SIDE, CHART_SIDE)), {"kind": kind}


def _letters(rng: np.random.Generator, kit: Kit) -> Drawn:
    colours, face = theme(rng), kit.fonts.any(rng)
    size = LETTER_CELL
    while max(text_width(letter, face.at(size)) for letter in CODE_LETTERS) > LETTER_CELL - 1:
        size -= 1
    canvas = Canvas((LETTERS_SIDE, LETTERS_SIDE), colours.background)
    count = LETTERS_SIDE // LETTER_CELL
    text = "".join(pick(rng, CODE_LETTERS) for _ in range(count**2))
    for place, letter in enumerate(text):
        row, column = divmod(place, count)
        at = (LETTER_CELL * column + LETTER_CELL // 2, LETTER_CELL * row + LETTER_CELL // 2)
        canvas.text(at, letter, face.at(size), colours.ink, "mm")
    return canvas.image(), {"letters": text}  # not worn: a crooked one would leave its patches
