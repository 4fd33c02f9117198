"""LLaVA's JSON and JSONL, whatever else the rows hold: a unit is so many rows of a file.

A row is {"id", "image" or "images": path or list of paths, ...}; all its keys become columns. A
plan streams over the files once, for the columns' types and for the byte at which each unit begins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from viq.errors import InputError
from viq.extraction.sources.find import Found
from viq.extraction.sources.images import ahead, find_images
from viq.extraction.sources.json_rows import JsonRow, Layout, layout_of, read_lines, read_list
from viq.extraction.sources.row import Row, failed, one_row, row_id
from viq.extraction.sources.shape import Shapes, as_text
from viq.extraction.sources.storage import Place, folder_of


class _Unit(NamedTuple):
    file: int
    start: int  # the first row's byte
    line: int  # and its line, if the file has one row a line
    rows: int
    number: int  # of the first row, in the source


@dataclass(frozen=True, eq=False)
class ConversationRows:
    """See ``viq.extraction.plan.ExtractionSource``."""

    found: Found
    rows_a_unit: int
    root: Place | None
    schema: pa.Schema
    json_columns: frozenset[str]  # whose values no type holds; see viq.extraction.sources.shape
    layouts: tuple[Layout, ...]  # of the files
    table: NDArray[np.int64]  # (units, 5): the fields of _Unit
    digest: str  # of all bytes
    kind: str = "llava"

    @classmethod
    def plan(cls, found: Found, rows_a_unit: int, root: Place | None) -> Self:
        """Streams over the files.

        Raises:
            InputError: a file is neither a JSON list nor lines, a list is damaged, or no row can
                be read.
        """
        shapes, layouts = Shapes(), []
        table: list[_Unit] = []
        digest = blake2b(digest_size=16)
        number, readable, fault = 0, False, None
        for file in range(len(found.files)):
            name = found.name(file)
            with found.storage.open(found.files[file]) as stream:
                layout, start = layout_of(stream, name)
                layouts.append(layout)
                digest.update(repr((found.files[file], layout)).encode())
                place, first = None, number
                for row in _rows(_Hashed(stream, digest.update), layout, start, 1, name):
                    if (number - first) % rows_a_unit == 0:
                        if place is not None:
                            table.append(_Unit(file, *place, rows_a_unit, number - rows_a_unit))
                        place = row.start, row.line
                    number += 1
                    if row.error is None:
                        shapes.add(row.value, name)
                        readable = True
                    elif fault is None:
                        fault = InputError(f"no row can be read; the first {row.error}", name)
                if place is not None:
                    rows = (number - first - 1) % rows_a_unit + 1
                    table.append(_Unit(file, *place, rows, number - rows))
        if not readable:
            raise fault or InputError("holds no rows", found.source)
        schema, json_columns = shapes.schema()
        digest.update(repr([(field.name, str(field.type)) for field in schema]).encode())
        return cls(
            found,
            rows_a_unit,
            root,
            schema,
            json_columns,
            tuple(layouts),
            np.array(table, dtype=np.int64),
            digest.hexdigest(),
        )

    @property
    def units(self) -> int:
        return len(self.table)

    def rows(self, unit: int) -> int:
        return self._unit(unit).rows

    def where(self, unit: int) -> str:
        file, _, line, rows, number = self._unit(unit)
        begin = f"from line {line} on" if line else f"rows {number}-{number + rows - 1}"
        return f"{self.found.name(file)}: {begin}"

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
        file, name = self.found.files[part.file], self.found.name(part.file)
        root = self.root or Place(self.found.storage, folder_of(file.path))

        def row(item: tuple[int, JsonRow]) -> Row:
            position, found = item
            number = part.number + position
            if found.error is not None:
                line = f"line {found.line} " if found.line else ""
                return failed(position, str(number), self.schema, line + found.error)
            return self._row(position, number, found.value, root)

        with self.found.storage.open(file) as stream:
            layout = self.layouts[part.file]
            items = islice(_rows(stream, layout, part.start, part.line, name), part.rows)
            try:
                yield from ahead(row, enumerate(items), root)
            except ConnectionError as error:
                raise InputError(str(error), self.where(unit)) from error

    def _row(self, position: int, number: int, value: dict[str, Any], root: Place) -> Row:
        id = row_id(value, number)
        try:
            images = find_images(value.get("image", value.get("images")), root)
            columns = one_row(as_text(value, self.json_columns), self.schema)
        except InputError as error:
            return failed(position, id, self.schema, error.reason)
        except ValueError as error:
            return failed(position, id, self.schema, str(error))
        return Row(position=position, id=id, columns=columns, images=images)

    def _unit(self, unit: int) -> _Unit:
        return _Unit(*map(int, self.table[unit]))


class _Hashed:
    """A stream that shows all bytes that are read of it."""

    def __init__(self, stream: BinaryIO, show: Callable[[bytes], None]) -> None:
        self._stream, self._show = stream, show
        self.seek = stream.seek

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._show(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        for line in self._stream:
            self._show(line)
            yield line


def _rows(stream: Any, layout: Layout, start: int, line: int, name: str) -> Iterator[JsonRow]:
    if layout is Layout.LINES:
        return read_lines(stream, start, line)
    return read_list(stream, start, name)
