"""Reads code data sets, file by file and in order; what is in them is checked."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from viq.codes import Codes
from viq.errors import CodesError, FingerprintError
from viq.store.format import (
    COLUMNS,
    FIELDS,
    FORMAT,
    METADATA_KEY,
    CodesInfo,
    codes_of_row,
    column_types,
)

Where = str | PathLike[str]

BATCH_ROWS = 1000
MAX_GROUP_BYTES = 2**31  # of a row group, as its metadata say: what is read at once


class CodeDataset:
    """All rows of a code data set, in order.

    Attributes:
        info: what all codes have in common.
        files: their names, in order.
        file_rows: how many rows each file has.
        schema: of the carried columns.
        num_bytes: of all files.
    """

    def __init__(self, where: Where | Sequence[Where], *, fingerprint: str | None = None) -> None:
        """Reads the metadata of all files.

        Args:
            where: a folder, a file, a URL of either that fsspec knows, or several files.
            fingerprint: of the tokenizer whose codes these must be; any if None.

        Raises:
            FingerprintError: they are another tokenizer's.
            CodesError: a file cannot be read or is none of a code data set, or two disagree.
        """
        if isinstance(where, (str, PathLike)):
            self.files = tuple(data_files(where))
        else:
            self.files = tuple(map(str, where))
        abouts = [_read_about(file) for file in self.files]
        if not abouts:
            raise CodesError("there are no files to read")
        first = abouts[0]
        self.info = first.info
        for file, about in zip(self.files, abouts, strict=True):
            if fingerprint is not None and about.info.fingerprint != fingerprint:
                raise FingerprintError(fingerprint, about.info.fingerprint, file)
            _check_agreement(first, self.files[0], about, file)
        self.schema = pa.schema([field for field in first.schema if field.name not in COLUMNS])
        self.file_rows = tuple(about.rows for about in abouts)
        self.num_bytes = sum(about.num_bytes for about in abouts)

    def __len__(self) -> int:
        return sum(self.file_rows)

    def batches(
        self, *, columns: Sequence[str] | None = None, batch_size: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Rows in order, at most ``batch_size`` at a time; not more than that is in memory.

        Args:
            columns: which, ours and carried ones; all if None.
            batch_size: of rows.

        Raises:
            CodesError: there is no such column, or a file is damaged.
        """
        there = [*self.schema.names, *COLUMNS]
        if unknown := [name for name in columns or () if name not in there]:
            raise CodesError(
                f"no column {unknown[0]!r}; there are: {', '.join(there)}", self.files[0]
            )
        for file in self.files:
            yield from file_batches(file, columns=columns, batch_size=batch_size)

    def images(self) -> Iterator[list[Codes]]:
        """The codes of each row's images, checked.

        Raises:
            CodesError: a row contradicts itself, or a file is damaged; names file and row.
        """
        for file in self.files:
            for rows in file_images(file, self.info):
                for row in rows:
                    if isinstance(row, CodesError):
                        raise row
                    yield list(row)


def data_files(where: Where) -> list[str]:
    """The Parquet files of a data set, by name: those in DIR/data, else those in DIR; or the file.

    Raises:
        CodesError: there are none.
    """
    where = str(where)
    files = _remote_files(where) if _is_url(where) else _local_files(Path(where))
    if not files:
        raise CodesError("no such file, and no folder with Parquet files", where)
    return files


def is_code_dataset(where: Path) -> bool:
    """Whether a local file, or the first one of a folder, is one of a code data set."""
    try:
        metadata = pq.read_metadata(data_files(where)[0]).metadata or {}
    except (CodesError, OSError, ValueError, pa.ArrowException):
        return False
    return f'"{FORMAT}"'.encode() in metadata.get(METADATA_KEY, b"")


