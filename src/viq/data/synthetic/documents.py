"""Family documents: articles, letters, memos, lists and the like, in one or two columns."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from viq.data.synthetic.colours import theme
from viq.data.synthetic.draws import between, chance, pick, scaled
from viq.data.synthetic.kit import Kit, Scene, Turn, ordinal
from viq.data.synthetic.pages import STYLES, Block, typeset
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
        'What follows "{label}:"?',
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
class Content:
    """What a document says, before it is set."""

    blocks: list[Block]
    turns: list[Turn]
    columns: int = 1
    prose: bool = False  # consists of paragraphs, which can be counted


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
        faces = face, heading
        page = typeset(content.blocks, content.columns, style, colours, faces, size, letters)
        if max(page.size) <= 960 or size <= 9:
            break
        size = max(9, size * 6 // 7)
    turns = list(content.turns)
    header = header if page.has_room_for(header, number) else ""
    if style.header or style.folio:
        turns.append((kit.ask(rng, QUESTIONS["page"]), number))
    if header:
        turns.append((kit.ask(rng, QUESTIONS["header"]), header))
    if content.columns == 1 and not style.header:
        nth = between(rng, 1, min(12, len(page.lines)))
        question = kit.ask(rng, QUESTIONS["line"], number=nth, ordinal=ordinal(nth))
        turns.append((question, page.lines[nth - 1][2]))
    turns += _about_words(rng, kit, content, header)
    turns += _about_paragraphs(rng, kit, content)
    return Scene([worn(rng, page.painted(header, number))], turns)


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
