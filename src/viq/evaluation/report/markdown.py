"""The report as Markdown, with its pictures in a folder beside it."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from viq.evaluation.document import Table, cell_text, table_markdown
from viq.evaluation.markup import code, code_and_text
from viq.evaluation.report.collect import (
    JoinedFigures,
    JoinedTable,
    Note,
    Section,
    Source,
    sources_of,
)

MOST_BESIDE = 3  # pictures in one row


def picture_names(sections: Iterable[Section]) -> dict[Path, str]:
    """A name for the picture of each figure, by its file: the kind's and its own."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for section in sections:
        for source in section.sources:
            for figure in source.document.figures:
                stem = re.sub(r"[^\w-]+", "-", f"{section.kind}-{Path(figure.file).stem}")
                name, number = stem, 1
                while name.lower() in taken:
                    number += 1
                    name = f"{stem}-{number}"
                if source.folder / figure.file not in names:
                    taken.add(name.lower())
                    names[source.folder / figure.file] = f"{name}.png"
    return names


def markdown(
    title: str, sections: Sequence[Section], pictures: Mapping[Path, str], made: str
) -> str:
    """The report.

    Args:
        title: its first heading.
        sections: what ``collect`` made.
        pictures: addresses from the Markdown file, by the figures' files; of a figure that has
            none here the caption stands in.
        made: a line below the title: the command that makes it again.
    """
    sources = sources_of(sections)
    writer = _Writer(pictures, many=len(sources) > 1)
    parts = [f"# {_text(title)}", made]
    for section in sections:
        parts += [f"## {_text(section.kind.capitalize())}"]
        parts += writer.notes(section.notes, section.sources)
        for table, figures in section.parts():
            parts += writer.block(table, figures)
    parts += ["## Sources"]
    parts += [
        f"{source.number}. {_text(source.document.title)}  \n   "
        + source.document.made.line().replace("\n", "\n   ")
        for source in sources
    ]
    return "\n\n".join(parts) + "\n"


class _Writer:
    def __init__(self, pictures: Mapping[Path, str], *, many: bool) -> None:
        self.pictures, self.many = pictures, many

    def block(self, table: JoinedTable | None, figures: JoinedFigures | None) -> list[str]:
        """A table, figures, or both under one heading, with where they come from."""
        title = table.table.title if table else figures.title if figures else ""
        sources = list(table.sources) if table else []
        sources += [source for source, _ in figures.figures] if figures else []
        return [
            f"### {_text(title)}",
            *(self._table(table) if table else []),
            *(self._figures(figures) if figures else []),
            *self._from(tuple(dict.fromkeys(sources))),
        ]

    def _table(self, joined: JoinedTable) -> list[str]:
        table = _marked(joined) if len(joined.sources) > 1 else joined.table
        return [table_markdown(table), *self.notes(joined.notes, joined.sources)]

    def _figures(self, joined: JoinedFigures) -> list[str]:
        marked = len({source for source, _ in joined.figures}) > 1
        shown = []
        for source, figure in joined.figures:
            caption = _text(figure.caption)
            name = f"{_text(source.document.title)} {_numbers([source])}: " if marked else ""
            address = self.pictures.get(source.folder / figure.file)
            picture = (
                f"![{caption}]({quote(address)})"
                if address
                else "(This picture could not be read.)"
            )
            shown.append((picture, f"*{name}{caption}*"))
        if not 1 < len(shown) <= MOST_BESIDE:
            return [part for pair in shown for part in pair]
        lines = [[picture for picture, _ in shown], ["---"] * len(shown), [c for _, c in shown]]
        return ["\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)]

    def notes(self, notes: Iterable[Note], sources: Sequence[Source]) -> list[str]:
        return [
            f"{_prose(note.text)} {_numbers(note.sources)}"
            if len(note.sources) < len(sources)
            else _prose(note.text)
            for note in notes
        ]

    def _from(self, sources: Sequence[Source]) -> list[str]:
        if not self.many:
            return []
        numbers = ", ".join(str(source.number) for source in sources)
        return [f"From [source{'s' if len(sources) > 1 else ''} {numbers}](#sources)."]


def _marked(joined: JoinedTable) -> Table:
    """The table with the numbers of its sources behind the rows' names."""
    first = joined.table.columns[0]
    rows = tuple(
        (f"{cell_text(row[0], first)} {_numbers(sources)}", *row[1:])
        for row, sources in zip(joined.table.rows, joined.rows, strict=True)
    )
    return replace(joined.table, rows=rows)


def _numbers(sources: Iterable[Source]) -> str:
    return f"({', '.join(str(source.number) for source in sources)})"


def _prose(data: str) -> str:
    """A paragraph of Markdown, in which only code may hold what looks like HTML."""
    return "".join(
        code(part) if is_code else part.replace("<", "\\<")
        for is_code, part in code_and_text(" ".join(data.split()))
    )


def _text(data: str) -> str:
    """Data in one line of Markdown, without a meaning of its own."""
    plain = html.escape(" ".join(data.split()), quote=False)
    return re.sub(r"([\\*\[\]])", r"\\\1", plain)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
