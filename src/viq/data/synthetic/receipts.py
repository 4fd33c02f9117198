"""Family receipts: what a till prints, and invoices."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from viq.data.synthetic.canvas import Canvas, Font, line_height, text_width
from viq.data.synthetic.colours import Theme, theme
from viq.data.synthetic.draws import between, chance, pick, scaled
from viq.data.synthetic.kit import Kit, Scene, Turn
from viq.data.synthetic.vocabulary import CURRENCIES
from viq.data.synthetic.wear import worn
from viq.data.synthetic.words import date, money, phone, time

QUESTIONS = {
    "shop": (
        "What is the name of the shop?",
        "Which shop is it from?",
        "Who issued this?",
        "Read the name at the top.",
    ),
    "total": (
        "What is the total?",
        "How much is it in all?",
        "Read the total.",
        "What amount is to be paid?",
    ),
    "subtotal": ("What is the subtotal?", "Read the subtotal.", "How much is the subtotal?"),
    "tax": ("How much is the tax?", "What is the tax?", "Read the amount of tax."),
    "date": (
        "What is the date of the purchase?",
        "When was it issued?",
        "Which date is printed on it?",
    ),
    "time": ("At what time was it printed?", "What is the time of day?", "Read the time."),
    "number": ("What is its number?", "Which number does it have?", 'What stands after "No."?'),
    "amount": (
        "What amount is charged for {item}?",
        "How much is charged for {item}?",
        "Read the amount in the line of {item}.",
    ),
    "unit": (
        "What is the unit price of {item}?",
        "How much is a single one of {item}?",
        "Read the unit price of {item}.",
    ),
    "quantity": (
        "What quantity of {item} was bought?",
        "How many of {item} were bought?",
        "Read the quantity of {item}.",
    ),
    "lines": (
        "How many different items were bought?",
        "Count the lines with items.",
        "How many kinds of goods are listed?",
    ),
    "dearest": (
        "For which item is the largest amount charged?",
        "Which line has the largest amount of all items?",
        "On which item was most spent?",
    ),
    "cash": ("How much cash was given?", "Read the cash amount.", "What was paid in cash?"),
    "change": ("How much is the change?", "What was given back?", "Read the amount of change."),
    "customer": ("To whom is it billed?", "Who is the customer?", "Whose name is under the title?"),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a receipt is printed."""

    rule: str = ""  # printed between its parts, often; "_" is a line and "" a gap
    middle: bool = True  # the shop's name and address are centred
    leaders: bool = False  # dots from names to amounts
    capitals: bool = False
    banner: bool = False  # the shop's name is on a bar of the accent colour
    frame: bool = False
    torn: bool = False  # the lower edge is a zigzag
    boxed: bool = False  # a box around the total


STYLES: dict[str, Style] = {
    "till": Style(rule="-"),
    "double": Style(rule="=", capitals=True),
    "star": Style(rule="*"),
    "shop": Style(rule="_", banner=True),
    "cafe": Style(leaders=True, middle=True),
    "bill": Style(rule="_", middle=False, frame=True),
    "ticket": Style(rule=".", torn=True),
    "market": Style(rule="-", torn=True, capitals=True, boxed=True),
    "hotel": Style(rule="_", boxed=True, middle=False, banner=True),
    "modern": Style(middle=False, boxed=True),
}


class Item(NamedTuple):
    """A line of a receipt, in cents."""

    name: str
    quantity: int
    unit: int

    @property
    def amount(self) -> int:
        return self.quantity * self.unit


