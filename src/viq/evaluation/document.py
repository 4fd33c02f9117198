"""The result of one evaluation: tables and figures with where and when they were made.

A document is a folder with ``result.json``, ``result.md`` and the pictures that they name. All
evaluations write such folders, so that a report can put any of them side by side.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import cattrs

from viq.errors import InputError
from viq.evaluation.files import whole_text
from viq.evaluation.provenance import Provenance

FILE, MARKDOWN = "result.json", "result.md"
FORMAT = 1
KINDS = ("reconstruction", "storage", "understanding", "codes", "cost")  # in a report's order
MOST_DIGITS = 12  # after the point; more say nothing of what is measured
NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Score:
    """A mean with its 95 % confidence interval, where one is known."""

    value: float
    low: float | None = None
    high: float | None = None
    count: int | None = None  # of what it is the mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends; None also of a single number, which is no mean and varies over nothing."""
        if self.low is None or self.high is None:
            return None
        single = self.count is None and self.low == self.value == self.high
        return None if single else (self.low, self.high)


Cell = str | int | float | Score | None  # None: not measured, or it has no meaning here


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a column holds; of numbers also how they are written, and which are good."""

    name: str
    unit: str = ""
    digits: int = 2  # after the point
    better: Literal["higher", "lower"] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= MOST_DIGITS:
            raise ValueError(f"digits is {self.digits}; it must be in 0..{MOST_DIGITS}.")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells. The first column names the row: mostly what was evaluated.

    A report joins the rows of tables with the same title and columns.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""  # below the table: data set, sizes, counts

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError("a table has no column.")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells for {len(self.columns)} columns.")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture in the document's folder."""

    file: str
    title: str
    caption: str  # what is to be seen; it also stands in for the picture where there is none

    def __post_init__(self) -> None:
        if b"\0" in os.fsencode(self.file):  # which refuses what is no file's name either
            raise ValueError("a figure's file has a null character in its name.")


@dataclass(frozen=True, kw_only=True)
class Document:
    """What one evaluation found."""

    kind: str  # of KINDS
    title: str
    made: Provenance
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()  # one paragraph each: protocol, what was left out and why
    data: Mapping[str, Any] = field(default_factory=dict)  # more figures, for programs
    format: int = FORMAT

    def save(self, folder: Path) -> None:
        """Writes both files; the figures are there already.

        Raises:
            ValueError: a figure is not there.
        """
        for figure in self.figures:
            if not (folder / figure.file).is_file():
                raise ValueError(f"the document has no figure {figure.file}.")
        whole_text(folder / MARKDOWN, self.markdown())
        whole_text(folder / FILE, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what ``save`` wrote.

        Raises:
            InputError: there is no document, or it cannot be read, is damaged or of a later
                format.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_text("utf-8"))
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                found = content.get("format") if isinstance(content, dict) else None
                raise InputError(f"a result of format {found}; this version reads {FORMAT}", path)
            return _CONVERTER.structure(content, cls)
        except FileNotFoundError:
            raise InputError(f"no {FILE} here, so this is no evaluation", folder) from None
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", path) from error
        except (ValueError, RecursionError, cattrs.BaseValidationError) as error:
            raise InputError(
                "not a result of viq eval, or damaged; repeat its viq eval, or remove the folder",
                path,
            ) from error

    def markdown(self, *, level: int = 1, figures: str = "") -> str:
        """The document as Markdown; ``figures`` comes before their file names."""
        parts = [f"{'#' * level} {self.title}", self.made.line(), *self.notes]
        for table in self.tables:
            parts += [f"{'#' * (level + 1)} {table.title}", table_markdown(table)]
            parts += [table.note] if table.note else []
        for figure in self.figures:
            parts += [f"![{figure.caption}]({figures}{figure.file})", f"*{figure.title}*"]
        return "\n\n".join(parts) + "\n"


def table_markdown(table: Table) -> str:
    """A table in Markdown, numbers at the right, the best of each column bold."""
    best = best_cells(table)
    head = [column.name + (f" ({column.unit})" if column.unit else "") for column in table.columns]
    lines = [head, ["--:" if number else ":--" for number in numeric_columns(table)]]
    for r, row in enumerate(table.rows):
        cells = [cell_text(c, column) for c, column in zip(row, table.columns, strict=True)]
        lines.append([f"**{x}**" if (r, i) in best else x for i, x in enumerate(cells)])
    escaped = [[re.sub(r"([|<])", r"\\\1", " ".join(c.split())) for c in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def cell_text(cell: Cell, column: Column) -> str:
    """A cell as people read it: 25.40, 25.40 [25.10, 25.71], 1,024."""
    if cell is None:
        return NONE
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Score):
        text = _number(cell.value, column)
        if cell.interval is not None:
            low, high = (_number(end, column) for end in cell.interval)
            text += f" [{low}, {high}]"
        return text
    return _number(cell, column)


def best_cells(table: Table) -> set[tuple[int, int]]:
    """(row, column) of the best of each column that says which are good, if there is a choice.

    Means over different numbers of items are not of the same ones: none of them is the best.
    """
    found: set[tuple[int, int]] = set()
    for i, column in enumerate(table.columns):
        values = {r: value_of(row[i]) for r, row in enumerate(table.rows)}
        known = {r: x for r, x in values.items() if x is not None and not math.isnan(x)}
        cells = [table.rows[r][i] for r in known]
        counts = {cell.count for cell in cells if isinstance(cell, Score)} - {None}
        if column.better is None or len(set(known.values())) < 2 or len(counts) > 1:
            continue
        best = (max if column.better == "higher" else min)(known.values())
        found |= {(r, i) for r, value in known.items() if value == best}
    return found


def numeric_columns(table: Table) -> list[bool]:
    """Which columns hold numbers: those with one, and those with no text."""
    columns = [[row[i] for row in table.rows] for i in range(len(table.columns))]
    return [
        any(value_of(cell) is not None for cell in cells)
        or not any(isinstance(cell, str) for cell in cells)
        for cells in columns
    ]


def value_of(cell: Cell) -> float | None:
    """The number in a cell, if it has one."""
    value = cell.value if isinstance(cell, Score) else cell
    return None if value is None or isinstance(value, str) else float(value)


def _number(value: float, column: Column) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:,}" if isinstance(value, int) else f"{value:z,.{column.digits}f}"  # z: no -0.00


def join_tables(tables: Sequence[Table]) -> list[Table]:
    """Tables with the same title and columns become one, in the order of the first ones."""
    joined: dict[tuple[str, tuple[Column, ...]], list[Table]] = {}
    for table in tables:
        joined.setdefault((table.title, table.columns), []).append(table)
    return [
        Table(
            title=title,
            columns=columns,
            rows=tuple(dict.fromkeys(row for table in some for row in table.rows)),
            note=" ".join(dict.fromkeys(table.note for table in some if table.note)),
        )
        for (title, columns), some in joined.items()
    ]


def _cell(value: Any, _: Any) -> Cell:
    if isinstance(value, Mapping):
        return cattrs.structure(value, Score)
    if isinstance(value, int):
        float(value)  # of too many digits it is no number to count with
    if isinstance(value, str | int | float) or value is None:
        return value
    raise ValueError(f"a cell is {value!r}.")


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)
_CONVERTER.register_structure_hook_func(lambda kind: kind == Cell, _cell)
