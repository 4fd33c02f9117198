"""Family tables: cells to look up, sums and extremes to find."""

from dataclasses import dataclass

import numpy as np

from viq.data.synthetic.canvas import Box, Canvas, Font, line_height, text_width
from viq.data.synthetic.colours import Theme, theme
from viq.data.synthetic.draws import between, chance, pick, scaled, several
from viq.data.synthetic.kit import Kit, Scene, Turn, ordinal
from viq.data.synthetic.vocabulary import MONTHS
from viq.data.synthetic.wear import worn
from viq.data.synthetic.words import code, date, money

QUESTIONS = {
    "cell": (
        'What is the value of "{column}" for {row}?',
        'What does the table give for {row} under "{column}"?',
        'Look up "{column}" of {row}.',
        'Row {row}, column "{column}": what is there?',
    ),
    "key": (
        'Which row has {value} under "{column}"?',
        'For which row is "{column}" {value}?',
        '"{column}" is {value} in which row?',
    ),
    "place": (
        "What is in row {row}, column {column}? Do not count the header row.",
        "Read the cell in column {column} of row {row} below the header.",
        "Below the header, what does row {row} hold in column {column}?",
    ),
    "most": (
        'Which row has the highest "{column}"?',
        'Where is "{column}" largest?',
        'Find the row with the greatest "{column}".',
    ),
    "least": (
        'Which row has the lowest "{column}"?',
        'Where is "{column}" smallest?',
        'Find the row with the least "{column}".',
    ),
    "sum": (
        'What is the sum of "{column}"?',
        'Add up the column "{column}".',
        'What do all values of "{column}" add up to?',
    ),
    "rows": (
        "How many rows are there below the header?",
        "Count the rows, without the header.",
        "Apart from the header, the table has how many rows?",
    ),
    "columns": (
        "How many columns are there?",
        "Count the columns.",
        "The table has how many columns?",
    ),
    "header": (
        "What is the header of the {ordinal} column?",
        "How is column {number} called?",
        "Read the header of column {number}.",
    ),
    "title": (
        "What is the title of the table?",
        "Which title stands above the table?",
        "Read the table's title.",
    ),
    "row": (
        "Read the row of {row}, with commas between the cells.",
        "List all cells of the row {row}, separated by commas.",
        "What are the cells of the row {row}? Separate them by commas.",
    ),
    "markdown": (
        "Write the table in Markdown.",
        "Transcribe the table as Markdown.",
        "Give me the table in Markdown notation.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """Where a table has lines and shades."""

    rows: bool = False  # lines between rows
    columns: bool = False  # lines between columns
    ends: int = 0  # width of the lines above, below the header and below the table
    box: bool = False  # a line around
    head: bool = False  # the header is on the accent colour
    stripes: bool = False  # every other row is shaded
    first: bool = False  # the first column is shaded
    pad: float = 0.6  # beside texts, of the font's size


STYLES: dict[str, Style] = {
    "grid": Style(rows=True, columns=True, box=True),
    "ruled": Style(ends=2, pad=0.9),
    "striped": Style(stripes=True, head=True),
    "plain": Style(pad=1.2),
    "lined": Style(rows=True, ends=1),
    "boxed": Style(box=True, columns=True, ends=1),
    "headed": Style(head=True, rows=True, box=True),
    "sided": Style(first=True, rows=True, pad=0.8),
    "sheet": Style(rows=True, columns=True, box=True, first=True, pad=0.3),
    "banded": Style(stripes=True, ends=1, pad=1.0),
    "strong": Style(rows=True, columns=True, box=True, head=True, stripes=True),
}

MEASURES = (
    "Price",
    "Count",
    "Score",
    "Weight",
    "Stock",
    "Year",
    "Total",
    "Rank",
    "Sales",
    "Length",
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column; ``values`` are numbers that can be compared, or None."""

    name: str
    cells: list[str]
    values: list[int] | None = None


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws one table."""
    style = kit.style(rng, STYLES)
    columns = _columns(rng, kit)
    title = kit.words.title(rng) if chance(rng, 0.3) else ""
    face = kit.fonts.full(rng)
    bold = kit.fonts.full(rng) if chance(rng, 0.4) else face
    size = scaled(rng, 8, 28)
    while True:
        font, head = face.at(size), bold.at(size)
        pad = int(size * style.pad) + 1
        widths = [_width(column, font, head) + 2 * pad for column in columns]
        step = int(max(line_height(font), line_height(head)) * rng.uniform(1.1, 1.9))
        margin = between(rng, 4, 3 * size)
        above = 2 * line_height(head) if title else 0
        width = max(sum(widths), text_width(title, head)) + 2 * margin
        height = above + step * (len(columns[0].cells) + 1) + 2 * margin
        if max(width, height) <= 1000:
            break
        size = size * 4 // 5
    colours = theme(rng)
    canvas = Canvas((width, height), colours.background)
    if title:
        canvas.text((width // 2, margin), title, head, colours.ink, "ma")
    left = (width - sum(widths)) // 2
    box = Box(left, margin + above, left + sum(widths), height - margin)
    _rule(canvas, style, colours, box, widths, step)
    _write(rng, canvas, style, colours, box, columns, widths, step, (font, head), pad)
    return Scene([worn(rng, canvas)], _turns(rng, kit, columns, title))


def _width(column: Column, font: Font, head: Font) -> int:
    return max(text_width(column.name, head), *(text_width(cell, font) for cell in column.cells))


def _columns(rng: np.random.Generator, kit: Kit) -> list[Column]:
    """A first column of names, and further ones of numbers or texts."""
    kind, name = pick(
        rng,
        (
            ("first", "Name"),
            ("city", "City"),
            ("product", "Item"),
            ("noun", "Thing"),
            ("", "Month"),
        ),
    )
    count = between(rng, 2, 9)
    keys = kit.words.different(rng, kind, count) if kind else several(rng, MONTHS, count)
    keys = [key[0].upper() + key[1:] for key in keys]
    columns = [Column(name=name, cells=keys)]
    names = [*several(rng, MEASURES, 4), kit.words.one(rng, "noun").capitalize()]
    chosen = several(rng, names, between(rng, 1, 4))
    columns += [_numbers(rng, name, len(keys)) for name in chosen]
    if chance(rng, 0.3):
        other = pick(rng, (("Code", code), ("Date", date)))
        columns.append(Column(name=other[0], cells=[other[1](rng) for _ in keys]))
    return columns


def _numbers(rng: np.random.Generator, name: str, count: int) -> Column:
    if name == "Year":
        values = [between(rng, 1900, 2030) for _ in range(count)]
        return Column(name=name, cells=list(map(str, values)), values=values)
    if name == "Rank":
        values = [int(value) + 1 for value in rng.permutation(count)]
        return Column(name=name, cells=list(map(str, values)), values=values)
    high = pick(rng, (20, 100, 1000, 10000))
    values = [between(rng, 0, high) for _ in range(count)]
    if name == "Price":
        currency = pick(rng, ("", "$", "€", "£"))
        return Column(name=name, cells=[money(v, currency) for v in values], values=values)
    if chance(rng, 0.2):
        return Column(name=name, cells=[f"{v / 10:.1f}" for v in values], values=values)
    return Column(name=name, cells=list(map(str, values)), values=values)


def _rule(
    canvas: Canvas, style: Style, colours: Theme, box: Box, widths: list[int], step: int
) -> None:
    """Shades and lines, under the texts."""
    rows = range(box.top + step, box.bottom + 1, step)
    if style.first:
        canvas.rectangle((box.left, box.top, box.left + widths[0], box.bottom), colours.panel)
    if style.stripes:
        for y in rows[1:-1:2]:
            canvas.rectangle((box.left, y, box.right, y + step), colours.panel)
    if style.head:
        canvas.rectangle((box.left, box.top, box.right, box.top + step), colours.accent)
    if style.rows:
        for y in rows[:-1]:
            canvas.line([(box.left, y), (box.right - 1, y)], colours.edge)
    if style.columns:
        for x in np.cumsum(widths)[:-1]:
            x = box.left + int(x)
            canvas.line([(x, box.top), (x, box.bottom - 1)], colours.edge)
    if style.ends:
        for y in (box.top, box.top + step, box.bottom):
            canvas.line([(box.left, y), (box.right - 1, y)], colours.ink, style.ends)
    if style.box:
        canvas.rectangle(box, None, colours.edge)


def _write(
    rng: np.random.Generator,
    canvas: Canvas,
    style: Style,
    colours: Theme,
    box: Box,
    columns: list[Column],
    widths: list[int],
    step: int,
    fonts: tuple[Font, Font],
    pad: int,
) -> None:
    x, aligned = box.left, pick(rng, ("l", "r", "m"))
    for column, width in zip(columns, widths, strict=True):
        anchor = aligned if column.values is not None else "l"
        place = {"l": x + pad, "r": x + width - pad, "m": x + width // 2}[anchor]
        for row, text in enumerate((column.name, *column.cells)):
            ink = colours.accent_ink if style.head and row == 0 else colours.ink
            font = fonts[1] if row == 0 else fonts[0]
            y = box.top + row * step + (step - line_height(font)) // 2
            canvas.text((place, y), text, font, ink, anchor + "a")
        x += width


def _turns(rng: np.random.Generator, kit: Kit, columns: list[Column], title: str) -> list[Turn]:
    def ask(key: str, answer: str, **values: object) -> Turn:
        return kit.ask(rng, QUESTIONS[key], **values), answer

    keys = columns[0].cells
    column, row = pick(rng, columns[1:]), between(rng, 0, len(keys) - 1)
    asked = {"column": column.name, "row": keys[row], "value": column.cells[row]}
    turns = [ask("cell", column.cells[row], **asked)]
    if column.cells.count(column.cells[row]) == 1:
        turns.append(ask("key", keys[row], **asked))
    if (values := column.values) is not None:
        for key, best in (("most", max(values)), ("least", min(values))):
            if values.count(best) == 1:
                turns.append(ask(key, keys[values.index(best)], column=column.name))
        if len(keys) <= 4 and max(values) <= 100 and column.cells == list(map(str, values)):
            turns.append(ask("sum", str(sum(values)), column=column.name))
    nth = between(rng, 1, len(columns))
    turns.append(ask("rows", str(len(keys))))
    turns.append(ask("columns", str(len(columns))))
    turns.append(ask("header", columns[nth - 1].name, number=nth, ordinal=ordinal(nth)))
    turns.append(ask("place", columns[nth - 1].cells[row], row=row + 1, column=nth))
    cells = [column.cells[row] for column in columns]
    if not any("," in cell for cell in cells):  # dates may have one
        turns.append(ask("row", ", ".join(cells), row=keys[row]))
    if title:
        turns.append(ask("title", title))
    if len(keys) * len(columns) <= 15:
        rows = [[c.name for c in columns], ["---"] * len(columns)]
        rows += [[c.cells[k] for c in columns] for k in range(len(keys))]
        turns.append(ask("markdown", "\n".join("| " + " | ".join(r) + " |" for r in rows)))
    return turns
