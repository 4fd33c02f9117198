"""A picture in the making: shapes, and texts that are measured before they are drawn."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from viq.data.letters import Letter

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont


class Box(NamedTuple):
    """A rectangle in pixels; ``right`` and ``bottom`` are just outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def centre(self) -> tuple[int, int]:
        return (self.left + self.right) // 2, (self.top + self.bottom) // 2

    def inset(self, x: int, y: int | None = None) -> "Box":
        """The box without a margin."""
        y = x if y is None else y
        return Box(self.left + x, self.top + y, self.right - x, self.bottom - y)


def text_width(text: str, font: Font) -> int:
    """Pixels that a line of text takes, with ink that leans over its end."""
    left, _, right, _ = font.getbbox(text, anchor="ls")
    return ceil(right - min(0, left))


def line_height(font: Font) -> int:
    """Pixels from the top of the highest letters to the bottom of the lowest."""
    return sum(font.getmetrics())


def wrap(text: str, font: Font, width: int) -> list[str]:
    """The text in lines of at most ``width`` pixels; only a wider word is longer."""
    lines: list[str] = []
    space, length = font.getlength(" "), 0.0
    for word in text.split():
        wide = font.getlength(word)
        # Measuring whole lines is slow; the sum of words is good enough until a line is near full.
        fits = length + space + wide + font.size <= width
        if lines and (fits or text_width(f"{lines[-1]} {word}", font) <= width):
            lines[-1] += f" {word}"
            length += space + wide
        else:
            lines.append(word)
            length = wide
    return lines


class Canvas:
    """Draws in the picture's pixels, shapes ``scale`` times finer.

    Texts are drawn last, at the final size, so that no shape covers them.
    """

    def __init__(self, size: tuple[int, int], background: Colour, scale: int = 1) -> None:
        self.size = size
        self.background = background
        self.smallest = 1000  # the size of the smallest font so far
        self._scale = scale
        self._image = Image.new("RGB", (size[0] * scale, size[1] * scale), background)
        self._draw = ImageDraw.Draw(self._image)
        self._texts: list[tuple[tuple[int, int], str, Font, Colour, str, Colour | None, int]] = []
        self._upright: list[tuple[tuple[int, int], str, Font, Colour]] = []

    def rectangle(
        self,
        box: Sequence[int],
        fill: Colour | None = None,
        outline: Colour | None = None,
        width: int = 1,
        radius: int = 0,
    ) -> None:
        """A rectangle with round corners where ``radius`` is not 0."""
        radius = min(radius, (box[2] - box[0]) // 2, (box[3] - box[1]) // 2)
        self._draw.rounded_rectangle(
            self._scaled(box), radius * self._scale, fill, outline, width * self._scale
        )

    def ellipse(
        self,
        box: Sequence[int],
        fill: Colour | None = None,
        outline: Colour | None = None,
        width: int = 1,
    ) -> None:
        """An ellipse."""
        self._draw.ellipse(self._scaled(box), fill, outline, width * self._scale)

    def slice(self, box: Sequence[int], start: float, end: float, fill: Colour) -> None:
        """A part of an ellipse; degrees go clockwise from the right."""
        self._draw.pieslice(self._scaled(box), start, end, fill)

    def polygon(
        self,
        points: Sequence[tuple[float, float]],
        fill: Colour | None = None,
        outline: Colour | None = None,
        width: int = 1,
    ) -> None:
        """A polygon."""
        places = [(x * self._scale, y * self._scale) for x, y in points]
        self._draw.polygon(places, fill, outline, width * self._scale)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: int = 1) -> None:
        """Lines from point to point."""
        middle = (self._scale - 1) / 2 if width % 2 else 0
        places = [(x * self._scale + middle, y * self._scale + middle) for x, y in points]
        self._draw.line(places, colour, width * self._scale, "curve" if len(points) > 2 else None)

    def paste(self, image: Image.Image, place: tuple[int, int]) -> None:
        """Another picture; only at scale 1."""
        assert self._scale == 1
        self._image.paste(image, place)

    def text(
        self,
        place: tuple[int, int],
        text: str,
        font: Font,
        colour: Colour,
        anchor: str = "la",
        outline: Colour | None = None,
        stroke: int = 0,
    ) -> Box:
        """One line of text at Pillow's ``anchor``; returns where its ink will be."""
        self._texts.append((place, text, font, colour, anchor, outline, stroke))
        self.smallest = min(self.smallest, int(font.size))
        left, top, right, bottom = font.getbbox(text, anchor=anchor, stroke_width=stroke)
        x, y = place
        return Box(*(ceil(v) for v in (x + left, y + top, x + right, y + bottom)))

    def upright_text(self, centre: tuple[int, int], text: str, font: Font, colour: Colour) -> Box:
        """One line of text from bottom to top; returns where it will be."""
        self._upright.append((centre, text, font, colour))
        self.smallest = min(self.smallest, int(font.size))
        width, height = line_height(font), text_width(text, font)
        left, top = centre[0] - width // 2, centre[1] - height // 2
        return Box(left, top, left + width, top + height)

    def image(self) -> Image.Image:
        """The picture."""
        image = self._image.reduce(self._scale) if self._scale > 1 else self._image
        draw = ImageDraw.Draw(image)
        for place, text, font, colour, anchor, outline, stroke in self._texts:
            draw.text(place, text, colour, font, anchor, stroke_width=stroke, stroke_fill=outline)
        for centre, text, font, colour in self._upright:
            mask = Image.new("L", (text_width(text, font), line_height(font)))
            ImageDraw.Draw(mask).text((0, 0), text, 255, font, "la")
            mask = mask.transpose(Image.Transpose.ROTATE_90)
            place = centre[0] - mask.width // 2, centre[1] - mask.height // 2
            image.paste(colour, place, mask)
        return image

    def letters(self) -> list[Letter]:
        """The middles of all letters of level texts, in the picture's pixels."""
        found: list[Letter] = []
        for (left, top), text, font, _, anchor, _, _ in self._texts:
            ink = font.getbbox(text, anchor=anchor)
            x = left + ink[0] - font.getbbox(text, anchor="la")[0]
            y = top + (ink[1] + ink[3]) / 2
            for letter in text:
                width = font.getlength(letter)
                if letter != " ":
                    found.append((letter, x + width / 2, y))
                x += width
        return found

    def _scaled(self, box: Sequence[int]) -> tuple[int, int, int, int]:
        s = self._scale
        return box[0] * s, box[1] * s, box[2] * s - 1, box[3] * s - 1
