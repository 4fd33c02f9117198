"""What a model's evaluations say, as its card has it (``viq.card``)."""

from collections.abc import Collection, Sequence

from viq.card.page import Measured, Section
from viq.evaluation.document import Cell, Column, Document, Score, Table, cell_text, table_markdown

CURVES = ("Rate and distortion", "Codecs beside codes")  # many rows, which a plot shows better
RATE = "bits per pixel"
# What each kind of evaluation asks of a model, in the hub's words where it has some.
TASKS = {
    "reconstruction": "image-reconstruction",
    "storage": "image-compression",
    "understanding": "visual-question-answering",
    "codes": "image-tokenization",
    "cost": "image-tokenization",
}


def scores_section(document: Document, *, titles: Collection[str] | None = None) -> Section:
    """The tables of one evaluation with numbers and intervals, and how they were made.

    Args:
        document: of ``viq eval``.
        titles: of the tables that are shown; by default all that hold a mean of several items,
            but for curves.
    """
    parts = list(document.notes)
    for table in chosen(document, titles):
        parts += [f"**{table.title}**", table_markdown(table), table.note]
    parts.append(document.made.line())
    return Section(title=document.title, text="\n\n".join(part for part in parts if part))


def measured(
    document: Document, subject: str, *, titles: Collection[str] | None = None
) -> list[Measured]:
    """The numbers of one subject in the shown tables, for the hub's ``model-index``.

    A row is the subject's if its first cell says so. Texts in the other cells say what was
    measured: a task, a setting. Of a row those means count that are good or bad, or the first one
    in tables that leave that open.
    """
    found = []
    for table in chosen(document, titles):
        for row in table.rows:
            if row[0] == subject:
                found += _measured(document, table, row)
    return found


def chosen(document: Document, titles: Collection[str] | None) -> list[Table]:
    """The tables with these titles; by default those with means of several items, but for curves.

    Raises:
        ValueError: there is no table of one of the titles.
    """
    if titles is None:
        tables = [table for table in document.tables if not table.title.startswith(CURVES)]
        return [table for table in tables if _has_means(table)]
    if missing := set(titles) - {table.title for table in document.tables}:
        raise ValueError(f"{document.title} has no table {', '.join(sorted(missing))}.")
    return [table for table in document.tables if table.title in titles]


def _has_means(table: Table) -> bool:
    return any(isinstance(cell, Score) for row in table.rows for cell in row)


def _measured(document: Document, table: Table, row: Sequence[Cell]) -> list[Measured]:
    texts = [cell for cell in row[1:] if isinstance(cell, str)]
    columns = list(zip(table.columns, row, strict=True))
    rates = [
        f"{cell_text(cell, column)} {RATE}"
        for column, cell in columns
        if column.name == RATE and cell is not None
    ]
    valued = _valued(table)
    return [
        Measured(
            task=TASKS.get(document.kind, document.kind),
            data=", ".join([table.title, *texts, *rates]),
            metric=column.name,
            unit=column.unit,
            value=cell.value,
            interval=cell.interval,
        )
        for column, cell in columns
        if column in valued and isinstance(cell, Score)
    ]


def _valued(table: Table) -> list[Column]:
    """The columns of means that are good or bad; the first of means in tables without any."""
    means = [
        column
        for i, column in enumerate(table.columns)
        if column.name != RATE and any(isinstance(row[i], Score) for row in table.rows)
    ]
    return [column for column in means if column.better is not None] or means[:1]
