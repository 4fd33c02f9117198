"""Family documents: articles, letters, memos, lists and the like, in one or two columns."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from viq.data.synthetic.canvas import Canvas, Colour, Font, line_height, text_width, wrap
from viq.data.synthetic.colours import Theme, theme
from viq.data.synthetic.draws import between, chance, pick, scaled
from viq.data.synthetic.fonts import Face
from viq.data.synthetic.kit import Kit, Scene, Turn, ordinal
from viq.data.synthetic.wear import worn
from viq.data.synthetic.words import date

QUESTIONS = {
    "heading": (
        "What is the heading?",
        "What is the title of the text?",
        "Read the heading.",
        "Which heading stands at the top?",
    ),
    "after": (
        'Which word comes right after "{word}"?',
        'Which word follows "{word}"?',
        'What is the word after "{word}"?',
        '"{word}" is followed by which word?',
    ),
    "before": (
        'Which word comes right before "{word}"?',
        'Which word precedes "{word}"?',
        'What is the word in front of "{word}"?',
    ),
    "line": (
        "Read line {number}, counting every line of text from the top.",
        "What does the {ordinal} line of text from the top say?",
        "Which text is in line {number} from the top?",
    ),
    "paragraphs": (
        "How many paragraphs are there?",
        "Count the paragraphs.",
        "The text has how many paragraphs?",
    ),
    "columns": (
        "In how many columns is the text set?",
        "How many columns of text does the page have?",
        "Count the columns of text.",
    ),
    "paragraph": (
        "Read the {ordinal} paragraph.",
        "What does paragraph {number} say?",
        "Transcribe paragraph {number}.",
    ),
    "opening": (
        "What is the first word of the {ordinal} paragraph?",
        "With which word does paragraph {number} begin?",
        "Paragraph {number} starts with which word?",
    ),
    "all": (
        "Read the whole text.",
        "Transcribe the page.",
        "Write down all the text, paragraph by paragraph.",
    ),
    "page": ("What is the page number?", "Which page is this?", "Read the page number."),
    "header": (
        "What does the running header say?",
        "Read the header at the top of the page.",
        "Which text is in the page's header?",
    ),
    "writer": ("Who wrote the letter?", "Who signed the letter?", "The letter is from whom?"),
    "reader": ("To whom is the letter written?", "Who gets the letter?", "Who is addressed?"),
    "date": ("What is the date?", "Which date is given?", "Read the date."),
    "field": (
        'What is written after "{label}:"?',
        'What does the line "{label}:" say?',
        "What is given under {label}?",
    ),
    "items": (
        "How many items are listed?",
        "Count the items of the list.",
        "How long is the list?",
    ),
    "item": (
        "What is item {number} of the list?",
        "Read the {ordinal} item.",
        "Which item is the {ordinal} one?",
    ),
    "sections": (
        "How many sections with a heading are there?",
        "Count the section headings, without the title.",
        "The page has how many sections?",
    ),
    "section": (
        "What is the {ordinal} section heading?",
        "Read the heading of section {number}.",
        "How is the {ordinal} section called?",
    ),
    "under": (
        'Read the paragraph under "{heading}".',
        'What does the section "{heading}" say?',
        'Transcribe the text below "{heading}".',
    ),
}


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
    "dense": Style(margin=0.6, leading=1.0, larger=1.1, indent=True),
    "airy": Style(margin=3.0, leading=1.5, larger=2.0, folio=True),
    "report": Style(rule=True, header=True, larger=1.5),
    "poster": Style(middle=True, bar=True, larger=2.2, margin=2.0),
}


class Block(NamedTuple):
    """A piece of text that begins on a line of its own."""

    kind: str  # heading, section, paragraph, line or end: a line on the right
    text: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a document says, before it is set."""

    blocks: list[Block]
    turns: list[Turn]
    columns: int = 1
    prose: bool = False  # consists of paragraphs, which can be counted


