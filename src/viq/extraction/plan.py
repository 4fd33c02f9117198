"""A source of images as units of work: contiguous ranges of its rows, numbered in its order.

What a unit holds depends on the source and on ``rows_a_unit`` alone, so that a job can be
interrupted, repeated and divided among workers in any way. Planning streams over what it must see
(footers, names, lines) and keeps some bytes a unit, never the rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from viq.errors import InputError
from viq.extraction.sources.conversations import ConversationRows
from viq.extraction.sources.find import find
from viq.extraction.sources.folder import FolderRows
from viq.extraction.sources.parquet import ParquetRows
from viq.extraction.sources.row import Row
from viq.extraction.sources.storage import Storage
from viq.extraction.sources.webdataset import ShardRows
from viq.store import COLUMNS

__all__ = ["ExtractionSource", "Row", "open_source"]


class ExtractionSource(Protocol):
    """A planned source. It is small and can be pickled; files are opened where they are read."""

    @property
    def kind(self) -> str:
        """Of which kind it is: folder, webdataset, parquet or llava."""

    @property
    def units(self) -> int:
        """How many units there are."""

    @property
    def schema(self) -> pa.Schema:
        """Of the carried columns, the same in all units."""

    def rows(self, unit: int) -> int | None:
        """How many rows the unit has, if that is known without reading it."""

    def where(self, unit: int) -> str:
        """The file and the range, for messages."""

    def read(self, unit: int) -> Iterator[Row]:
        """The unit's rows in order, with flat memory; a row that is unreadable says why.

        Raises:
            InputError: the file cannot be opened (any more), or an image cannot be fetched for a
                reason that is not the image's; the unit can be tried again.
        """

    def identity(self) -> dict[str, Any]:
        """What says that a repeated job reads the same source, as JSON."""


def open_source(
    source: str, *, work: Path, rows_a_unit: int = 1000, image_root: str | None = None
) -> ExtractionSource:
    """Plans a source.

    Args:
        source: a folder of images, Parquet files or WebDataset shards (a file, a folder, a pattern
            with ``*`` or ``{000..012}``), or LLaVA's JSON or JSONL; a path or an fsspec URL.
        work: a folder that all workers can read, where a long listing may be stored.
        rows_a_unit: rows of a unit; Parquet's row groups and shards stay whole where they can.
        image_root: where the image paths of Parquet and JSON begin, if it is not the file's folder.

    Raises:
        ValueError: ``rows_a_unit`` is not positive.
        InputError: nothing is there, it is of no kind that is read, it is damaged as a whole, or a
            column has a name that the codes take.
    """
    if rows_a_unit < 1:
        raise ValueError(f"a unit of {rows_a_unit} rows holds nothing; it needs one at least.")
    planned = _plan(source, work, rows_a_unit, image_root)
    ours = {name.lower() for name in COLUMNS}  # databases ignore case in names
    if taken := [name for name in planned.schema.names if name.lower() in ours]:
        raise InputError(f"has a column {taken[0]!r}, which the codes take; rename it", source)
    return planned


def _plan(source: str, work: Path, rows_a_unit: int, image_root: str | None) -> ExtractionSource:
    found = find(source)
    root = None if image_root is None else Storage.locate(image_root)
    if root is not None and found.kind in ("folder", "webdataset"):
        what = "a folder of images" if found.kind == "folder" else "a shard"
        raise InputError(f"{what} holds no image paths, so image_root is of no use", source)
    if found.kind == "folder":
        return FolderRows.plan(found, work, rows_a_unit)
    if found.kind == "webdataset":
        return ShardRows.plan(found)
    if found.kind == "parquet":
        return ParquetRows.plan(found, rows_a_unit, root)
    return ConversationRows.plan(found, rows_a_unit, root)
