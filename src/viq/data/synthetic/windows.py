"""Windows: their frames, and what contents are painted with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from viq.data.synthetic.canvas import Box, Canvas, Colour, Font, line_height, text_width
from viq.data.synthetic.colours import Theme, mix
from viq.data.synthetic.draws import between, chance, pick
from viq.data.synthetic.kit import Kit, Turn


@dataclass(frozen=True, kw_only=True)
class Style:
    """How windows look."""

    bar: float = 1.6  # height of the title bar, in lines
    coloured: bool = False  # the title bar has the accent colour
    dots: str = ""  # where the window's controls are round: "left" or "right"; "" are signs
    middle: bool = False  # the title is centred
    radius: int = 0  # of corners
    edge: int = 1  # width of the window's edge
    desktop: bool = False  # the window does not fill the screen
    pad: float = 0.6  # around texts, of the font's size


STYLES: dict[str, Style] = {
    "classic": Style(coloured=True, edge=2),
    "flat": Style(bar=1.9, pad=0.8),
    "round": Style(dots="left", middle=True, radius=8, desktop=True),
    "dense": Style(bar=1.3, pad=0.35, coloured=True),
    "tile": Style(bar=1.4, edge=2, middle=True),
    "desk": Style(desktop=True, coloured=True, pad=0.7),
    "touch": Style(bar=2.4, pad=1.1, middle=True, radius=6),
    "card": Style(desktop=True, radius=10, bar=2.0, dots="right"),
    "dock": Style(dots="left", bar=1.5, edge=1, coloured=True),
    "studio": Style(dots="right", bar=1.7, pad=0.5, desktop=True, middle=True),
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """All that content is painted with."""

    style: Style
    theme: Theme
    font: Font
    mono: Font
    large: Font

    @property
    def pad(self) -> int:
        return int(self.font.size * self.style.pad) + 2

    @property
    def high(self) -> int:
        return line_height(self.font)


@dataclass(frozen=True, kw_only=True)
class Pane:
    """What is in a window: how large it is, and what paints it into a box."""

    title: str
    size: tuple[int, int]
    paint: Callable[[Canvas, Box], None]
    turns: list[Turn]


def window(rng: np.random.Generator, look: Look, pane: Pane) -> Canvas | None:
    """The window around its content; None if it would be too large."""
    style, colours = look.style, look.theme
    bar = int(look.high * style.bar)
    controls = 4 * look.high
    width = max(pane.size[0], text_width(pane.title, look.font) + 2 * controls) + 2 * style.edge
    height = pane.size[1] + bar + 2 * style.edge
    around = between(rng, 8, 60) if style.desktop else 0
    total = width + 2 * around, height + 2 * around
    if max(total) > 1000:
        return None
    desktop = mix(colours.accent, colours.background, 0.5) if style.desktop else colours.background
    canvas = Canvas(total, desktop)
    box = Box(around, around, around + width, around + height)
    canvas.rectangle(box, colours.background, colours.edge, style.edge, style.radius)
    top = Box(box.left, box.top, box.right, box.top + bar)
    ground, ink = (
        (colours.accent, colours.accent_ink) if style.coloured else (colours.panel, colours.ink)
    )
    canvas.rectangle(top, ground, radius=style.radius)
    if style.radius:
        canvas.rectangle((top.left, top.bottom - style.radius, top.right, top.bottom), ground)
        canvas.rectangle(box, None, colours.edge, style.edge, style.radius)
    y = top.centre[1]
    if style.middle:
        canvas.text((top.centre[0], y), pane.title, look.font, ink, "mm")
    else:
        x = top.left + (controls if style.dots == "left" else look.pad)
        canvas.text((x, y), pane.title, look.font, ink, "lm")
    _controls(canvas, look, top, ink)
    inner = Box(box.left + style.edge, top.bottom, box.right - style.edge, box.bottom - style.edge)
    pane.paint(canvas, inner)
    return canvas


def _controls(canvas: Canvas, look: Look, bar: Box, ink: Colour) -> None:
    """The buttons that close and hide a window."""
    radius, y = max(3, look.high // 4), bar.centre[1]
    if look.style.dots:
        for k, colour in enumerate(((236, 95, 88), (240, 190, 60), (98, 196, 86))):
            off = look.pad + radius + k * 3 * radius
            x = bar.left + off if look.style.dots == "left" else bar.right - off
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
        return
    x = bar.right - look.pad - radius
    canvas.line([(x - radius, y - radius), (x + radius, y + radius)], ink)
    canvas.line([(x - radius, y + radius), (x + radius, y - radius)], ink)
    x -= 4 * radius
    canvas.rectangle((x - radius, y - radius, x + radius, y + radius), None, ink)
    x -= 4 * radius
    canvas.line([(x - radius, y + radius - 1), (x + radius, y + radius - 1)], ink)


def tab_bar(
    canvas: Canvas,
    look: Look,
    place: tuple[int, int],
    tabs: list[str],
    widths: list[int],
    active: int,
) -> None:
    """Tabs side by side, one of them open."""
    x, y = place
    bar = look.high + 2 * look.pad
    for k, (tab, wide) in enumerate(zip(tabs, widths, strict=True)):
        if k == active:
            canvas.rectangle((x, y, x + wide, y + bar), look.theme.background)
            canvas.rectangle((x, y, x + wide, y + 3), look.theme.accent)
        ink = look.theme.ink if k == active else look.theme.pale_ink
        canvas.text((x + look.pad, y + look.pad), tab, look.font, ink)
        canvas.line([(x + wide - 1, y), (x + wide - 1, y + bar)], look.theme.edge)
        x += wide


def file_name(rng: np.random.Generator, kit: Kit) -> str:
    """A file's name."""
    stem = kit.words.one(rng, pick(rng, ("noun", "noun", "product", "last"))).lower()
    stem += f"{pick(rng, ('', '_', '-'))}{between(rng, 1, 99)}" if chance(rng, 0.4) else ""
    return f"{stem}.{pick(rng, ('txt', 'py', 'csv', 'pdf', 'png', 'md', 'zip', 'json'))}"


def app_name(rng: np.random.Generator, kit: Kit) -> str:
    """A program's name."""
    return kit.words.pseudo(rng).capitalize()
