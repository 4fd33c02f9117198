"""Parquet files: a unit is some row groups of one file, or a part of a large one.

Only the footers are read for a plan. A unit is read in small batches, so that a row group of
gigabytes is never held as a whole. Arrow reads a group from its begin, so a part of a group costs
what lies before it, too: in ten parts, at most, a group is read five and a half times. Units of
large groups therefore have more rows than were asked for.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import types

from viq.data.rows import image_columns
from viq.errors import InputError
from viq.extraction.sources.find import Found
from viq.extraction.sources.images import ahead, find_images
from viq.extraction.sources.row import IDS, Row, failed
from viq.extraction.sources.storage import Place, folder_of, why

_PARTS = 10  # of a row group, at most; one of more than so many units' rows is divided
_BATCH_BYTES = 16 << 20  # of a batch when it is decoded
_STREAM_BYTES = 1 << 20  # read at a time of each column
_FOOTERS_AHEAD = 16
_FEATURES = b"huggingface"


class _Unit(NamedTuple):
    file: int
    group: int  # the first row group
    groups: int
    start: int  # the first row in the first group; 0 unless the group is divided
    rows: int
    number: int  # of the first row, in the source


@dataclass(frozen=True, eq=False)
class ParquetRows:
    """See ``viq.extraction.plan.ExtractionSource``."""

    found: Found
    rows_a_unit: int
    root: Place | None
    schema: pa.Schema
    images: tuple[str, ...]  # columns that hold images or their paths
    table: NDArray[np.int64]  # (units, 6): the fields of _Unit
    digest: str
    kind: str = "parquet"

    @classmethod
    def plan(cls, found: Found, rows_a_unit: int, root: Place | None) -> Self:
        """Reads the footers.

        Raises:
            InputError: a file is damaged or its columns are not the first one's, or there are no
                rows.
        """
        table: list[_Unit] = []
        digest = blake2b(digest_size=16)
        first, rows = None, 0
        with ThreadPoolExecutor(_FOOTERS_AHEAD) as threads:
            footers = threads.map(lambda number: _footer(found, number), range(len(found.files)))
            for file, (schema, groups) in enumerate(footers):
                plain = _plain(schema, found.name(file))
                first = plain if first is None else first
                _same_columns(first, plain, found, file)
                if first.metadata != plain.metadata:  # true of some files only
                    first = first.remove_metadata()
                for unit in _units(groups, rows_a_unit):
                    table.append(_Unit(file, *unit, number=rows))
                    rows += table[-1].rows
                digest.update(repr((found.files[file], groups)).encode())
        if not rows:
            raise InputError("holds no rows", found.source)
        assert first is not None
        images = image_columns(field.name for field in first if _holds_images(field.type))
        kept = [f for f in first if f.name not in images or not _holds_bytes(f.type)]
        units = np.array(table, dtype=np.int64)
        schema = pa.schema(kept, first.metadata)
        return cls(found, rows_a_unit, root, schema, images, units, digest.hexdigest())

    @property
    def units(self) -> int:
        return len(self.table)

    def rows(self, unit: int) -> int:
        return self._unit(unit).rows

    def where(self, unit: int) -> str:
        file, group, groups, start, rows, _ = self._unit(unit)
        which = f"row group {group}" if groups == 1 else f"row groups {group}-{group + groups - 1}"
        return f"{self.found.name(file)}: {which}, rows {start}-{start + rows - 1}"

    def identity(self) -> dict[str, Any]:
        return {
            **self.found.identity(),
            "rows": int(self.table[:, _Unit._fields.index("rows")].sum()),
            "digest": self.digest,
            "rows_a_unit": self.rows_a_unit,
            "image_root": None if self.root is None else self.root.storage.name(self.root.path),
        }

    def read(self, unit: int) -> Iterator[Row]:
        part = self._unit(unit)
        path = self.found.files[part.file].path
        root = self.root or Place(self.found.storage, folder_of(path))

        def row(item: tuple[int, pa.RecordBatch, str, object] | Row) -> Row:
            if isinstance(item, Row):
                return item
            position, columns, id, value = item
            try:
                images = find_images(value, root)
            except InputError as error:
                return failed(position, id, self.schema, error.reason)
            return Row(position=position, id=id, columns=columns, images=images)

        try:
            yield from ahead(row, self._rows(part), root)
        except ConnectionError as error:
            raise InputError(str(error), self.where(unit)) from error

    def _unit(self, unit: int) -> _Unit:
        return _Unit(*map(int, self.table[unit]))

    def _rows(self, unit: _Unit) -> Iterator[tuple[int, pa.RecordBatch, str, object] | Row]:
        """Each row's position, cells, id and images; or the row, where it cannot be read."""
        position, name = 0, self.found.name(unit.file)
        with self.found.storage.open_at_random(self.found.files[unit.file]) as stream:
            try:
                file = pq.ParquetFile(stream, buffer_size=_STREAM_BYTES, pre_buffer=False)
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"is not readable any more ({why(error)})", name) from error
            for group in range(unit.group, unit.group + unit.groups):
                metadata = file.metadata.row_group(group)
                end = position + min(metadata.num_rows - unit.start, unit.rows - position)
                row_bytes = metadata.total_byte_size // max(metadata.num_rows, 1)
                size = min(max(_BATCH_BYTES // max(row_bytes, 1), 1), 1000)
                batches = file.iter_batches(size, row_groups=[group], use_threads=False)
                skip = unit.start
                try:
                    for batch in batches:
                        skipped = min(skip, batch.num_rows)
                        skip -= skipped
                        piece = batch.slice(skipped, end - position)
                        yield from self._cells(piece, position, unit.number)
                        position += piece.num_rows
                        if position == end:
                            break
                except (OSError, pa.ArrowException) as error:
                    if not _is_damage(error):
                        raise InputError(f"cannot be read: {why(error)}", name) from error
                    reason = f"row group {group} is damaged from here on ({error})"
                    for lost in range(position, end):
                        yield failed(lost, str(unit.number + lost), self.schema, reason)
                    position = end

    def _cells(
        self, batch: pa.RecordBatch, position: int, number: int
    ) -> Iterator[tuple[int, pa.RecordBatch, str, object] | Row]:
        kept = batch.select(self.schema.names)
        if self.schema.names:  # what files of another writer call their items must not differ
            kept = pa.RecordBatch.from_arrays(kept.columns, schema=self.schema)
        own = next((name for name in IDS if name in self.schema.names), None)
        for row in range(batch.num_rows):
            place, id = position + row, str(number + position + row)
            try:
                if own is not None and (held := batch.column(own)[row].as_py()) is not None:
                    id = str(held)
                value = [batch.column(name)[row].as_py() for name in self.images]
            except ValueError as error:  # a string that is not UTF-8, which Arrow does not check
                yield failed(place, id, self.schema, f"cannot be read ({error})")
            else:
                yield place, kept.slice(row, 1), id, value


def _is_damage(error: Exception) -> bool:
    """Whether bytes are wrong, and not the disk or the network; Arrow raises bare OSErrors."""
    bare = type(error) is OSError and error.errno is None
    return bare or isinstance(error, pa.ArrowException)


def _footer(found: Found, number: int) -> tuple[pa.Schema, list[int]]:
    """A file's columns, and how many rows its row groups have."""
    try:
        with found.storage.open_at_random(found.files[number]) as stream:
            file = pq.ParquetFile(stream)
            groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
            return file.schema_arrow, groups
    except (pa.ArrowException, OSError) as error:
        reason = f"not a readable Parquet file ({why(error)})"
        raise InputError(reason, found.name(number)) from error


def _units(groups: list[int], rows_a_unit: int) -> Iterator[tuple[int, int, int, int]]:
    """The first row group, how many, the first row in it, and the rows of each unit.

    As many whole row groups as fit, one at least: files of images often have groups of 100 rows,
    and each unit becomes a file.
    """
    first, rows = 0, 0
    for group, size in enumerate(groups):
        if rows + size > rows_a_unit and rows:
            yield first, group - first, 0, rows
            rows = 0
        if not rows:
            first = group
        if size > _PARTS * rows_a_unit:
            part = math.ceil(size / _PARTS)
            for start in range(0, size, part):
                yield group, 1, start, min(part, size - start)
        else:
            rows += size
    if rows:
        yield first, len(groups) - first, 0, rows


def _plain(schema: pa.Schema, name: str) -> pa.Schema:
    """Without metadata but what ``datasets`` notes of the columns, such as the names of classes."""
    if twice := next((n for n in schema.names if schema.names.count(n) > 1), None):
        raise InputError(f"has two columns {twice!r}", name)
    metadata = schema.metadata or {}
    kept = {_FEATURES: metadata[_FEATURES]} if _FEATURES in metadata else None
    return pa.schema([pa.field(field.name, field.type) for field in schema], kept)


def _same_columns(first: pa.Schema, schema: pa.Schema, found: Found, number: int) -> None:
    types, others = ({f.name: f.type for f in s} for s in (first, schema))
    for name in {**types, **others}:
        if types.get(name) != others.get(name):
            here, there = (_said(columns.get(name)) for columns in (others, types))
            reason = f"column {name!r} is {here} here but {there} in {found.name(0)}"
            raise InputError(reason, found.name(number))


def _said(type: pa.DataType | None) -> str:
    return "missing" if type is None else str(type)


def _holds_bytes(type: pa.DataType) -> bool:
    """Encoded images themselves: bytes, {"bytes", "path"}, or a list of such."""
    if _is_list(type):
        return _holds_bytes(type.value_type)
    if types.is_struct(type):
        index = type.get_field_index("bytes")
        return index >= 0 and _holds_bytes(type.field(index).type)
    return types.is_binary(type) or types.is_large_binary(type) or types.is_binary_view(type)


def _holds_images(type: pa.DataType) -> bool:
    """Images or their paths."""
    while _is_list(type):
        type = type.value_type
    text = types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)
    return text or _holds_bytes(type)


def _is_list(type: pa.DataType) -> bool:
    return types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type)