def file_batches(
    file: str, *, columns: Sequence[str] | None = None, batch_size: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Rows of one file, in order; a batch ends where a row group ends.

    Raises:
        CodesError: the file is damaged, or cannot be read.
    """
    with _opened(file) as parquet:
        for group in range(parquet.num_row_groups):
            batches = parquet.iter_batches(
                batch_size, [group], None if columns is None else list(columns), use_threads=False
            )
            for batch in batches:
                yield batch if columns is None else batch.select(list(columns))


def file_images(
    file: str, info: CodesInfo, *, whole: bool = False, batch_size: int = BATCH_ROWS
) -> Iterator[list[tuple[Codes, ...] | CodesError]]:
    """The codes of each row's images, some rows at a time; what is wrong with it instead of a row.

    Args:
        file: its name.
        info: of its data set.
        whole: reads the other columns, too, so that damage in them is found.
        batch_size: rows at a time, at most.

    Raises:
        CodesError: the file is damaged, or cannot be read.
    """
    row = 0
    columns = None if whole else COLUMNS
    for batch in file_batches(file, columns=columns, batch_size=batch_size):
        rows: list[tuple[Codes, ...] | CodesError] = []
        for cells in _cells(batch):
            try:
                rows.append(codes_of_row(cells, info, f"{file}: row {row}"))
            except CodesError as error:
                rows.append(error)
            row += 1
        yield rows


def code_bytes(file: str) -> int:
    """The bytes that codes take in a file all of which could be read."""
    with _opened(file) as parquet:
        paths = [parquet.schema.column(n).path for n in range(len(parquet.schema))]
        place = next(n for n, path in enumerate(paths) if path.split(".")[0] == "codes")
        groups = map(parquet.metadata.row_group, range(parquet.num_row_groups))
        return sum(group.column(place).total_compressed_size for group in groups)


def _cells(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Our cells of each row; codes are a view of the batch."""
    codes = batch.column("codes")
    sizes = [batch.column(name).to_pylist() for name in COLUMNS[1:]]
    offsets, whole = codes.offsets.to_pylist(), not codes.null_count + codes.values.null_count
    values = codes.values.to_numpy() if whole else None
    for row in range(batch.num_rows):
        cells = dict(zip(COLUMNS[1:], (column[row] for column in sizes), strict=True))
        if values is None:  # slow, but none of these is good data
            yield {"codes": codes[row].as_py(), **cells}
        else:
            yield {"codes": values[offsets[row] : offsets[row + 1]], **cells}


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    """A Parquet file, whose errors are ours while it is open."""
    try:
        with ExitStack() as stack:
            handle: Any = file
            if _is_url(file):
                system, path = _file_system(file)
                handle = stack.enter_context(system.open(path, "rb"))
            yield stack.enter_context(pq.ParquetFile(handle, page_checksum_verification=True))
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CodesError(f"cannot be read, or is damaged: {reason[:200]}", file) from error


class _About(NamedTuple):
    """What a file's metadata say."""

    info: CodesInfo
    schema: pa.Schema
    rows: int
    num_bytes: int


def _read_about(file: str) -> _About:
    with _opened(file) as parquet:
        metadata, schema = parquet.metadata, parquet.schema_arrow
        text = (metadata.metadata or {}).get(METADATA_KEY)
        if text is None:
            raise CodesError("is none of a code data set: its metadata have no entry 'viq'", file)
        info = CodesInfo.from_json(text, file)
        for expected in FIELDS:
            found = schema.field(expected.name).type if expected.name in schema.names else None
            if found is None or not _same_type(found, expected.type):
                is_there = "missing" if found is None else f"of type {found}"
                raise CodesError(
                    f"its column {expected.name!r} is {is_there}; it must be of type"
                    f" {expected.type}",
                    file,
                )
        for number in range(metadata.num_row_groups):
            # Not by column: pyarrow ends the process where a column's metadata are damaged.
            if (size := metadata.row_group(number).total_byte_size) > MAX_GROUP_BYTES:
                raise CodesError(
                    f"row group {number} has {size:,} bytes, of at most {MAX_GROUP_BYTES:,}", file
                )
        return _About(info, schema.remove_metadata(), metadata.num_rows, _size(file))


def _check_agreement(first: _About, first_file: str, about: _About, file: str) -> None:
    for name in ("fingerprint", "levels", "code_heads", "patch_size"):
        found, expected = getattr(about.info, name), getattr(first.info, name)
        if found != expected:
            raise CodesError(
                f"its {name} is {found!r}, but of {first_file} {expected!r}; the files of a data"
                " set must agree",
                file,
            )
    if not about.schema.equals(first.schema):
        raise CodesError(
            f"its columns are {column_types(about.schema)}, but of {first_file}"
            f" {column_types(first.schema)}; the files of a data set must agree",
            file,
        )


def _same_type(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether types are the same apart from the names of lists' items."""
    if pa.types.is_list(found) and pa.types.is_list(expected):
        return _same_type(found.value_type, expected.value_type)
    return bool(found == expected)


def _local_files(path: Path) -> list[str]:
    if not path.is_dir():
        return [str(path)] if path.exists() else []
    for place in (path / "data", path):
        if files := sorted(str(file) for file in place.glob("*.parquet") if _is_data(str(file))):
            return files
    return []


def _remote_files(url: str) -> list[str]:
    try:
        system, path = _file_system(url)
        if not system.isdir(path):
            return [url] if system.exists(path) else []
        for place in (f"{path.rstrip('/')}/data", path.rstrip("/")):
            names = system.ls(place, detail=False) if system.isdir(place) else []
            if files := sorted(name for name in names if _is_data(name)):
                return [system.unstrip_protocol(name) for name in files]
    except (OSError, ValueError, ImportError) as error:
        raise CodesError(f"cannot be listed: {error}", url) from error
    return []


def _is_data(name: str) -> bool:
    base = name.rsplit("/", 1)[-1]
    return base.endswith(".parquet") and not base.startswith(".")


def _is_url(name: str) -> bool:
    return "://" in name


def _file_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    return url_to_fs(url)


def _size(file: str) -> int:
    if not _is_url(file):
        return Path(file).stat().st_size
    system, path = _file_system(file)
    return int(system.size(path))
