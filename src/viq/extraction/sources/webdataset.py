"""WebDataset shards: a unit is one tar file, read from its begin to its end.

Files of one name up to its first dot are a row, if they follow each other: ``a/007.jpg`` and
``a/007.json`` are row ``a/007``. Columns are ``__key__`` and what comes after the dot, text as text
and all else but images as bytes. The first shard says which columns there are; what only later ones
have is kept as bytes in ``__other__``.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, BinaryIO, Literal, Self

import pyarrow as pa

from viq.data.folder import SUFFIXES
from viq.errors import InputError
from viq.extraction.sources.find import Found
from viq.extraction.sources.row import Row, failed, one_row
from viq.extraction.sources.storage import base

KEY, OTHER = "__key__", "__other__"

_TEXT = {
    *(".caption", ".cls", ".cls2", ".csv", ".html", ".id", ".index", ".json", ".jsonl", ".md"),
    *(".text", ".transcript", ".tsv", ".txt", ".url", ".xml"),
}

# Lists of structs, and not a map, which datasets has no type for.
_OTHER_TYPE = pa.list_(pa.struct([("field", pa.string()), ("data", pa.binary())]))

_Fields = dict[str, bytes]  # of one row, in the shard's order


@dataclass(frozen=True, eq=False)
class ShardRows:
    """See ``viq.extraction.plan.ExtractionSource``."""

    found: Found
    schema: pa.Schema
    kind: str = "webdataset"

    @classmethod
    def plan(cls, found: Found) -> Self:
        """Looks at the names in the first shard.

        Raises:
            InputError: it is no shard, or there is nothing in it.
        """
        name = found.name(0)
        fields: dict[str, None] = {}
        with found.storage.open(found.files[0]) as stream:
            try:
                for _, _, field in _members(stream, "r:"):
                    fields[field] = None
            except tarfile.TarError as error:
                if not fields:  # else what is there tells enough
                    raise InputError(f"not a readable WebDataset file ({error})", name) from error
        if not fields:
            raise InputError("holds no samples: no file in it has a suffix", name)
        ours = {KEY: pa.string(), OTHER: _OTHER_TYPE}
        kept = [f for f in fields if _suffix(f) not in SUFFIXES and f.lower() not in ours]
        types = {f: pa.string() if _suffix(f) in _TEXT else pa.binary() for f in kept}
        return cls(found, pa.schema({KEY: ours[KEY], **types, OTHER: ours[OTHER]}))

    @property
    def units(self) -> int:
        return len(self.found.files)

    def rows(self, unit: int) -> None:  # noqa: ARG002  # only reading the shard tells
        return None

    def where(self, unit: int) -> str:
        return self.found.name(unit)

    def identity(self) -> dict[str, Any]:
        return {
            **self.found.identity(),
            "digest": blake2b(repr(self.found.files).encode(), digest_size=16).hexdigest(),
        }

    def read(self, unit: int) -> Iterator[Row]:
        name = self.found.name(unit)
        position, last, fields, twice = 0, "", _Fields(), ""
        with self.found.storage.open(self.found.files[unit]) as stream:
            try:
                for file, key, field in _members(stream, "r|"):
                    if fields and key != last:
                        yield self._row(position, last, fields, twice)
                        position, fields, twice = position + 1, {}, ""
                    last = key
                    twice = field if field in fields else twice
                    fields[field] = file.read()
            except tarfile.TarError as error:  # the row that it cuts may lack anything
                reason = f"the shard is cut off or damaged from here on ({error})"
                yield failed(position, last or name, self.schema, reason)
                return
        if fields:
            yield self._row(position, last, fields, twice)

    def _row(self, position: int, key: str, fields: _Fields, twice: str) -> Row:
        cells: dict[str, Any] = {KEY: key}
        images, other = [], []
        try:
            if twice:
                raise ValueError(f"has two files .{twice}")
            for field, data in fields.items():
                suffix = _suffix(field)
                if suffix in SUFFIXES:
                    if not data:
                        raise ValueError("its image is empty")
                    images.append(data)
                elif field in (KEY, OTHER) or field not in self.schema.names:
                    other.append({"field": field, "data": data})
                else:
                    cells[field] = _text(data, field) if suffix in _TEXT else data
            columns = one_row({**cells, OTHER: other or None}, self.schema)
        except ValueError as error:
            return failed(position, key, self.schema, str(error))
        return Row(position=position, id=key, columns=columns, images=tuple(images))


class _Member(tarfile.TarInfo):
    """A file's header that tells the end of a shard from a shard without an end.

    ``tarfile`` takes both for the end.
    """

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the mark that writers put
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no end mark, but {error}") from error


def _members(stream: BinaryIO, mode: Literal["r:", "r|"]) -> Iterator[tuple[Any, str, str]]:
    """Each visible file with a suffix, its row's key and its field."""
    with tarfile.open(fileobj=stream, mode=mode, tarinfo=_Member) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # or it would hold all headers
            key, dot, field = base(member.name).partition(".")
            if member.isreg() and key and dot and field:
                folder = member.name.rpartition("/")[0].removeprefix("./")
                yield tar.extractfile(member), f"{folder}/{key}" if folder else key, field


def _suffix(field: str) -> str:
    return "." + field.rpartition(".")[2].lower()


def _text(data: bytes, field: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"its .{field} is not UTF-8 ({error})") from error