@dataclass(kw_only=True)
class Page:
    """Lines with their places, as high as they need."""

    style: Style
    theme: Theme
    fonts: dict[str, Font]
    lines: list[tuple[int, int, str, Font, Colour]] = field(default_factory=list)
    rules: list[tuple[int, int, int, int]] = field(default_factory=list)
    bars: list[tuple[int, int, int, int]] = field(default_factory=list)

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
                    self.rules.append((left, y, left + width, y))
                y += size // 2
        return y


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws one page."""
    style = kit.style(rng, STYLES)
    content = pick(rng, KINDS)(rng, kit)
    face, heading = kit.fonts.any(rng), kit.fonts.any(rng)
    if chance(rng, 0.5):
        heading = face
    words = sum(len(block.text.split()) for block in content.blocks)
    size = scaled(rng, 9, 32 if words < 30 else 20 if words < 70 else 15)
    header = kit.words.title(rng) if style.header else ""
    number = str(between(rng, 1, 400))
    letters = between(rng, 16, 44) * content.columns
    colours = theme(rng)
    while True:
        page, total = _set(content, style, colours, face, heading, size, letters)
        if max(total) <= 960 or size <= 9:
            break
        size -= 1
    furniture = []
    font = face.at(max(9, size * 7 // 8))
    margin = int(size * style.margin)
    top = line_height(font) + size if style.header else 0
    bottom = line_height(font) + size if style.folio else 0
    total = (total[0], total[1] + top + bottom)
    turns = list(content.turns)
    if style.header:
        room = total[0] - 2 * margin - text_width(number, font) - 2 * size
        header = header if text_width(header, font) <= room else ""
        furniture.append((total[0] - margin - text_width(number, font), margin, number))
        turns.append((kit.ask(rng, QUESTIONS["page"]), number))
        if header:
            furniture.append((margin, margin, header))
            turns.append((kit.ask(rng, QUESTIONS["header"]), header))
    elif style.folio:
        x = (total[0] - text_width(number, font)) // 2
        furniture.append((x, total[1] - margin - line_height(font), number))
        turns.append((kit.ask(rng, QUESTIONS["page"]), number))
    canvas = Canvas(total, colours.background)
    if style.frame:
        canvas.rectangle(
            (margin // 3, margin // 3, total[0] - margin // 3, total[1] - margin // 3),
            None,
            colours.edge,
        )
    for left, y, right, low in page.bars:
        canvas.rectangle((left, y + top, right, low + top), colours.accent)
    for left, y, right, _ in page.rules:
        canvas.line([(left, y + top), (right, y + top)], colours.edge)
    for x, y, text, font_, ink in page.lines:
        canvas.text((x, y + top), text, font_, ink)
    for x, y, text in furniture:
        canvas.text((x, y), text, font, colours.pale_ink)
    if content.columns == 1 and not style.header:
        nth = between(rng, 1, min(12, len(page.lines)))
        question = kit.ask(rng, QUESTIONS["line"], number=nth, ordinal=ordinal(nth))
        turns.append((question, page.lines[nth - 1][2]))
    turns += _about_words(rng, kit, content, header)
    turns += _about_paragraphs(rng, kit, content)
    return Scene([worn(rng, canvas)], turns)


def _set(
    content: Content, style: Style, theme: Theme, face: Face, heading: Face, size: int, letters: int
) -> tuple[Page, tuple[int, int]]:
    """The page with its size, without header and foot; ``letters`` is about a line's length."""
    fonts = {
        "text": face.at(size),
        "heading": heading.at(int(size * style.larger)),
        "section": heading.at(int(size * (1 + style.larger) / 2)),
    }
    margin, gutter = int(size * style.margin), 2 * size
    longest = max(
        text_width(word, fonts.get(kind, fonts["text"])) + 2 * size * style.indent
        for kind, text in content.blocks
        for word in text.split()
    )
    widest = max(  # lines are not broken
        (text_width(b.text, fonts["text"]) for b in content.blocks if b.kind in ("line", "end")),
        default=0,
    )
    column = int(fonts["text"].getlength("n") * letters / content.columns)
    column = max(column, longest, widest)
    page = Page(style=style, theme=theme, fonts=fonts)
    width = column * content.columns + gutter * (content.columns - 1)
    blocks = list(content.blocks)
    y = margin
    if content.columns == 2:
        y = page.set(blocks[:1], margin, y, width)
        half = (len(blocks) + 1) // 2
        ends = [
            page.set(blocks[1:half], margin, y, column),
            page.set(blocks[half:], margin + column + gutter, y, column),
        ]
        bottom = max(ends)
    else:
        bottom = page.set(blocks, margin, y, width)
    return page, (width + 2 * margin, bottom + margin)


