"""Writes one Parquet file of a code data set: equal rows become equal bytes.

Codes are uniform noise to a compressor as whole numbers, and Parquet knows 16-bit integers only as
32-bit ones. Stored byte by byte (BYTE_STREAM_SPLIT) two of the four streams are zeros, which
compression takes away, and what is left is two bytes a code.
"""

import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from viq.codes import Codes
from viq.errors import CodesError, FingerprintError
from viq.store.format import COLUMNS, FIELDS, MAX_ROW_CODES, METADATA_KEY, CodesInfo, column_types

# A row group ends before it has more than this, a single row apart. So what lies in memory is
# bounded, and where groups end follows from the rows, not from how they came.
ROW_GROUP_ROWS = 1000
ROW_GROUP_CODES = 2**22

_CODES_PATH = "codes.list.element"
_HUGGINGFACE = b"huggingface"


class CodeWriter:
    """A context manager; the file appears whole, under its name, when it ends without an error."""

    def __init__(self, path: Path, info: CodesInfo, schema: pa.Schema) -> None:
        """Opens a temporary file in the same folder.

        Args:
            path: of the file; what is there already is replaced.
            info: what all codes must be of.
            schema: of the columns that are carried through, in order.

        Raises:
            CodesError: a carried column has one of our names, another's, or a type that Parquet has
                not, or the file cannot be written.
        """
        self.path, self.info = Path(path), info
        self.schema = schema.remove_metadata()
        ours = {name.lower() for name in COLUMNS}  # databases ignore case in names
        if taken := [name for name in schema.names if name.lower() in ours]:
            raise CodesError(
                f"the source has a column {taken[0]!r}, a name that the codes take; rename it", path
            )
        if twice := next((n for n in schema.names if schema.names.count(n) > 1), None):
            raise CodesError(f"the source has two columns {twice!r}; rename one", path)
        self._written = pa.schema([*self.schema, *FIELDS], _metadata(schema, info))
        self._rows: list[pa.Table] = []  # of the row group to come
        self._codes: list[Sequence[Codes]] = []
        self._code_count = 0
        self._temporary = self.path.parent / f".{self.path.name}.{uuid.uuid4().hex}.tmp"
        try:
            others = [leaf for leaf in _leaf_paths(self._written) if leaf != _CODES_PATH]
        except pa.ArrowException as error:
            raise CodesError(f"Parquet cannot hold the source's columns: {error}", path) from error
        try:
            self._file = self._temporary.open("xb")
        except (OSError, ValueError) as error:  # ValueError: a null character in the path
            raise _unwritable(self.path, error) from error
        self._writer = pq.ParquetWriter(
            self._file,
            self._written,
            version="2.6",
            compression="zstd",
            use_dictionary=others,  # falls back by itself where values do not repeat
            column_encoding={_CODES_PATH: "BYTE_STREAM_SPLIT"},
            write_statistics=others,
            write_page_checksum=True,
        )

    def write(self, rows: pa.RecordBatch | pa.Table, codes: Sequence[Sequence[Codes]]) -> None:
        """Adds rows.

        Args:
            rows: the carried columns.
            codes: for each row the codes of its images; none for a row of text alone.

        Raises:
            FingerprintError: codes are another tokenizer's.
            CodesError: they have other levels, code heads or patches, a row has too many, or the
                file cannot be written.
            ValueError: the columns are not those of the schema, or rows and codes differ in number.
        """
        if not rows.schema.equals(self.schema):
            raise ValueError(
                f"columns are {column_types(rows.schema)}, not {column_types(self.schema)}."
            )
        if len(self.schema) and rows.num_rows != len(codes):
            raise ValueError(f"there are {rows.num_rows} rows, but codes of {len(codes)}.")
        for images in codes:
            self._check(images)
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
        start = 0
        for row, images in enumerate(codes):
            count = sum(image.values.size for image in images)
            full = len(self._codes) == ROW_GROUP_ROWS
            if full or (self._codes and self._code_count + count > ROW_GROUP_CODES):
                self._rows.append(table.slice(start, row - start))
                self._flush()
                start = row
            self._codes.append(images)
            self._code_count += count
        self._rows.append(table.slice(start))

    def close(self) -> None:
        """Writes what is left and gives the file its name.

        Raises:
            CodesError: the file cannot be written.
        """
        try:
            if self._codes:
                self._flush()
            self._writer.close()
            self._file.close()
            os.replace(self._temporary, self.path)
        except (OSError, pa.ArrowException) as error:
            raise _unwritable(self.path, error) from error
        finally:
            self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._discard()

    def _check(self, images: Sequence[Codes]) -> None:
        if (count := sum(image.values.size for image in images)) > MAX_ROW_CODES:
            raise CodesError(f"a row has {count:,} codes, of at most {MAX_ROW_CODES:,}", self.path)
        for image in images:
            if image.fingerprint != self.info.fingerprint:
                raise FingerprintError(self.info.fingerprint, image.fingerprint, self.path)
            for name in ("levels", "code_heads", "patch_size"):
                if (found := getattr(image, name)) != (expected := getattr(self.info, name)):
                    raise CodesError(
                        f"{name} of codes to write is {found}, but of the file {expected}",
                        self.path,
                    )

    def _flush(self) -> None:
        """Writes a row group."""
        # One chunk a column, however the rows came: pages then end at the same places.
        carried = pa.concat_tables(self._rows).combine_chunks()
        arrays = [*carried.columns, *_columns(self._codes)]
        table = pa.Table.from_arrays(arrays, schema=self._written)
        self._rows, self._codes, self._code_count = [], [], 0
        try:
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        except (OSError, pa.ArrowException) as error:
            raise _unwritable(self.path, error) from error

    def _discard(self) -> None:
        """Leaves nothing behind; does nothing to a file that has its name."""
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def _columns(rows: Sequence[Sequence[Codes]]) -> list[pa.Array]:
    """Our columns."""
    images = [image for row in rows for image in row]
    counts = [sum(image.values.size for image in row) for row in rows]
    values = [image.values.reshape(-1) for image in images]
    flat = np.concatenate(values) if values else np.zeros(0, np.uint16)
    columns = [_lists(counts, pa.array(flat, pa.uint16()))]
    for name in ("grid_size", "original_size", "encoded_size"):
        sizes = np.array([getattr(image, name) for image in images], np.int32).reshape(-1)
        pairs = _lists([2] * len(images), pa.array(sizes, pa.int32()))
        columns.append(_lists([len(row) for row in rows], pairs))
    return columns


