"""One row of a source, as every kind gives it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from viq.image import Picture

MAX_REASON = 500  # characters
IDS = ("id", "__key__", "file_name")  # the columns that name a row, the first that is there


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: what is carried through, and its images.

    The carried cells are an Arrow batch, not Python values: Arrow has types that Python has not,
    and a slice of a batch that was read costs nothing.
    """

    position: int  # in the unit, from 0
    id: str  # the row's own id, key or file name; else its number in the source
    columns: pa.RecordBatch  # of the source's schema; one row, none where there is an error
    images: tuple[Picture | bytes, ...]  # encoded bytes, or paths of local files
    error: str | None = None  # why the row cannot be used; images are () then


def failed(position: int, id: str, schema: pa.Schema, reason: str) -> Row:
    """A row that cannot be used."""
    nothing = pa.RecordBatch.from_pylist([], schema=schema)
    reason = _utf8(" ".join(reason.split()))  # libraries' messages may have many lines
    if len(reason) > MAX_REASON:  # a whole picture in base64, where a path should be
        reason = f"{reason[:MAX_REASON]}..."
    return Row(position=position, id=_utf8(id), columns=nothing, images=(), error=reason)


def row_id(cells: Mapping[str, Any], number: int) -> str:
    """The first id that the row has; else its number in the source."""
    own = next((cells[key] for key in IDS if cells.get(key) is not None), number)
    return _utf8(str(own))


def one_row(cells: Mapping[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    """Python values as a batch of one row.

    Raises:
        ValueError: a value is not what its column holds.
    """
    try:
        return pa.RecordBatch.from_pylist([cells], schema=schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        # ValueError: a lone surrogate, which JSON can write and UTF-8 cannot
        raise ValueError(f"its values cannot be stored as the other rows' ({error})") from error


def _utf8(text: str) -> str:
    """Names of files and JSON may hold what UTF-8, and so Parquet, cannot."""
    return text.encode(errors="backslashreplace").decode()