def _indented(text: str, font: Font, width: int, indent: int) -> list[str]:
    """The text in lines, the first of which has less room."""
    first = wrap(text, font, width - indent)[0]
    rest = text[len(first) :].strip()
    return [first, *wrap(rest, font, width)]


def _about_words(rng: np.random.Generator, kit: Kit, content: Content, header: str) -> list[Turn]:
    """The neighbour of a word that is on the page once."""
    every = [_bare(word) for block in content.blocks for word in block.text.split()]
    every += [_bare(word) for word in header.split()]
    sentences = [
        sentence.split()
        for block in content.blocks
        if block.kind == "paragraph"
        for sentence in re.split(r"(?<=[.!?]) ", block.text)
    ]
    found = []
    for words in sentences:
        found += [
            pair for pair in pairwise(words) if all(every.count(_bare(word)) == 1 for word in pair)
        ]
    if not found:
        return []
    first, second = (word.strip(".,") for word in pick(rng, found))
    return [
        (kit.ask(rng, QUESTIONS["after"], word=first), second),
        (kit.ask(rng, QUESTIONS["before"], word=second), first),
    ]


def _bare(word: str) -> str:
    return word.strip(".,:;!?()").lower()


def _about_paragraphs(rng: np.random.Generator, kit: Kit, content: Content) -> list[Turn]:
    """What can be asked about a text of nothing but paragraphs."""
    texts = [block.text for block in content.blocks if block.kind == "paragraph"]
    if not content.prose:
        return []
    turns = [
        (kit.ask(rng, QUESTIONS["paragraphs"]), str(len(texts))),
        (kit.ask(rng, QUESTIONS["columns"]), str(content.columns)),
    ]
    nth = between(rng, 1, len(texts))
    values = {"number": nth, "ordinal": ordinal(nth)}
    if len(texts) > 1:
        opening = texts[nth - 1].split()[0].strip(",")
        turns.append((kit.ask(rng, QUESTIONS["opening"], **values), opening))
        turns.append((kit.ask(rng, QUESTIONS["paragraph"], **values), texts[nth - 1]))
    if sum(len(text.split()) for text in texts) <= 60:
        whole = "\n".join(block.text for block in content.blocks)
        turns.append((kit.ask(rng, QUESTIONS["all"]), whole))
    return turns


def _article(rng: np.random.Generator, kit: Kit) -> Content:
    columns = 2 if chance(rng, 0.3) else 1
    title = kit.words.title(rng)
    count = between(rng, 2, 5) if columns == 2 else between(rng, 1, 4)
    texts = [kit.words.paragraph(rng, between(rng, 1, 4)) for _ in range(count)]
    blocks = [Block("heading", title), *(Block("paragraph", text) for text in texts)]
    turns = [(kit.ask(rng, QUESTIONS["heading"]), title)]
    return Content(blocks=blocks, turns=turns, columns=columns, prose=True)


def _prose(rng: np.random.Generator, kit: Kit) -> Content:
    count = between(rng, 1, 3)
    texts = [kit.words.paragraph(rng, between(rng, 1, 3)) for _ in range(count)]
    return Content(blocks=[Block("paragraph", text) for text in texts], turns=[], prose=True)


