"""Parquet files and WebDataset shards, through ``datasets``: rows are mapped, not read.

``datasets`` turns shards into its own cache once. Images stay the encoded bytes that they are.
"""

import glob
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from viq.chat import Message
from viq.data.conversation import question_for, question_messages, read_turns
from viq.data.rows import RowSource, image_columns, read_images, row_repeats
from viq.data.sample import Sample, SampleImage
from viq.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]

_CONVERSATIONS = ("messages", "conversations")
_CAPTIONS = ("caption", "txt", "text")
_IDS = ("id", "__key__")
_NAMES = {"parquet": "Parquet", "webdataset": "WebDataset"}
_JSON = "json"  # the column of a shard whose fields count as columns, too


class TableSource(RowSource):
    """Samples of a table: conversations, questions with answers, or captions.

    Columns: ``messages`` or ``conversations``; else ``question`` and ``answer``; else ``caption``,
    ``txt`` or ``text``. Images: ``image`` or ``images``; else all of ``jpg``, ``jpeg``, ``png`` and
    ``webp`` that a row has. Rows without a question, an answer or a caption are left out.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        files: Sequence[Path],
        kind: Literal["parquet", "webdataset"],
        *,
        image_root: Path | None = None,
        need_text: bool = True,
        weight_column: str = "kind",
        row_weights: Mapping[str, int] | None = None,
    ) -> None:
        """Opens the files and counts the rows that are samples.

        Args:
            name: begins every sample's id.
            path: what was asked for; the files' folder, or the file.
            files: the shards, in order.
            kind: what they are.
            image_root: where image paths begin, if a row holds paths; the files' folder if None.
            need_text: whether text is read; without, all rows count and messages are ().
            weight_column: the column whose values ``row_weights`` weighs.
            row_weights: how often an epoch has rows of a value; once where none is given.

        Raises:
            InputError: a file is damaged, or columns are missing or of another type.
        """
        self._root = files[0].parent if image_root is None else image_root
        table = _open(path, files, kind)
        columns = _columns(table)
        self._images = self._image_columns(columns)
        self._text = _text_columns(columns, path) if need_text else ()
        if not self._images and not set(self._text) & {*_CONVERSATIONS, "question"}:
            raise InputError(f"no column of images; there are: {', '.join(columns)}", path)
        self._ids = [column for column in _IDS if column in columns][:1]
        needed = {_holder(table, column) for column in (*self._ids, *self._text, *self._images)}
        self._table = table.select_columns(sorted(needed))
        usable = np.ones(len(table), dtype=np.bool_)
        for column in self._text:
            if column not in _CONVERSATIONS:
                usable &= _filled(table, column, path)
        repeats = None
        if row_weights:
            if weight_column not in columns:
                reason = f"no column {weight_column!r}; there are: {', '.join(columns)}"
                raise InputError(reason, path)
            values = [v for chunk in _chunks(table, weight_column) for v in chunk.to_pylist()]
            repeats = row_repeats(values, row_weights)
        super().__init__(name, path, usable, repeats)

    def _image_columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Those of ``columns`` that hold the images."""
        return image_columns(columns)

    def _cells(self, row: pa.Table) -> dict[str, Any]:
        """The cells of a table of one row, as Python's values."""
        return row.to_pylist()[0]

    def _read_images(self, cells: Mapping[str, Any], where: str) -> tuple[SampleImage, ...]:
        """The images of a row."""
        return read_images([cells[column] for column in self._images], self._root, where)

    def _read(self, row: int) -> Sample:
        cells = self._cells(self._table[row])
        cells = {**(cells.get(_JSON) or {}), **cells}
        id = self._id(cells[self._ids[0]] if self._ids else None, row)
        where = self._where(id)
        images = self._read_images(cells, where)
        if not self._text:
            return Sample(id=id, images=images, messages=())
        return Sample(id=id, images=images, messages=self._messages(id, cells, len(images), where))

    def _messages(
        self, id: str, cells: Mapping[str, Any], images: int, where: str
    ) -> tuple[Message, ...]:
        texts = [cells[column] for column in self._text]
        if self._text[0] in _CONVERSATIONS:
            return read_turns(_turns(texts[0], where), images, where)
        if len(texts) == 2:
            return question_messages(texts[0].strip(), texts[1].strip(), images)
        if images != 1:
            raise InputError(f"its caption is of {images} images, not of one", where)
        return question_messages(question_for(id), texts[0].strip(), 1)


def _turns(value: object, where: str) -> object:
    """A conversation, which some tables hold as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"its conversation is not JSON ({error})", where) from error


def _open(path: Path, files: Sequence[Path], kind: str) -> "Dataset":
    """The files as one table, whose rows come as they are stored."""
    import datasets

    filled = []
    for file in files:  # datasets does not say which one is damaged, and stops at an empty one
        try:
            if kind == "webdataset":
                tarfile.open(file).close()
            elif not pq.read_metadata(file).num_rows:
                continue
            filled.append(file)
        except (OSError, pa.ArrowException, tarfile.TarError) as error:
            raise InputError(f"not a readable {_NAMES[kind]} file ({error})", file) from error
    if not filled:
        raise InputError("holds no samples: there are no rows", path)
    # Without escapes, brackets in a path would be a pattern, and the file silently not found.
    names = [glob.escape(str(file.absolute())) for file in filled]
    try:
        table = datasets.load_dataset(kind, data_files={"train": names}, split="train")
    except Exception as error:  # damaged data make its readers raise nearly anything
        cause = error.__cause__ or error
        raise InputError(f"cannot be read as {_NAMES[kind]} ({cause})", path) from error
    return table.with_format("arrow")


def _columns(table: "Dataset") -> list[str]:
    """All columns, and the fields of a shard's JSON."""
    names = list(table.column_names)
    if isinstance(fields := table.features.get(_JSON), Mapping):
        names += [field for field in fields if field not in names]
    return names


def _text_columns(columns: Sequence[str], path: Path) -> tuple[str, ...]:
    for column in _CONVERSATIONS:
        if column in columns:
            return (column,)
    if "question" in columns and "answer" in columns:
        return ("question", "answer")
    for column in _CAPTIONS:
        if column in columns:
            return (column,)
    known = ", ".join((*_CONVERSATIONS, "question and answer", *_CAPTIONS))
    raise InputError(f"no column of text ({known}); there are: {', '.join(columns)}", path)


def _holder(table: "Dataset", column: str) -> str:
    """The column itself, or the JSON that it is a field of."""
    return column if column in table.column_names else _JSON


def _chunks(table: "Dataset", column: str) -> Iterator[pa.ChunkedArray]:
    """The column, piece by piece and without the others."""
    holder = _holder(table, column)
    for part in table.select_columns([holder]).iter(batch_size=10_000):
        yield part[holder] if holder == column else pc.struct_field(part[holder], column)


def _filled(table: "Dataset", column: str, path: Path) -> NDArray[np.bool_]:
    """(rows,) whether there is more than blanks."""
    filled = [np.zeros(0, dtype=np.bool_)]
    for chunk in _chunks(table, column):
        if not (pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)):
            raise InputError(f"column {column!r} is {chunk.type}, not text", path)
        length = pc.utf8_length(pc.utf8_trim_whitespace(chunk))
        filled.append(pc.fill_null(pc.greater(length, 0), False).to_numpy())
    return np.concatenate(filled)
