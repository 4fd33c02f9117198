"""Of what pictures a data set is: how many of each licence and source, by its own columns."""

import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cattrs
import pyarrow as pa
import pyarrow.parquet as pq

from viq.card.page import table
from viq.errors import InputError

UNNAMED = "not said"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """One data set, or one split of one."""

    name: str
    rows: int
    by: Mapping[str, Mapping[str, int]]  # column: value: rows, the commonest first
    note: str = ""  # Markdown: what it is, where it comes from

    def markdown(self) -> str:
        """A heading, the note, and a table for each column."""
        parts = [f"### {self.name}: {self.rows:,} pictures", self.note.strip()]
        for column, values in self.by.items():
            rows = [[value, f"{count:,}"] for value, count in values.items()]
            parts.append(table([column, "pictures"], rows, numbers=1))
        return "\n\n".join(part for part in parts if part)


def count_rows(
    paths: Sequence[Path], name: str, columns: Sequence[str], *, note: str = ""
) -> Counts:
    """Counts the rows of Parquet files by columns of text; nothing else of them is read.

    Raises:
        InputError: there are no files, or one cannot be read or lacks a column.
    """
    if not paths:
        raise InputError("there are no Parquet files", name)
    counters: dict[str, Counter[str]] = {column: Counter() for column in columns}
    rows = 0
    for path in paths:
        try:
            if missing := set(columns) - set(pq.read_schema(path).names):
                raise InputError(f"has no column {', '.join(sorted(missing))}", path)
            read = pq.read_table(path, columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot be read ({error})", path) from error
        rows += len(read)
        for column in columns:
            counters[column].update(
                UNNAMED if value is None else str(value) for value in read[column].to_pylist()
            )
    ordered = {
        column: dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
        for column, counter in counters.items()
    }
    return Counts(name=name, rows=rows, by=ordered, note=note)


def save_counts(counts: Sequence[Counts], path: Path) -> None:
    """Writes them as JSON, whole or not at all."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.json")
    try:
        content = json.dumps([asdict(one) for one in counts], indent=1, ensure_ascii=False)
        temporary.write_text(content + "\n", "utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_counts(path: Path) -> tuple[Counts, ...]:
    """Reads what ``save_counts`` wrote.

    Raises:
        InputError: it is not there, or damaged.
    """
    try:
        content: Any = json.loads(path.read_text("utf-8"))
        return cattrs.Converter(forbid_extra_keys=True).structure(content, tuple[Counts, ...])
    except FileNotFoundError:
        raise InputError("no such file", path) from None
    except (OSError, ValueError, cattrs.BaseValidationError) as error:
        raise InputError("not a file of counts, or damaged", path) from error