def _letter(rng: np.random.Generator, kit: Kit) -> Content:
    writer, reader, day = kit.words.person(rng), kit.words.one(rng, "first"), date(rng)
    body = [kit.words.paragraph(rng, between(rng, 1, 3)) for _ in range(between(rng, 1, 2))]
    blocks = [
        Block("end", day),
        Block("paragraph", pick(rng, ("Dear {},", "Hello {},", "Hi {},")).format(reader)),
        *(Block("paragraph", text) for text in body),
        Block("paragraph", pick(rng, ("Sincerely,", "Best wishes,", "Yours,", "With thanks,"))),
        Block("line", writer),
    ]
    turns = [
        (kit.ask(rng, QUESTIONS["writer"]), writer),
        (kit.ask(rng, QUESTIONS["reader"]), reader),
        (kit.ask(rng, QUESTIONS["date"]), day),
    ]
    return Content(blocks=blocks, turns=turns)


def _memo(rng: np.random.Generator, kit: Kit) -> Content:
    values = {
        "To": kit.words.person(rng),
        "From": kit.words.person(rng),
        "Date": date(rng),
        "Subject": kit.words.title(rng),
    }
    title = pick(rng, ("Memo", "Memorandum", "Note", "Notice"))
    body = [kit.words.paragraph(rng, between(rng, 1, 3)) for _ in range(between(rng, 1, 2))]
    blocks = [
        Block("heading", title),
        *(Block("line", f"{label}: {value}") for label, value in values.items()),
        *(Block("paragraph", text) for text in body),
    ]
    turns = [(kit.ask(rng, QUESTIONS["heading"]), title)]
    for label, value in values.items():
        turns.append((kit.ask(rng, QUESTIONS["field"], label=label), value))
    return Content(blocks=blocks, turns=turns)


def _list(rng: np.random.Generator, kit: Kit) -> Content:
    title = kit.words.title(rng)
    count = between(rng, 2, 9)
    mark = pick(rng, ("-", "{}.", "({})", "{})"))
    kind = pick(rng, ("noun", "product", "city", "title"))
    if kind == "title":
        items = list(dict.fromkeys(kit.words.title(rng) for _ in range(count)))
    else:
        items = kit.words.different(rng, kind, count)
    nth = between(rng, 1, len(items))
    lines = [f"{mark.format(k)} {item}" for k, item in enumerate(items, 1)]
    blocks = [Block("heading", title), *(Block("line", line) for line in lines)]
    question = kit.ask(rng, QUESTIONS["item"], number=nth, ordinal=ordinal(nth))
    turns = [
        (kit.ask(rng, QUESTIONS["heading"]), title),
        (kit.ask(rng, QUESTIONS["items"]), str(len(items))),
        (question, items[nth - 1]),
    ]
    return Content(blocks=blocks, turns=turns)


def _sections(rng: np.random.Generator, kit: Kit) -> Content:
    title = kit.words.title(rng)
    headings = kit.words.different(rng, "noun", between(rng, 2, 4))
    headings = [heading.capitalize() for heading in headings]
    texts = [kit.words.paragraph(rng, between(rng, 1, 2)) for _ in headings]
    blocks = [Block("heading", title)]
    for heading, text in zip(headings, texts, strict=True):
        blocks += [Block("section", heading), Block("paragraph", text)]
    nth = between(rng, 1, len(headings))
    values = {"number": nth, "ordinal": ordinal(nth), "heading": headings[nth - 1]}
    turns = [
        (kit.ask(rng, QUESTIONS["heading"]), title),
        (kit.ask(rng, QUESTIONS["sections"]), str(len(headings))),
        (kit.ask(rng, QUESTIONS["section"], **values), headings[nth - 1]),
        (kit.ask(rng, QUESTIONS["under"], **values), texts[nth - 1]),
    ]
    return Content(blocks=blocks, turns=turns)


KINDS: tuple[Callable[[np.random.Generator, Kit], Content], ...] = (
    *(_article, _article, _prose),
    *(_letter, _memo, _list, _sections),
)