def _lists(lengths: Sequence[int], values: pa.Array) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _leaf_paths(schema: pa.Schema) -> list[str]:
    """What Parquet calls the columns and the fields in them."""
    buffer = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), buffer)
    columns = pq.read_metadata(pa.BufferReader(buffer.getvalue())).schema
    return [columns.column(number).path for number in range(len(columns))]


def _metadata(schema: pa.Schema, info: CodesInfo) -> dict[bytes, bytes]:
    """Ours, and the types of the columns as ``datasets`` notes them if it noted any.

    Nothing else is carried: what other libraries note of a table is no longer true of this one.
    """
    metadata = {METADATA_KEY: info.to_json().encode()}
    if (features := _features(schema)) is not None:
        text = json.dumps({"info": {"features": features}}, separators=(",", ":"))
        metadata[_HUGGINGFACE] = text.encode()
    return metadata


def _features(schema: pa.Schema) -> dict[str, Any] | None:
    """The features of the columns that are still there, and ours."""
    try:
        noted = json.loads((schema.metadata or {})[_HUGGINGFACE])["info"]["features"]
        kept = {name: noted[name] for name in schema.names}
    except (KeyError, TypeError, ValueError):  # there are none, or not of all columns
        return None
    # "Sequence" is what all versions of datasets read; they write "List" since version 4.
    pair = {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "Sequence"}
    ours = {name: {"feature": pair, "_type": "Sequence"} for name in COLUMNS[1:]}
    codes = {"feature": {"dtype": "uint16", "_type": "Value"}, "_type": "Sequence"}
    return {**kept, "codes": codes, **ours}


def _unwritable(path: Path, error: Exception) -> CodesError:
    reason = getattr(error, "strerror", None) or str(error)
    return CodesError(f"cannot be written: {reason}", path)
