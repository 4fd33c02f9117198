"""Pictures side by side in rows and columns, with what is to be said of each."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

GAP = 12  # pixels around each cell
FONT_SIZE = 15
LINE = 22  # pixels from one line of text to the next
INK, PALE = "black", "dimgray"


class Cell(NamedTuple):
    """A picture, or None where there is none, and the line below it."""

    image: Image.Image | None
    caption: str


class Row(NamedTuple):
    """Cells under a title of their own."""

    title: str
    cells: Sequence[Cell]


def shrink(image: Image.Image, side: int) -> Image.Image:
    """The image itself, or one of the same shape whose longer side is ``side``, to be shown."""
    if max(image.size) <= side:
        return image
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def sheet(columns: Sequence[str], rows: Sequence[Row], *, cell_side: int = 320) -> Image.Image:
    """Draws rows of pictures under the columns' names; larger ones are scaled to ``cell_side``.

    Raises:
        ValueError: there are no rows, or one has more or fewer cells than there are columns.
    """
    if not rows:
        raise ValueError("there are no rows to draw.")
    for row in rows:
        if len(row.cells) != len(columns):
            raise ValueError(
                f"row {row.title!r} has {len(row.cells)} cells, but there are {len(columns)}"
                " columns."
            )
    shown = [[cell.image and shrink(cell.image, cell_side) for cell in row.cells] for row in rows]
    heights = [max((image.height for image in images if image), default=LINE) for images in shown]
    width = GAP + len(columns) * (cell_side + GAP)
    # A row is its title, its pictures and their captions.
    height = 2 * GAP + LINE + sum(heights) + len(rows) * (2 * LINE + GAP)
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    lefts = [GAP + index * (cell_side + GAP) for index in range(len(columns))]
    for left, name in zip(lefts, columns, strict=True):
        _write(draw, (left, GAP), name, cell_side, INK)
    top = GAP + LINE
    for row, images, row_height in zip(rows, shown, heights, strict=True):
        _write(draw, (GAP, top), row.title, width - 2 * GAP, PALE)
        for left, image, cell in zip(lefts, images, row.cells, strict=True):
            if image is not None:
                canvas.paste(image, (left, top + LINE))
            _write(draw, (left, top + LINE + row_height + 2), cell.caption, cell_side, INK)
        top += 2 * LINE + row_height + GAP
    return canvas


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, ink: str
) -> None:
    """Writes one line, cut to ``width`` pixels."""
    text = " ".join(text.split())
    if draw.textlength(text, _font()) > width:
        while text and draw.textlength(f"{text}...", _font()) > width:
            text = text[:-1]
        text += "..."
    draw.text(place, text, ink, _font())


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)
