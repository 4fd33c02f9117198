"""Family words: a word, a number or a few lines on a plain ground or a sign."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from viq.data.synthetic.canvas import Canvas, Font, line_height, text_width
from viq.data.synthetic.colours import Theme, theme
from viq.data.synthetic.draws import between, chance, pick, scaled
from viq.data.synthetic.kit import Kit, Scene, Turn, ordinal
from viq.data.synthetic.vocabulary import CURRENCIES, UNITS
from viq.data.synthetic.wear import worn
from viq.data.synthetic.words import Words, code, date, number, phone, price, time

QUESTIONS = {
    "say": (
        "What does it say?",
        "What is written here?",
        "Read the text.",
        "Which text is in the image?",
        "Transcribe the image.",
        "What can you read?",
    ),
    "line": (
        "What does the {ordinal} line say?",
        "Read line {number}.",
        "What is written in line {number}?",
    ),
    "lines": ("How many lines of text are there?", "Count the lines.", "How many lines are shown?"),
    "first": (
        "What is the first letter?",
        "Which letter does the text begin with?",
        "Name the first letter of the text.",
    ),
    "last": (
        "What is the last letter?",
        "Which letter does the text end with?",
        "Name the last letter of the text.",
    ),
    "spell": (
        "Spell the word, letter by letter.",
        "Write the letters one by one, with spaces between them.",
        "Spell what is written.",
    ),
    "count": (
        "How many letters does the word have?",
        "Count the letters of the word.",
        "How many letters are there?",
    ),
    "words": (
        "How many words are there?",
        "Count the words in the image.",
        "The text has how many words?",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """What the text stands on."""

    margin: float  # of the font's size, at the least
    room: float = 0.0  # more margin, up to so much of the text's size
    plate: bool = False  # on a rectangle of the accent colour
    radius: float = 0.0  # of the plate's corners, in sizes of the font
    frame: int = 0  # lines around the text
    underline: bool = False
    stripes: bool = False  # faint lines across the ground
    outline: bool = False  # hollow letters


STYLES: dict[str, Style] = {
    "tight": Style(margin=0.15),
    "roomy": Style(margin=0.4, room=1.2),
    "plate": Style(margin=0.5, room=0.4, plate=True, radius=0.4),
    "label": Style(margin=0.4, frame=1),
    "sign": Style(margin=0.7, room=0.2, plate=True, frame=1),
    "pill": Style(margin=0.6, plate=True, radius=3.0),
    "underlined": Style(margin=0.5, room=0.6, underline=True),
    "double": Style(margin=0.8, frame=2, room=0.2),
    "striped": Style(margin=0.5, room=0.6, stripes=True),
    "outlined": Style(margin=0.4, room=0.5, outline=True),
    "stamp": Style(margin=0.5, room=0.3, frame=2, underline=True),
}

MIN_SIZE = (64, 32)  # pixels

# What is written, and how often.
CONTENTS: tuple[tuple[float, Callable[[np.random.Generator, Words], str]], ...] = (
    (5, lambda rng, words: words.one(rng, pick(rng, ("noun", "noun", "adjective", "verb")))),
    (3, lambda rng, words: words.pseudo(rng)),
    (1, lambda rng, words: words.one(rng, "city")),
    (1, lambda rng, words: words.person(rng)),
    (2, lambda rng, words: words.title(rng)),
    (1, lambda rng, _: number(rng, between(rng, 1, 7))),
    (1, lambda rng, _: f"{number(rng, between(rng, 1, 4))} {pick(rng, UNITS)}"),
    (1, lambda rng, _: date(rng)),
    (0.5, lambda rng, _: time(rng)),
    (1, lambda rng, _: price(rng, pick(rng, CURRENCIES))),
    (1, lambda rng, _: code(rng)),
    (0.5, lambda rng, _: phone(rng)),
    (0.5, lambda rng, words: words.email(rng)),
    (0.5, lambda rng, words: words.street(rng)),
    (1, lambda rng, words: words.sentence(rng)),
)
_WEIGHTS = np.cumsum([weight for weight, _ in CONTENTS])


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws one line, or a few below each other."""
    style = kit.style(rng, STYLES)
    texts = [written(rng, kit.words) for _ in range(between(rng, 2, 4) if chance(rng, 0.2) else 1)]
    face = kit.fonts.full(rng) if chance(rng, 0.7) else kit.fonts.any(rng)
    if not all(map(face.writes, texts)):
        face = kit.fonts.full(rng)
    size = scaled(rng, 8, 64)
    while _width(texts, font := face.at(size)) > 600:
        size = size * 3 // 4
    canvas = _drawn(rng, theme(rng), style, texts, font)
    return Scene([worn(rng, canvas)], _turns(rng, kit, texts))


