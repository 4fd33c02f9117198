"""The report as one HTML page, which takes nothing from elsewhere.

All text in it is data: names of models and pictures are escaped, and a policy in the page's head
lets no script run and no style count but its own.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from math import isnan
from pathlib import Path
from string import Template

from viq.evaluation.document import (
    Cell,
    Column,
    Figure,
    Score,
    best_cells,
    cell_text,
    numeric_columns,
    value_of,
)
from viq.evaluation.markup import code_and_text
from viq.evaluation.report.collect import (
    JoinedFigures,
    JoinedTable,
    Note,
    Section,
    Source,
    dates_and_commits,
    sources_of,
)
from viq.evaluation.report.intervals import Interval, Scale, drawing, scales
from viq.evaluation.report.pictures import QUALITY, Packed

READING = (
    "Bold in a tinted cell is the best of a column; ↑ marks columns where higher is better, ↓ where"
    " lower is. Where rows are over different numbers of items, none is the best. Intervals in"
    " brackets cover 95 %."
)
ARROWS = {"higher": ("↑", "higher is better"), "lower": ("↓", "lower is better")}


def page(
    title: str, sections: Sequence[Section], pictures: Mapping[Path, Packed], foot: str
) -> str:
    """The page.

    Args:
        title: of the page.
        sections: what ``collect`` made.
        pictures: by file; of a figure that has none here the caption stands in.
        foot: a line at the end: the command that makes it again.
    """
    many = len(sources_of(sections)) > 1
    writer = _Writer(pictures, many)
    main = "\n".join(writer.section(section) for section in sections)
    style, script = _file("page.css"), _file("page.js")
    return Template(_file("page.html")).substitute(
        title=text(title),
        style=style,
        style_hash=_policy_hash(style),
        script=script,
        script_hash=_policy_hash(script),
        lead=_lead(sections),
        contents=writer.contents(),
        main=main,
        foot=_foot(foot, pictures.values()),
    )


def text(data: str) -> str:
    """Data as HTML text, also inside an attribute; control characters become �."""
    return html.escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "�", data))


def inline(data: str) -> str:
    """Data as HTML text in which what stands between backticks is code."""
    return "".join(
        f"<code>{text(part)}</code>" if is_code else text(part)
        for is_code, part in code_and_text(data)
    )


class _Writer:
    """Writes sections, and keeps what the contents need: the anchors that were given."""

    def __init__(self, pictures: Mapping[Path, Packed], many: bool) -> None:
        self.pictures, self.many = pictures, many  # many: sources need their numbers
        self.entries: list[tuple[str, str, list[tuple[str, str]]]] = []
        self.anchors: set[str] = set()

    def contents(self) -> str:
        items = []
        for anchor, title, below in self.entries:
            inner = "".join(f'<li><a href="#{a}">{text(t)}</a></li>' for a, t in below)
            inner = f"<ul>{inner}</ul>" if inner else ""
            items.append(f'<li><a href="#{anchor}">{text(title)}</a>{inner}</li>')
        return f"<ul>{''.join(items)}</ul>"

    def section(self, section: Section) -> str:
        title = section.kind.capitalize()
        anchor = self._anchor(section.kind)
        self.entries.append((anchor, title, []))
        return "\n".join(
            [
                f'<section aria-labelledby="{anchor}">',
                f'<h2 id="{anchor}">{text(title)}</h2>',
                self._notes(section.notes, section.sources, "notes"),
                *(self._block(table, figures) for table, figures in section.parts()),
                "</section>",
            ]
        )

    def _block(self, table: JoinedTable | None, figures: JoinedFigures | None) -> str:
        """A table, figures, or both under one heading, with where they come from."""
        title = table.table.title if table else figures.title if figures else ""
        anchor = self._anchor(title)
        self.entries[-1][2].append((anchor, title))
        sources = list(table.sources) if table else []
        sources += [source for source, _ in figures.figures] if figures else []
        return "\n".join(
            [
                f'<div class="block">\n<h3 id="{anchor}">{text(title)}</h3>',
                self._table(table, anchor) if table else "",
                self._figures(figures) if figures else "",
                f"{self._sources(tuple(dict.fromkeys(sources)))}\n</div>",
            ]
        )

    def _table(self, joined: JoinedTable, anchor: str) -> str:
        table = joined.table
        best, spans = best_cells(table), scales(table)
        numeric = [False, *numeric_columns(table)[1:]]  # the first names the row
        head = "".join(map(_head, table.columns, numeric))
        body = []
        for r, (row, sources) in enumerate(zip(table.rows, joined.rows, strict=True)):
            name = text(cell_text(row[0], table.columns[0]))
            marks = _marks(sources) if len(joined.sources) > 1 else ""
            cells = [
                _cell(row[i], column, spans.get(i), number=numeric[i], best=(r, i) in best)
                for i, column in enumerate(table.columns)
                if i
            ]
            body.append(f'<tr><th scope="row">{name}{marks}</th>{"".join(cells)}</tr>')
        rows = "\n".join(body)
        return f"""<div class="scroll" role="region" aria-labelledby="{anchor}" tabindex="0">
