"""Charts without their data: axes, labels, legend and title."""

from dataclasses import dataclass

from viq.data.synthetic.canvas import Box, Canvas, Colour, Font, line_height, text_width
from viq.data.synthetic.colours import Theme, mix


@dataclass(frozen=True, kw_only=True)
class Style:
    """What is around the data."""

    box: bool = False  # all four sides of the plot have a line, instead of two
    grid: str = ""  # "y" or "xy"
    shade: bool = False  # the plot is darker than the page
    legend: str = "right"  # or "top" or "bottom"
    left: bool = False  # the title begins at the left
    values: bool = False  # bars carry their values
    outline: bool = False  # around bars and slices
    wide: float = 0.7  # of bars, in their place's width


STYLES: dict[str, Style] = {
    "plain": Style(),
    "grid": Style(grid="y", legend="bottom"),
    "boxed": Style(box=True, grid="xy"),
    "shaded": Style(shade=True, grid="xy", legend="right"),
    "labelled": Style(values=True, legend="top"),
    "news": Style(left=True, grid="y", legend="top", wide=0.85),
    "outlined": Style(outline=True, box=True, legend="bottom"),
    "slim": Style(wide=0.4, values=True, left=True),
    "paper": Style(box=True, outline=True, legend="top", grid="y", wide=0.5),
    "office": Style(grid="y", legend="right", values=True, wide=0.6),
}

Label = tuple[str, float]  # a text and its place along an axis, from 0 to 1


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Texts around the data."""

    title: str
    x_label: str = ""
    y_label: str = ""
    bottom: tuple[Label, ...] = ()
    left: tuple[Label, ...] = ()
    legend: tuple[tuple[str, Colour], ...] = ()
    round: bool = False  # the plot is as wide as high
    x_grid: bool = False  # the labels below are values


def framed(
    style: Style, theme: Theme, frame: Frame, fonts: tuple[Font, Font], plot: tuple[int, int]
) -> tuple[Canvas, Box]:
    """A canvas with everything but the data, and the place for these."""
    font, large = fonts
    size, high = int(font.size), line_height(font)
    pad, margin = size // 2 + 2, size
    slot = max((text_width(text, font) for text, _ in frame.bottom), default=0) + size
    width = max(plot[0], slot * len(frame.bottom))
    height = max(plot[1], 2 * high * len(frame.left), 2 * high + text_width(frame.y_label, font))
    if frame.round:
        width = height = max(100, min(plot), 9 * size)
    entries = [text_width(name, font) + 2 * size + pad for name, _ in frame.legend]
    beside = bool(entries) and style.legend == "right"
    rows = 0 if beside or not entries else -(-sum(entries) // max(width, *entries, 1))
    rows = len(entries) if rows > 1 else rows  # one row, or one entry a row
    left = margin + (high + pad) * bool(frame.y_label)
    left += max((text_width(text, font) + pad for text, _ in frame.left), default=0)
    left += slot // 2 if frame.x_grid else 0
    top = margin + line_height(large) + size
    legend_top = top
    top += (high * rows + pad) if style.legend == "top" else 0
    bottom = top + height + (high + pad) * bool(frame.bottom)
    label_y = bottom
    bottom += (high + pad) * bool(frame.x_label)
    if style.legend == "bottom":
        legend_top = bottom + pad
        bottom = legend_top + high * rows
    right = left + width + (pad + max(entries) if beside else slot // 2 if frame.x_grid else 0)
    right = max(
        right, left + max((w for w in entries), default=0), left + text_width(frame.x_label, font)
    )
    total = max(right + margin, text_width(frame.title, large) + 2 * margin)
    canvas = Canvas((total, bottom + margin), theme.background, scale=2)
    box = Box(left, top, left + width, top + height)
    anchor = (margin, "la") if style.left else (total // 2, "ma")
    canvas.text((anchor[0], margin), frame.title, large, theme.ink, anchor[1])
    if frame.left or frame.bottom:
        _axes(canvas, style, theme, frame, box)
    for text, place in frame.bottom:
        x = box.left + round(place * box.width)
        canvas.text((x, box.bottom + pad), text, font, theme.ink, "ma")
    for text, place in frame.left:
        y = box.bottom - round(place * box.height)
        canvas.text((box.left - pad, y), text, font, theme.ink, "rm")
    if frame.x_label:
        canvas.text((box.centre[0], label_y), frame.x_label, font, theme.pale_ink, "ma")
    if frame.y_label:
        canvas.upright_text(
            (margin + high // 2, box.centre[1]), frame.y_label, font, theme.pale_ink
        )
    x, y = (box.right + pad, box.top) if beside else (box.left, legend_top)
    for (name, colour), entry in zip(frame.legend, entries, strict=True):
        inner = (x, y + (high - size) // 2, x + size, y + (high + size) // 2)
        canvas.rectangle(inner, colour)
        canvas.text((x + size + pad, y), name, font, theme.ink)
        x, y = (x, y + high) if beside or rows > 1 else (x + entry, y)
    return canvas, box


def _axes(canvas: Canvas, style: Style, theme: Theme, frame: Frame, box: Box) -> None:
    if style.shade:
        canvas.rectangle(box, theme.panel)
    faint = mix(theme.background, theme.ink, 0.22)
    heights = [box.bottom - place * box.height for _, place in frame.left]
    places = [box.left + place * box.width for _, place in frame.bottom]
    if style.grid == "xy" or (style.grid and not frame.x_grid):
        for y in heights:
            canvas.line([(box.left, y), (box.right, y)], faint)
    if style.grid == "xy" or (style.grid and frame.x_grid):
        for x in places:
            canvas.line([(x, box.top), (x, box.bottom)], faint)
    for y in heights:
        canvas.line([(box.left - 4, y), (box.left, y)], theme.edge)
    for x in places:
        canvas.line([(x, box.bottom), (x, box.bottom + 4)], theme.edge)
    if style.box:
        canvas.rectangle(box, None, theme.edge)
    canvas.line([(box.left, box.top), (box.left, box.bottom)], theme.edge)
    canvas.line([(box.left, box.bottom), (box.right, box.bottom)], theme.edge)
