"""Rows of a benchmark's Parquet files, as a download from the hub leaves them.

Of the files only the footers are read at first. A row group at a time is in memory.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from viq.data.rows import read_images
from viq.errors import InputError
from viq.image import Picture

# As files and folders of the hub name their splits: data/test-00000-of-00002.parquet, test.parquet,
# or default/test/0000.parquet of its conversions.
_SPLITS = ("train", "validation", "val", "test", "dev")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


class Row(NamedTuple):
    """One row, which answers for its cells."""

    cells: Mapping[str, Any]
    number: int  # in the split, from 0
    where: str  # for errors

    def text(self, column: str) -> str:
        """A cell of text.

        Raises:
            InputError: it is something else.
        """
        value = self.cells[column]
        if not isinstance(value, str):
            raise InputError(f"its {column} is {_short(value)}, not text", self.where)
        return value

    def texts(self, column: str) -> tuple[str, ...]:
        """A cell of one text or more.

        Raises:
            InputError: it is something else.
        """
        value = self.cells[column]
        if not isinstance(value, list) or not value or not all(isinstance(t, str) for t in value):
            raise InputError(f"its {column} are {_short(value)}, not a list of texts", self.where)
        return tuple(value)

    def picture(self, column: str) -> Picture | bytes:
        """A cell with a picture: encoded bytes, as ``datasets`` holds them, or base64 of them.

        Raises:
            InputError: it is something else, or empty.
        """
        value = self.cells[column]
        if isinstance(value, str):
            try:
                return base64.b64decode(value, validate=True)
            except binascii.Error:
                raise InputError(f"its {column} is text, but not base64", self.where) from None
        pictures = read_images(value, Path(), self.where)
        if len(pictures) != 1:
            raise InputError(f"its {column} is {_short(value)}, not a picture", self.where)
        return pictures[0]


class Rows:
    """The rows of files with the same columns, in their order."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str], expected: str) -> None:
        """Reads the footers.

        Args:
            files: at least one.
            columns: those that are read.
            expected: what the files should be, for errors.

        Raises:
            InputError: a file is damaged, or a column is missing.
        """
        self._columns = list(columns)
        self._groups: list[tuple[Path, int]] = []
        counts = []
        for file in files:
            try:
                with pq.ParquetFile(file) as opened:
                    names, footer = opened.schema_arrow.names, opened.metadata
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"not a readable Parquet file ({error})", file) from error
            if missing := [column for column in columns if column not in names]:
                raise InputError(
                    f"has no column {' and '.join(missing)}, so it is not {expected}; its columns:"
                    f" {', '.join(names)}",
                    file,
                )
            for group in range(footer.num_row_groups):
                self._groups.append((file, group))
                counts.append(footer.row_group(group).num_rows)
        if not sum(counts):
            raise InputError(f"holds no rows, so it is not {expected}", files[0])
        self._starts = np.array([0, *accumulate(counts)])
        self._held: tuple[int, Any] = (-1, None)  # a row group's number, and its table

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: int) -> Row:
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        file, _ = self._groups[group]
        inside = number - int(self._starts[group])
        cells = self._table(group).slice(inside, 1).to_pylist()[0]
        return Row(cells, number, f"{file}: row {number - self._first(file)}")

    @property
    def files(self) -> list[Path]:
        """Where the rows are, in order."""
        return [*dict.fromkeys(file for file, _ in self._groups)]

    def column(self, name: str) -> list[str]:
        """The cells of one column as texts, of all rows.

        Raises:
            InputError: a file is damaged.
        """
        found: list[str] = []
        for file in self.files:
            try:
                with pq.ParquetFile(file) as opened:
                    cells = opened.read([name])[name].to_pylist()
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"its column {name} is not readable ({error})", file) from error
            found += map(str, cells)
        return found

    def _table(self, group: int) -> Any:
        held, table = self._held  # both at once, as threads may read
        if held != group:
            file, place = self._groups[group]
            try:
                with pq.ParquetFile(file) as opened:
                    table = opened.read_row_group(place, self._columns)
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"row group {place} is not readable ({error})", file) from error
            self._held = (group, table)
        return table

    def _first(self, file: Path) -> int:
        """The number of a file's first row."""
        return int(self._starts[next(n for n, (f, _) in enumerate(self._groups) if f == file)])


def find_folder(data: Path, names: Sequence[str], download: str) -> Path:
    """The folder below ``data`` with one of these names, in any case.

    Args:
        data: holds a folder for each data set.
        names: the first that is there counts.
        download: the command that makes the folder.

    Raises:
        InputError: it is not there.
    """
    if not data.is_dir():
        raise InputError("no such folder; give one that holds a folder for each benchmark", data)
    folders = {path.name.lower(): path for path in sorted(data.iterdir()) if path.is_dir()}
    for name in names:
        if name.lower() in folders:
            return folders[name.lower()]
    wanted = " or ".join(dict.fromkeys(name.lower() for name in names))
    raise InputError(f"has no folder {wanted}, in any case; {download}", data)


def find_files(folder: Path, *, config: str | None, split: str, download: str) -> list[Path]:
    """The Parquet files of a split, in order.

    Args:
        folder: of the data set.
        config: the folder inside it that counts; None: all do.
        split: the first part of the files' names, or the name of their folder. Where neither names
            any split, all files are of the only one.
        download: the command that makes the folder.

    Raises:
        InputError: there are none, or only some of those that their names count.
    """
    files = [file for file in sorted(folder.rglob("*.parquet")) if not _hidden(file, folder)]
    if config is not None:
        there = ", ".join(sorted({name for file in files for name in _folders(file, folder)}))
        files = [file for file in files if config in _folders(file, folder)]
        if not files:
            raise InputError(
                f"holds no Parquet files in a folder {config}, only in: {there or 'none'};"
                f" {download}",
                folder,
            )
    splits = {file: _split(file) for file in files}
    found = [file for file in files if splits[file] in (split, None)]
    if not found:
        there = ", ".join(sorted({str(name) for name in splits.values()}))
        has = f"only of {there}" if there else "none at all"
        raise InputError(f"holds no Parquet files of the split {split}, {has}; {download}", folder)
    _check_whole(found, download)
    return found


def _check_whole(files: Sequence[Path], download: str) -> None:
    shards: dict[tuple[Path, str], set[int]] = {}
    for file in files:
        if match := _SHARD.search(file.stem):
            shards.setdefault((file.parent, match[2]), set()).add(int(match[1]))
    for (folder, total), numbers in shards.items():
        if len(numbers) < int(total):
            raise InputError(f"holds {len(numbers)} of {int(total)} files; {download}", folder)


def _split(file: Path) -> str | None:
    begin = re.split(r"[-.]", file.name, maxsplit=1)[0]
    for name in (begin, file.parent.name):
        if name in _SPLITS:
            return name
    return None


def _folders(file: Path, folder: Path) -> tuple[str, ...]:
    return file.relative_to(folder).parts[:-1]


def _hidden(file: Path, folder: Path) -> bool:
    """Whether it is in a folder such as .cache, where downloads keep their notes."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