<table><caption class="hidden">{text(table.title)}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody></table>
</div>
{self._notes(joined.notes, joined.sources, "under")}"""

    def _figures(self, joined: JoinedFigures) -> str:
        marked = len({source for source, _ in joined.figures}) > 1
        shown = [self._figure(source, figure, marked=marked) for source, figure in joined.figures]
        return "\n".join(['<div class="figures">', *shown, "</div>"])

    def _figure(self, source: Source, figure: Figure, *, marked: bool) -> str:
        caption = inline(figure.caption)
        mark = f"{text(source.document.title)}{_marks([source])}. " if marked else ""
        picture = self.pictures.get(source.folder / figure.file)
        if picture is None:
            frame = '<div class="frame missing">This picture could not be read.</div>'
        else:
            frame = (
                f'<div class="frame"><img src="{picture.uri}" width="{picture.width}"'
                f' height="{picture.height}" alt="{text(figure.caption)}"></div>'
            )
        return f"<figure>{frame}<figcaption>{mark}{caption}</figcaption></figure>"

    def _notes(self, notes: Iterable[Note], sources: Sequence[Source], name: str) -> str:
        """Paragraphs; those that are not of all sources say whose they are."""
        shown = [
            f"<p>{inline(note.text)}{_marks(note.sources)}</p>"
            if len(note.sources) < len(sources)
            else f"<p>{inline(note.text)}</p>"
            for note in notes
        ]
        return f'<div class="{name}">{"".join(shown)}</div>\n' if shown else ""

    def _sources(self, sources: Sequence[Source]) -> str:
        numbers = ", ".join(str(source.number) for source in sources) if self.many else ""
        name = f"Source{'s' if len(sources) > 1 else ''} {numbers}".strip()
        items = []
        for source in sources:
            made = source.document.made
            number = f"{source.number}. " if self.many else ""
            items.append(
                f"<li><p><strong>{number}{text(source.document.title)}</strong></p>"
                f"<p><code>{text(made.command)}</code></p><p>{text(made.facts())}</p></li>"
            )
        return (
            f"<details><summary>{name}: {text(dates_and_commits(sources))}</summary>"
            f"<ol>{''.join(items)}</ol></details>"
        )

    def _anchor(self, title: str) -> str:
        """A name for an element: letters, digits and hyphens, of no other element."""
        stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"
        anchor, number = stem, 1
        while anchor in self.anchors | {"main", "contents"}:
            number += 1
            anchor = f"{stem}-{number}"
        self.anchors.add(anchor)
        return anchor


def _marks(sources: Iterable[Source]) -> str:
    numbers = ", ".join(str(source.number) for source in sources)
    return f'<sup><span class="hidden"> source </span>{numbers}</sup>'


def _head(column: Column, number: bool) -> str:
    unit = f' <span class="unit">({text(column.unit)})</span>' if column.unit else ""
    better = arrow = ""
    if column.better is not None:
        sign, words = ARROWS[column.better]
        better = f' data-better="{column.better}"'
        arrow = f'&nbsp;<span aria-hidden="true">{sign}</span><span class="hidden">, {words}</span>'
    kind = "number" if number else "text"
    return f'<th scope="col" class="{kind}"{better}>{text(column.name)}{unit}{arrow}</th>'


def _cell(cell: Cell, column: Column, scale: Scale | None, *, number: bool, best: bool) -> str:
    if cell is None:
        hidden = '<span class="hidden">not measured</span>'
        kind = "number" if number else "text"
        return f'<td class="{kind} none" data-none><span aria-hidden="true">–</span>{hidden}</td>'
    if isinstance(cell, str):
        return f'<td class="{"number" if number else "text"}">{inline(cell)}</td>'
    value = value_of(cell)
    assert value is not None
    shown = _number(replace(cell, low=None, high=None) if isinstance(cell, Score) else cell, column)
    if best:
        shown += '<span class="hidden">, the best</span>'
    if isinstance(cell, Score) and cell.interval is not None:
        if (interval := Interval.of(cell)) is not None and scale is not None:
            shown = drawing(interval, scale) + shown
        low, high = (_number(end, column) for end in cell.interval)
        shown += f' <span class="ends">[{low}, {high}]</span>'
    key = f'data-value="{_script_number(value)}"' if not isnan(value) else "data-none"
    return f'<td class="number{" best" if best else ""}" {key}>{shown}</td>'


def _script_number(value: float) -> str:
    """A number as a script reads it."""
    return repr(value).replace("inf", "Infinity")


def _number(cell: Cell, column: Column) -> str:
    return text(cell_text(cell, column)).replace("-", "\N{MINUS SIGN}")  # as wide as a digit


def _lead(sections: Sequence[Section]) -> str:
    sources = sources_of(sections)
    titles = list(dict.fromkeys(source.document.title for source in sources))
    count = f"{len(sources)} evaluation{'s' if len(sources) > 1 else ''}"
    return (
        f"<p>{count}, {text(dates_and_commits(sources))}: {text('; '.join(titles))}.</p>"
        f"<p>{text(READING)}</p>"
    )


def _foot(made: str, pictures: Iterable[Packed]) -> str:
    if all(picture.exact for picture in pictures):
        return inline(made)
    return (
        f"{inline(made)} Photographs are compressed once more here, as WebP of quality {QUALITY};"
        " the evaluations' own folders have them as they were measured."
    )


def _file(name: str) -> str:
    return (files("viq.evaluation.report") / name).read_text("utf-8")


def _policy_hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