def _width(texts: list[str], font: Font) -> int:
    return max(text_width(text, font) for text in texts)


def written(rng: np.random.Generator, words: Words) -> str:
    """A word, a number, a name, a sentence or the like."""
    drawn = rng.random() * _WEIGHTS[-1]
    text = CONTENTS[int(np.searchsorted(_WEIGHTS, drawn, side="right"))][1](rng, words)
    if "@" in text or chance(rng, 0.6):
        return text
    return text.upper() if chance(rng, 0.4) else text[0].upper() + text[1:]


def _drawn(
    rng: np.random.Generator, theme: Theme, style: Style, texts: list[str], font: Font
) -> Canvas:
    size, step = int(font.size), line_height(font) + int(font.size * rng.uniform(0, 0.5))
    width, height = _width(texts, font), step * (len(texts) - 1) + line_height(font)
    gap = int(size * style.margin) + 4 * style.frame + size // 20 + 1
    spare = [
        min(140, int(style.room * rng.random() * side)) for side in (width, width, height, height)
    ]
    left, top = gap + spare[0], gap + spare[2]
    left, top = max(left, (MIN_SIZE[0] - width) // 2), max(top, (MIN_SIZE[1] - height) // 2)
    total = left + width + gap + spare[1], top + height + gap + spare[3]
    total = max(MIN_SIZE[0], total[0]), max(MIN_SIZE[1], total[1])
    canvas = Canvas(total, theme.background, scale=2 if style.radius else 1)
    if style.stripes:
        pitch = between(rng, 4, 24)
        for y in range(pitch, total[1], pitch):
            canvas.line([(0, y), (total[0], y)], theme.panel)
    around = (left - gap // 2, top - gap // 2, left + width + gap // 2, top + height + gap // 2)
    ink = theme.ink
    if style.plate:
        canvas.rectangle(around, theme.accent, radius=int(size * style.radius))
        ink = theme.accent_ink
    for k in range(style.frame):
        box = (around[0] + 3 * k, around[1] + 3 * k, around[2] - 3 * k, around[3] - 3 * k)
        canvas.rectangle(box, None, ink)
    middle = chance(rng, 0.5)
    for k, text in enumerate(texts):
        x = left + ((width - text_width(text, font)) // 2 if middle else 0)
        # Ink may begin left of where the line does.
        x -= min(0, int(font.getbbox(text, anchor="la")[0]))
        y = top + k * step
        if style.outline and size >= 20:  # smaller letters would close
            canvas.text((x, y), text, font, theme.background, outline=ink, stroke=size // 20)
        else:
            canvas.text((x, y), text, font, ink)
        if style.underline:
            y += line_height(font) - 1
            canvas.line([(x, y), (x + text_width(text, font), y)], ink, max(1, size // 16))
    return canvas


def _turns(rng: np.random.Generator, kit: Kit, texts: list[str]) -> list[Turn]:
    def ask(key: str, answer: str, **values: object) -> Turn:
        return kit.ask(rng, QUESTIONS[key], **values), answer

    turns = [ask("say", "\n".join(texts))] * 3
    if len(texts) > 1:
        place = between(rng, 1, len(texts))
        turns = [ask("say", "\n".join(texts)), ask("lines", str(len(texts)))]
        turns.append(ask("line", texts[place - 1], ordinal=ordinal(place), number=place))
    elif texts[0].isalpha():
        turns = [ask("say", texts[0]), ask("spell", " ".join(texts[0]))]
        turns += [ask("first", texts[0][0]), ask("last", texts[0][-1])]
        turns.append(ask("count", str(len(texts[0]))))
    elif texts[0].replace(" ", "").isalpha():
        turns = [ask("say", texts[0]), ask("words", str(len(texts[0].split())))]
    else:
        turns = turns[:1]
    return turns
