"""Documents of any number of evaluations, side by side: joined tables, figures by title."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TypeVar

from viq.errors import InputError
from viq.evaluation.document import (
    FILE,
    KINDS,
    MARKDOWN,
    Document,
    Figure,
    Table,
    join_tables,
)

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """An evaluation of the report, with the number by which it is called there."""

    number: int
    folder: Path
    document: Document


@dataclass(frozen=True, kw_only=True)
class Note:
    """A paragraph, and whose it is."""

    text: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class JoinedTable:
    """A table with the rows of all evaluations that have it."""

    table: Table
    sources: tuple[Source, ...]
    rows: tuple[tuple[Source, ...], ...]  # whose each row is
    notes: tuple[Note, ...]


@dataclass(frozen=True, kw_only=True)
class JoinedFigures:
    """The figures of one title, to stand side by side."""

    title: str
    figures: tuple[tuple[Source, Figure], ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """All evaluations of one kind."""

    kind: str
    sources: tuple[Source, ...]
    notes: tuple[Note, ...]
    tables: tuple[JoinedTable, ...]
    figures: tuple[JoinedFigures, ...]

    def parts(self) -> list[tuple[JoinedTable | None, JoinedFigures | None]]:
        """Tables with the figures of the same title, then the figures of other titles."""
        rest = {figures.title: figures for figures in self.figures}
        tables = [(joined, rest.pop(joined.table.title, None)) for joined in self.tables]
        return [*tables, *((None, figures) for figures in rest.values())]


def find_documents(roots: Iterable[Path]) -> list[Path]:
    """The folders below ``roots`` that hold a document, each once; hidden folders apart.

    Raises:
        InputError: a root is no folder, has no document in it, or cannot be listed.
    """
    found: dict[str, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise InputError("no such folder", root)
        if not (folders := sorted(_walk(root))):
            raise InputError(f"no {FILE} in this folder, so no evaluation", root)
        for folder in folders:
            found.setdefault(os.path.realpath(folder), folder)
    return list(found.values())


def load_document(folder: Path) -> Document:
    """Reads a document, and looks at what it names.

    Raises:
        InputError: there is none, it is damaged, or it names a figure outside its folder.
    """
    document = Document.load(folder)
    for figure in document.figures:
        if PurePath(figure.file).is_absolute() or ".." in PurePath(figure.file).parts:
            raise InputError(f"names a figure outside its folder, {figure.file}", folder / FILE)
    return document


def files_of(folder: Path, document: Document) -> list[Path]:
    """The files that make up a document."""
    return [folder / name for name in (FILE, MARKDOWN, *(f.file for f in document.figures))]


def collect(documents: Iterable[tuple[Path, Document]]) -> list[Section]:
    """Puts documents side by side: by kind, inside it in the order given."""
    order = {kind: i for i, kind in enumerate(KINDS)}
    ranked = sorted(documents, key=lambda one: order.get(one[1].kind, len(order)))  # is stable
    sources = [
        Source(number=number, folder=folder, document=document)
        for number, (folder, document) in enumerate(ranked, start=1)
    ]
    return [
        _section(kind, tuple(some))
        for kind, some in _groups(sources, lambda source: source.document.kind)
    ]


def sources_of(sections: Iterable[Section]) -> list[Source]:
    """All evaluations of a report, by number."""
    return [source for section in sections for source in section.sources]


def dates_and_commits(sources: Iterable[Source]) -> str:
    """When evaluations were made, and of which commits, in a few words."""
    made = [source.document.made for source in sources]
    dates = sorted({one.date for one in made})
    commits = list(dict.fromkeys(one.commit or "unknown" for one in made))
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{when}, {'commits' if len(commits) > 1 else 'commit'} {', '.join(commits)}"


def _section(kind: str, sources: tuple[Source, ...]) -> Section:
    tables = [(source, table) for source in sources for table in source.document.tables]
    figures = [(source, figure) for source in sources for figure in source.document.figures]
    return Section(
        kind=kind,
        sources=sources,
        notes=_notes((source, text) for source in sources for text in source.document.notes),
        tables=tuple(
            _joined(some) for _, some in _groups(tables, lambda one: (one[1].title, one[1].columns))
        ),
        figures=tuple(
            JoinedFigures(title=title, figures=tuple(some))
            for title, some in _groups(figures, lambda one: one[1].title)
        ),
    )


def _joined(tables: Sequence[tuple[Source, Table]]) -> JoinedTable:
    (table,) = join_tables([table for _, table in tables])
    if len(tables) > 1:  # rows of one name below each other, to be compared
        named = _groups(table.rows, lambda row: row[0])
        table = replace(table, rows=tuple(row for _, rows in named for row in rows))
    return JoinedTable(
        table=table,
        sources=tuple(dict.fromkeys(source for source, _ in tables)),
        rows=tuple(
            tuple(dict.fromkeys(source for source, other in tables if row in other.rows))
            for row in table.rows
        ),
        notes=_notes((source, table.note) for source, table in tables),
    )


def _notes(texts: Iterable[tuple[Source, str]]) -> tuple[Note, ...]:
    return tuple(
        Note(text=text, sources=tuple(dict.fromkeys(source for source, _ in some)))
        for text, some in _groups(texts, lambda one: one[1])
        if text
    )


def _groups(items: Iterable[T], key: Callable[[T], K]) -> list[tuple[K, list[T]]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _walk(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(f"cannot be listed: {error.strerror}", error.filename)

    for parent, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if FILE in names:
            yield Path(parent)
