"""Family forms: fields and their values, boxes with and without a tick, identity cards."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from viq.data.synthetic.canvas import Canvas, Font, line_height, text_width
from viq.data.synthetic.colours import Theme, mix, theme
from viq.data.synthetic.draws import between, chance, pick, scaled, several
from viq.data.synthetic.kit import Kit, Scene, Turn, ordinal
from viq.data.synthetic.vocabulary import MONTHS
from viq.data.synthetic.wear import worn
from viq.data.synthetic.words import code, date, number, phone

QUESTIONS = {
    "title": (
        "What is the title of the form?",
        "What kind of form is it?",
        "Which title does the form have?",
    ),
    "value": (
        'What is filled in for "{label}"?',
        'What does the field "{label}" hold?',
        'Read the value of "{label}".',
        'What is entered under "{label}"?',
    ),
    "label": (
        'Which field holds "{value}"?',
        'In which field is "{value}" written?',
        '"{value}" is the value of which field?',
    ),
    "empty": (
        "Which field is empty?",
        "Which field was left blank?",
        "Where is nothing filled in?",
    ),
    "fields": (
        "In how many fields has something been written?",
        "Count the fields that are filled in with text.",
        "How many fields have a text filled in?",
    ),
    "ticked": (
        'Is "{option}" ticked?',
        'Is the box for "{option}" checked?',
        'Does the box beside "{option}" have a mark?',
    ),
    "count": (
        "How many boxes are ticked?",
        "Count the checked boxes.",
        "How many of the boxes have a mark?",
    ),
    "options": (
        "How many boxes to tick are there, marked or not?",
        "Count all the check boxes.",
        "What is the number of check boxes?",
    ),
    "option": (
        "Which option is the {ordinal} from the top?",
        "Read the label of check box {number}, from the top.",
        "What stands beside the {ordinal} check box from the top?",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """Where a form has its values."""

    above: bool = False  # labels stand above the values instead of left of them
    field: str = ""  # "box" around, "line" under, "shade" behind the value
    colon: bool = False  # after labels
    columns: int = 1
    photo: bool = False  # an empty portrait beside the fields
    bar: bool = False  # the title is on a bar of the accent colour
    frame: bool = False
    right: bool = False  # labels end where values begin


STYLES: dict[str, Style] = {
    "lines": Style(field="line", colon=True),
    "boxes": Style(field="box"),
    "stacked": Style(above=True, field="box", bar=True),
    "double": Style(above=True, field="line", columns=2),
    "badge": Style(photo=True, colon=True, frame=True, bar=True),
    "passport": Style(photo=True, above=True, frame=True),
    "shaded": Style(field="shade", right=True, colon=True),
    "bare": Style(colon=True),
    "official": Style(field="box", columns=2, above=True, frame=True),
    "framed": Style(field="line", frame=True, right=True),
    "web": Style(field="box", above=True),
}

TITLES = (
    *("Registration", "Application", "Order Form", "Membership Card", "Visitor Pass", "Booking"),
    *("Identity Card", "Delivery Note", "Patient Record", "Request Form", "Entry Form", "Survey"),
)
OPTIONS = (
    *("Urgent", "Paid", "New customer", "Send by email", "Insurance", "Gift", "Smoker", "Member"),
    *("Newsletter", "Parking", "Breakfast", "Pick-up", "Invoice needed", "Over 18"),
)
FIELDS: dict[str, Callable[[np.random.Generator, Kit], str]] = {
    "Name": lambda rng, kit: kit.words.person(rng),
    "Contact": lambda rng, kit: kit.words.person(rng),
    "Birthplace": lambda rng, kit: kit.words.one(rng, "city"),
    "City": lambda rng, kit: kit.words.one(rng, "city"),
    "Address": lambda rng, kit: kit.words.street(rng),
    "Email": lambda rng, kit: kit.words.email(rng),
    "Phone": lambda rng, _: phone(rng),
    "Date": lambda rng, _: date(rng),
    "Date of birth": lambda rng, _: date(rng),
    "Valid until": lambda rng, _: date(rng),
    "Number": lambda rng, _: number(rng, between(rng, 2, 7)),
    "Code": lambda rng, _: code(rng),
    "Room": lambda rng, _: str(between(rng, 1, 499)),
    "Age": lambda rng, _: str(between(rng, 16, 99)),
    "Month": lambda rng, _: pick(rng, MONTHS),
    "Topic": lambda rng, kit: kit.words.title(rng),
    "Product": lambda rng, kit: kit.words.one(rng, "product").capitalize(),
    "Password": lambda rng, kit: kit.words.pseudo(rng),
}


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a form asks and what it was told."""

    title: str
    fields: dict[str, str]  # "" where nothing was filled in
    options: dict[str, bool]


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws one filled form."""
    style = kit.style(rng, STYLES)
    content = _content(rng, kit)
    face, written = kit.fonts.full(rng), kit.fonts.full(rng)
    size, colours = scaled(rng, 9, 24), theme(rng)
    while True:
        fonts = face.at(size), written.at(size), face.at(size * 3 // 2)
        canvas = _drawn(rng, style, colours, content, fonts)
        if canvas is not None:
            return Scene([worn(rng, canvas)], _turns(rng, kit, content))
        size = size * 5 // 6


def _content(rng: np.random.Generator, kit: Kit) -> Content:
    title = pick(rng, TITLES)
    if chance(rng, 0.5):
        title = f"{kit.words.one(rng, 'noun').capitalize()} {title}"
    labels = several(rng, tuple(FIELDS), between(rng, 2, 8))
    fields = {label: FIELDS[label](rng, kit) for label in labels}
    if len(labels) > 2 and chance(rng, 0.3):
        fields[pick(rng, labels)] = ""
    ticks = several(rng, OPTIONS, between(rng, 2, 5)) if chance(rng, 0.45) else []
    return Content(title=title, fields=fields, options={tick: chance(rng, 0.5) for tick in ticks})


def _drawn(
    rng: np.random.Generator,
    style: Style,
    theme: Theme,
    content: Content,
    fonts: tuple[Font, Font, Font],
) -> Canvas | None:
    """The form; None if it would be too large."""
    font, written, large = fonts
    size, high = int(font.size), max(line_height(font), line_height(written))
    pad = max(2, size // 3)
    colon = ":" if style.colon else ""
    labels = [label + colon for label in content.fields]
    value = max(text_width(text or "  ", written) for text in content.fields.values()) + 2 * pad
    value = max(value, 8 * size) + between(rng, 0, 4 * size)
    label = max(text_width(text, font) for text in labels)
    cell = max(label, value) if style.above else label + size + value
    gap = between(rng, size // 2, size * 3 // 2)
    step = (2 * high if style.above else high) + 2 * pad + gap
    margin = between(rng, size, 3 * size)
    photo = 5 * size + margin if style.photo else 0
    columns = style.columns if len(labels) > 2 else 1
    width = max(cell * columns + 2 * size * (columns - 1) + photo, text_width(content.title, large))
    tick = max((text_width(text, font) for text in content.options), default=0) + 2 * size
    width = max(width, tick) + 2 * margin
    rows = -(-len(labels) // columns)
    top = margin + line_height(large) + 2 * pad + size
    lower = max(top + rows * step, top + photo * 4 // 3 if photo else 0)
    height = lower + len(content.options) * (high + pad) + margin
    if max(width, height) > 1000:
        return None
    canvas = Canvas((width, height), theme.background)
    if style.frame:
        canvas.rectangle(
            (3, 3, width - 3, height - 3), None, theme.edge, max(1, size // 8), size // 2
        )
    ink = theme.accent_ink if style.bar else theme.ink
    if style.bar:
        bar = (margin // 2, margin, width - margin // 2, top - size)
        canvas.rectangle(bar, theme.accent)
    canvas.text((margin, margin + pad), content.title, large, ink)
    if style.photo:
        _photo(canvas, theme, (margin, top), 5 * size)
    pen = theme.ink if chance(rng, 0.5) or theme.dark else mix(theme.ink, (20, 40, 160), 0.6)
    for k, (name, text) in enumerate(zip(labels, content.fields.values(), strict=True)):
        x = margin + photo + (k % columns) * (cell + 2 * size)
        y = top + (k // columns) * step
        if style.above:
            canvas.text((x, y), name, font, theme.pale_ink)
            box = (x, y + high, x + value, y + 2 * high + 2 * pad)
        else:
            place = (x + label, y + pad) if style.right else (x, y + pad)
            canvas.text(place, name, font, theme.ink, "ra" if style.right else "la")
            box = (x + label + size, y, x + label + size + value, y + high + 2 * pad)
        _field(canvas, style, theme, box)
        if text:
            canvas.text((box[0] + pad, box[1] + pad), text, written, pen)
    for k, (name, ticked) in enumerate(content.options.items()):
        y = lower + k * (high + pad)
        _tick_box(
            canvas,
            theme,
            (margin, y + (high - size) // 2, margin + size, y + (high + size) // 2),
            ticked,
        )
        canvas.text((margin + 2 * size, y), name, font, theme.ink)
    return canvas


def _field(canvas: Canvas, style: Style, theme: Theme, box: tuple[int, int, int, int]) -> None:
    if style.field == "box":
        canvas.rectangle(box, None, theme.edge)
    elif style.field == "shade":
        canvas.rectangle(box, theme.panel)
    elif style.field == "line":
        canvas.line([(box[0], box[3] - 1), (box[2], box[3] - 1)], theme.edge)


def _photo(canvas: Canvas, theme: Theme, place: tuple[int, int], width: int) -> None:
    """A head and shoulders."""
    (x, y), height = place, width * 5 // 4
    canvas.rectangle((x, y, x + width, y + height), theme.panel, theme.edge)
    skin = mix(theme.panel, theme.ink, 0.4)
    canvas.ellipse((x + width // 3, y + height // 5, x + width * 2 // 3, y + height // 2), skin)
    canvas.slice(
        (x + width // 6, y + height * 3 // 5, x + width * 5 // 6, y + height * 7 // 5 - 1),
        180,
        360,
        skin,
    )


def _tick_box(canvas: Canvas, theme: Theme, box: tuple[int, int, int, int], ticked: bool) -> None:
    left, top, right, _ = box
    canvas.rectangle(box, None, theme.ink, max(1, (right - left) // 12))
    if ticked:
        a, b = (right - left) * 0.25, (right - left) * 0.75
        width = max(2, (right - left) // 7)
        canvas.line([(left + a, top + a), (left + b, top + b)], theme.ink, width)
        canvas.line([(left + a, top + b), (left + b, top + a)], theme.ink, width)


def _turns(rng: np.random.Generator, kit: Kit, content: Content) -> list[Turn]:
    def ask(key: str, answer: str, **values: object) -> Turn:
        return kit.ask(rng, QUESTIONS[key], **values), answer

    turns = [ask("title", content.title)]
    filled = {label: value for label, value in content.fields.items() if value}
    chosen = several(rng, tuple(filled), 3)
    turns += [ask("value", filled[label], label=label) for label in chosen]
    label = pick(rng, tuple(filled))
    if list(filled.values()).count(filled[label]) == 1:
        turns.append(ask("label", label, value=filled[label]))
    turns.append(ask("fields", str(len(filled))))
    if len(filled) < len(content.fields):
        turns.append(ask("empty", next(k for k, v in content.fields.items() if not v)))
    if content.options:
        option = pick(rng, tuple(content.options))
        nth = between(rng, 1, len(content.options))
        turns.append(ask("ticked", "yes" if content.options[option] else "no", option=option))
        turns.append(ask("count", str(sum(content.options.values()))))
        turns.append(ask("options", str(len(content.options))))
        answer = tuple(content.options)[nth - 1]
        turns.append(ask("option", answer, number=nth, ordinal=ordinal(nth)))
    return turns