class Row(NamedTuple):
    """A printed line."""

    kind: str  # head, title, plain, cells, total or rule
    cells: tuple[str, ...] = ()


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws one receipt or invoice."""
    style = kit.style(rng, STYLES)
    rows, turns = _till(rng, kit) if chance(rng, 0.65) else _invoice(rng, kit)
    if style.capitals:
        rows = [Row(row.kind, tuple(cell.upper() for cell in row.cells)) for row in rows]
        turns = [(question, answer.upper()) for question, answer in turns]
    face = kit.fonts.mono(rng) if chance(rng, 0.5) else kit.fonts.full(rng)
    size = scaled(rng, 9, 24)
    leading = rng.uniform(1.0, 1.4)
    while True:
        canvas = _printed(
            rng, theme(rng), style, rows, face.at(size), face.at(size * 3 // 2), leading
        )
        if canvas is not None:
            return Scene([worn(rng, canvas)], turns)
        size = size * 5 // 6


def _goods(rng: np.random.Generator, kit: Kit) -> list[Item]:
    names = kit.words.different(rng, "product", between(rng, 1, 9))
    high = pick(rng, (300, 2000, 20000))
    return [
        Item(
            name.capitalize(), between(rng, 2, 9) if chance(rng, 0.3) else 1, between(rng, 20, high)
        )
        for name in names
    ]


def _shared(
    rng: np.random.Generator, kit: Kit, items: list[Item], shop: str, total: str, day: str
) -> list[Turn]:
    """What can be asked about receipts and invoices alike."""
    turns = [
        (kit.ask(rng, QUESTIONS["shop"]), shop),
        (kit.ask(rng, QUESTIONS["total"]), total),
        (kit.ask(rng, QUESTIONS["date"]), day),
        (kit.ask(rng, QUESTIONS["lines"]), str(len(items))),
    ]
    amounts = [item.amount for item in items]
    if len(items) > 1 and amounts.count(max(amounts)) == 1:
        answer = items[amounts.index(max(amounts))].name
        turns.append((kit.ask(rng, QUESTIONS["dearest"]), answer))
    return turns


def _shop(rng: np.random.Generator, kit: Kit) -> str:
    kind = pick(rng, ("Market", "Store", "Shop", "Cafe", "Supplies", "Ltd", "& Co"))
    word = (
        kit.words.pseudo(rng)
        if chance(rng, 0.4)
        else kit.words.one(rng, pick(rng, ("noun", "last")))
    )
    return f"{word.capitalize()} {kind}"


def _till(rng: np.random.Generator, kit: Kit) -> tuple[list[Row], list[Turn]]:
    items, currency = _goods(rng, kit), pick(rng, CURRENCIES)
    shop, day, clock, nr = _shop(rng, kit), date(rng), time(rng), f"{between(rng, 100, 99999)}"
    price = currency if chance(rng, 0.5) else ""
    total = sum(item.amount for item in items)
    rows = [Row("head", (shop,)), Row("plain", (kit.words.street(rng),))]
    rows += [Row("plain", (kit.words.one(rng, "city"),))] * chance(rng, 0.6)
    rows += [Row("plain", (f"Tel. {phone(rng)}",))] * chance(rng, 0.4)
    rows += [Row("rule"), Row("cells", (day, clock)), Row("cells", ("No.", nr)), Row("rule")]
    turns = _shared(rng, kit, items, shop, money(total, currency), day)
    turns.append((kit.ask(rng, QUESTIONS["time"]), clock))
    turns.append((kit.ask(rng, QUESTIONS["number"]), nr))
    for item in items:
        name = f"{item.quantity} x {item.name}" if item.quantity > 1 else item.name
        rows.append(Row("cells", (name, money(item.amount, price))))
    asked = pick(rng, items)
    question = kit.ask(rng, QUESTIONS["amount"], item=asked.name)
    turns.append((question, money(asked.amount, price)))
    if asked.quantity > 1:
        question = kit.ask(rng, QUESTIONS["quantity"], item=asked.name)
        turns.append((question, str(asked.quantity)))
    rows.append(Row("rule"))
    if chance(rng, 0.5):
        tax = total * pick(rng, (5, 7, 8, 10, 19, 20)) // 100
        subtotal = money(total - tax, price)
        rows += [Row("cells", ("Subtotal", subtotal)), Row("cells", ("Tax", money(tax, price)))]
        turns.append((kit.ask(rng, QUESTIONS["subtotal"]), subtotal))
        turns.append((kit.ask(rng, QUESTIONS["tax"]), money(tax, price)))
    rows.append(Row("total", ("Total", money(total, currency))))
    if chance(rng, 0.4):
        given = (total // 500 + between(rng, 1, 3)) * 500
        rows.append(Row("cells", ("Cash", money(given, price))))
        rows.append(Row("cells", ("Change", money(given - total, price))))
        turns.append((kit.ask(rng, QUESTIONS["cash"]), money(given, price)))
        turns.append((kit.ask(rng, QUESTIONS["change"]), money(given - total, price)))
    if chance(rng, 0.5):
        thanks = ("Thank you!", "Please come again", "Have a nice day")
        rows += [Row("rule"), Row("plain", (pick(rng, thanks),))]
    return rows, turns


def _invoice(rng: np.random.Generator, kit: Kit) -> tuple[list[Row], list[Turn]]:
    items, currency = _goods(rng, kit), pick(rng, CURRENCIES)
    shop, day, customer = _shop(rng, kit), date(rng), kit.words.person(rng)
    nr = f"{between(rng, 2015, 2030)}-{between(rng, 1, 999):03d}"
    total = sum(item.amount for item in items)
    rows = [Row("head", (shop,)), Row("plain", (kit.words.street(rng),)), Row("rule")]
    rows += [Row("title", ("Invoice",)), Row("plain", (customer,))]
    rows += [Row("cells", ("No.", nr)), Row("cells", ("Date", day)), Row("rule")]
    rows.append(Row("cells", ("Item", "Qty", "Price", "Amount")))
    for item in items:
        amounts = money(item.unit, ""), money(item.amount, "")
        rows.append(Row("cells", (item.name, str(item.quantity), *amounts)))
    rows += [Row("rule"), Row("total", ("Total", money(total, currency)))]
    turns = _shared(rng, kit, items, shop, money(total, currency), day)
    turns.append((kit.ask(rng, QUESTIONS["number"]), nr))
    turns.append((kit.ask(rng, QUESTIONS["customer"]), customer))
    asked = pick(rng, items)
    for key, answer in (
        ("quantity", str(asked.quantity)),
        ("unit", money(asked.unit, "")),
        ("amount", money(asked.amount, "")),
    ):
        turns.append((kit.ask(rng, QUESTIONS[key], item=asked.name), answer))
    return rows, turns


def _printed(
    rng: np.random.Generator,
    theme: Theme,
    style: Style,
    rows: list[Row],
    font: Font,
    large: Font,
    leading: float,
) -> Canvas | None:
    """The receipt; None if it would be too high."""
    size = int(font.size)
    fonts = {"head": large, "title": large, "total": large if style.boxed else font}
    gap = 2 * size
    table = [row.cells for row in rows if len(row.cells) == 4]
    columns = [max(text_width(cells[k], font) for cells in table) for k in range(4 * bool(table))]
    widths = [sum(columns) + 3 * gap]
    for row in rows:
        if len(row.cells) in (1, 2):
            needed = [text_width(cell, fonts.get(row.kind, font)) for cell in row.cells]
            widths.append(sum(needed) + gap * (len(needed) - 1) + gap * style.boxed)
    width = max(widths) + between(rng, 0, 4 * size)
    margin = between(rng, size // 2 + 8 * style.torn, 2 * size + 8)
    steps = [int(line_height(fonts.get(row.kind, font)) * leading) for row in rows]
    steps = [
        step + (size * 3 // 4) * (row.kind == "total" and style.boxed)
        for row, step in zip(rows, steps, strict=True)
    ]
    total = width + 2 * margin, sum(steps) + 2 * margin
    if max(total) > 1000:
        return None
    canvas = Canvas(total, theme.background)
    if style.torn:
        teeth = max(4, total[0] // 10)
        edge = [(k * total[0] / teeth, total[1] - 6 * (k % 2)) for k in range(teeth + 1)]
        canvas.polygon([*edge, (total[0], total[1] + 9), (0, total[1] + 9)], theme.edge)
    if style.frame:
        canvas.rectangle((2, 2, total[0] - 2, total[1] - 2), None, theme.edge)
    left, right, y = margin, margin + width, margin
    for (kind, cells), high in zip(rows, steps, strict=True):
        at, ink = fonts.get(kind, font), theme.ink
        middle = (left + right) // 2
        if kind == "rule" and style.rule == "_":
            canvas.line([(left, y + high // 2), (right, y + high // 2)], theme.edge)
        elif kind == "rule" and style.rule:
            count = int(width / font.getlength(style.rule))
            canvas.text((left, y), style.rule * count, font, theme.pale_ink)
        elif kind == "head" and style.banner:
            canvas.rectangle((left - margin // 2, y, right + margin // 2, y + high), theme.accent)
            canvas.text((middle, y), cells[0], at, theme.accent_ink, "ma")
        elif len(cells) == 1:
            place = (middle, y) if style.middle or kind == "title" else (left, y)
            canvas.text(place, cells[0], at, ink, "ma" if place[0] == middle else "la")
        elif len(cells) == 4:
            x = right
            for text, w in zip(cells[:0:-1], columns[:0:-1], strict=True):
                canvas.text((x, y), text, at, ink, "ra")
                x -= w + gap
            canvas.text((left, y), cells[0], at, ink)
        elif cells:
            _pair(canvas, theme, style, (kind, cells), at, (left, y, right, y + high))
        y += high
    return canvas


def _pair(
    canvas: Canvas,
    theme: Theme,
    style: Style,
    row: tuple[str, tuple[str, ...]],
    font: Font,
    box: tuple[int, int, int, int],
) -> None:
    """A name and its amount, at both ends of a line."""
    kind, (name, amount) = row
    left, y, right, bottom = box
    if kind == "total" and style.boxed:
        canvas.rectangle((left, y, right, bottom - 2), theme.panel, theme.edge)
        left, right = left + int(font.size) // 2, right - int(font.size) // 2
        y += (bottom - 2 - y - line_height(font)) // 2
    canvas.text((left, y), name, font, theme.ink)
    canvas.text((right, y), amount, font, theme.ink, "ra")
    if style.leaders and kind == "cells":
        dot = font.getlength(".")
        start, end = left + text_width(name, font) + dot, right - text_width(amount, font) - dot
        canvas.text((int(start), y), "." * int((end - start) / dot), font, theme.pale_ink)
