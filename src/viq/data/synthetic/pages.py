"""Pages of a document: blocks of text set in lines, in one or two columns."""

from dataclasses import dataclass, field
from typing import NamedTuple

from viq.data.synthetic.canvas import Canvas, Colour, Font, line_height, text_width, wrap
from viq.data.synthetic.colours import Theme
from viq.data.synthetic.fonts import Face


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a page is set."""

    middle: bool = False  # the heading is centred
    rule: bool = False  # a line under the heading
    bar: bool = False  # the heading stands on a bar of the accent colour
    indent: bool = False  # paragraphs begin indented, instead of after a gap
    frame: bool = False  # a line around the page
    header: bool = False  # a running header with the page number
    folio: bool = False  # the page number stands at the foot
    larger: float = 1.4  # the heading's size to the text's
    margin: float = 1.5  # of the text's size
    leading: float = 1.1  # from line to line, of a line's height


STYLES: dict[str, Style] = {
    "plain": Style(),
    "centred": Style(middle=True, folio=True),
    "ruled": Style(rule=True, larger=1.6),
    "barred": Style(bar=True, larger=1.3),
    "framed": Style(frame=True, middle=True, margin=2.0),
    "book": Style(header=True, indent=True, middle=True, margin=2.5),
    "novel": Style(indent=True, folio=True, larger=1.8, leading=1.2),
    "dense": Style(margin=0.6, leading=1.08, larger=1.1, indent=True),
    "airy": Style(margin=3.0, leading=1.5, larger=2.0, folio=True),
    "report": Style(rule=True, header=True, larger=1.5),
    "poster": Style(middle=True, bar=True, larger=2.2, margin=2.0),
}


class Block(NamedTuple):
    """A piece of text that begins on a line of its own."""

    kind: str  # heading, section, paragraph, line or end: a line on the right
    text: str


@dataclass(kw_only=True)
class Page:
    """Lines with their places, and how large they are all together."""

    style: Style
    theme: Theme
    fonts: dict[str, Font]  # of kinds of blocks; "text" is all others', "small" the page number's
    size: tuple[int, int] = (0, 0)  # without header and foot
    lines: list[tuple[int, int, str, Font, Colour]] = field(default_factory=list)
    rules: list[tuple[int, int, int]] = field(default_factory=list)
    bars: list[tuple[int, int, int, int]] = field(default_factory=list)

    @property
    def margin(self) -> int:
        return int(self.fonts["text"].size * self.style.margin)

    def has_room_for(self, header: str, number: str) -> bool:
        """Whether a header and the page number fit beside each other."""
        small = self.fonts["small"]
        both = text_width(header, small) + text_width(number, small) + 3 * int(small.size)
        return both <= self.size[0] - 2 * self.margin

    def painted(self, header: str, number: str) -> Canvas:
        """The page, with a header and its number where the style has them."""
        small, margin, style = self.fonts["small"], self.margin, self.style
        more = line_height(small) + int(small.size)
        top = more if style.header else 0
        width, height = self.size[0], self.size[1] + top + (more if style.folio else 0)
        canvas = Canvas((width, height), self.theme.background)
        if style.frame:
            edge = margin // 3
            canvas.rectangle((edge, edge, width - edge, height - edge), None, self.theme.edge)
        for left, y, right, bottom in self.bars:
            canvas.rectangle((left, y + top, right, bottom + top), self.theme.accent)
        for left, y, right in self.rules:
            canvas.line([(left, y + top), (right, y + top)], self.theme.edge)
        for x, y, text, font, ink in self.lines:
            canvas.text((x, y + top), text, font, ink)
        pale = self.theme.pale_ink
        if style.header:
            canvas.text((width - margin, margin), number, small, pale, "ra")
        elif style.folio:
            canvas.text(
                (width // 2, height - margin - line_height(small)), number, small, pale, "ma"
            )
        if style.header and header:
            canvas.text((margin, margin), header, small, pale)
        return canvas

    def set(self, blocks: list[Block], left: int, top: int, width: int) -> int:
        """Sets the blocks below each other in a column; returns where it ends."""
        y, style = top, self.style
        size = int(self.fonts["text"].size)
        for k, (kind, text) in enumerate(blocks):
            font = self.fonts.get(kind, self.fonts["text"])
            step = int(line_height(font) * style.leading)
            gap = 0 if kind == "line" or (style.indent and kind == "paragraph") else size * 3 // 4
            if k and (kind, blocks[k - 1].kind) == ("paragraph", "line"):
                gap = size * 3 // 4
            y += gap * (k > 0)
            ink = self.theme.ink
            indent = 2 * size if kind == "paragraph" and style.indent else 0
            lines = _indented(text, font, width, indent)
            if kind == "heading" and style.bar:
                inner = (left - size // 2, y, left + width + size // 2, y + step * len(lines))
                self.bars.append((inner[0], inner[1] - size // 4, inner[2], inner[3] + size // 4))
                ink = self.theme.accent_ink
            for n, line in enumerate(lines):
                x = left + (indent if n == 0 else 0)
                spare = width - text_width(line, font)
                x += spare * (kind == "end") + spare // 2 * (kind == "heading" and style.middle)
                self.lines.append((x, y, line, font, ink))
                y += step
            if kind == "heading":
                if style.rule:
                    y += size // 4
                    self.rules.append((left, y, left + width))
                y += size // 2
        return y


def typeset(
    blocks: list[Block],
    columns: int,
    style: Style,
    theme: Theme,
    faces: tuple[Face, Face],
    size: int,
    letters: int,
) -> Page:
    """Sets a page in the faces of text and headings; ``letters`` is about a line's length."""
    face, heading = faces
    fonts = {
        "text": face.at(size),
        "small": face.at(max(9, size * 7 // 8)),
        "heading": heading.at(int(size * style.larger)),
        "section": heading.at(int(size * (1 + style.larger) / 2)),
    }
    page = Page(style=style, theme=theme, fonts=fonts)
    margin, gutter = page.margin, 2 * size
    longest = max(_longest(b.text, fonts.get(b.kind, fonts["text"])) for b in blocks)
    widest = max(  # lines are not broken
        (text_width(b.text, fonts["text"]) for b in blocks if b.kind in ("line", "end")),
        default=0,
    )
    column = int(fonts["text"].getlength("n") * letters / columns)
    column = max(column, longest + 2 * size * style.indent, widest)
    width = column * columns + gutter * (columns - 1)
    y = margin
    if columns == 2:
        y = page.set(blocks[:1], margin, y, width)
        half = (len(blocks) + 1) // 2
        ends = [
            page.set(blocks[1:half], margin, y, column),
            page.set(blocks[half:], margin + column + gutter, y, column),
        ]
        bottom = max(ends)
    else:
        bottom = page.set(blocks, margin, y, width)
    page.size = width + 2 * margin, bottom + margin
    return page


def _longest(text: str, font: Font) -> int:
    """Pixels of a text's widest word."""
    return text_width(max(text.split(), key=font.getlength), font)


def _indented(text: str, font: Font, width: int, indent: int) -> list[str]:
    """The text in lines, the first of which has less room."""
    first = wrap(text, font, width - indent)[0]
    rest = text[len(first) :].strip()
    return [first, *wrap(rest, font, width)]
