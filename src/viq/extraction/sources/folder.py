"""A folder of images with all folders in it: a unit is so many files, ordered by path.

Captions lie beside the images, or in one list, as ``viq.data.folder`` reads them. A list may name
an image more than once; each line is a row.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from viq.data.folder import LISTS, SUFFIXES
from viq.errors import InputError
from viq.extraction.sources.find import Found
from viq.extraction.sources.images import ahead, fetch, find_images
from viq.extraction.sources.json_rows import read_lines
from viq.extraction.sources.listing import Item, sorted_on_disk
from viq.extraction.sources.row import Row, failed, one_row
from viq.extraction.sources.shape import Shapes, as_text
from viq.extraction.sources.storage import File, Place, Storage, is_passing

_CAPTIONS = ("caption", "text")  # the keys of a list that hold captions
_LISTING = "listing.jsonl"


@dataclass(frozen=True, eq=False)
class FolderRows:
    """See ``viq.extraction.plan.ExtractionSource``."""

    root: Place
    rows_a_unit: int
    schema: pa.Schema
    json_columns: frozenset[str]  # whose values no type holds; see viq.extraction.sources.shape
    listing: Path  # a row a line: [path, what the list says of it or null]
    starts: NDArray[np.int64]  # (units,) the byte in the listing at which each begins
    count: int  # of rows
    captions: bool  # whether any lie beside the images
    digest: str  # of all names and sizes
    kind: str = "folder"

    @classmethod
    def plan(cls, found: Found, work: Path, rows_a_unit: int) -> Self:
        """Walks through the folder, and stores what is there in ``work``, sorted.

        Raises:
            InputError: the list of captions is damaged, or there are no images.
        """
        root = Place(found.storage, found.folder)
        contents = _Contents(root)
        work.mkdir(parents=True, exist_ok=True)
        listing = work / _LISTING
        temporary = listing.with_suffix(".tmp")
        starts, count, at = [], 0, 0
        with temporary.open("wb") as file:
            for row in contents.rows(work):
                if count % rows_a_unit == 0:
                    starts.append(at)
                at += file.write(json.dumps(row).encode() + b"\n")
                count += 1
        temporary.replace(listing)
        if not count:
            raise InputError("holds no images", found.source)
        schema, json_columns = contents.shapes.schema()
        return cls(
            root,
            rows_a_unit,
            schema,
            json_columns,
            listing,
            np.array(starts, dtype=np.int64),
            count,
            contents.captions,
            contents.digest.hexdigest(),
        )

    @property
    def units(self) -> int:
        return len(self.starts)

    def rows(self, unit: int) -> int:
        return min(self.rows_a_unit, self.count - unit * self.rows_a_unit)

    def where(self, unit: int) -> str:
        first = unit * self.rows_a_unit
        name = self.root.storage.name(self.root.path)
        return f"{name}: images {first}-{first + self.rows(unit) - 1}"

    def identity(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "source": self.root.storage.name(self.root.path),
            "rows": self.count,
            "digest": self.digest,
            "rows_a_unit": self.rows_a_unit,
        }

    def read(self, unit: int) -> Iterator[Row]:
        storage, path = Storage.locate(str(self.listing))
        with storage.open(File(path, 0)) as file:
            file.seek(int(self.starts[unit]))
            items = enumerate(map(json.loads, islice(file, self.rows(unit))))
            try:
                yield from ahead(self._row, items, self.root)
            except ConnectionError as error:
                raise InputError(str(error), self.where(unit)) from error

    def _row(self, item: tuple[int, tuple[str, dict[str, Any] | None]]) -> Row:
        position, (path, line) = item
        cells = {**(line or {}), "file_name": path}
        try:
            cells["caption"] = _caption(cells) or self._read_caption(path)
            images = find_images(path, self.root)
            columns = one_row(as_text(cells, self.json_columns), self.schema)
        except InputError as error:
            return failed(position, path, self.schema, error.reason)
        except ValueError as error:
            return failed(position, path, self.schema, str(error))
        return Row(position=position, id=path, columns=columns, images=images)

    def _read_caption(self, path: str) -> str | None:
        """The caption beside an image; None if there is none, or a blank one."""
        if not self.captions:
            return None
        beside = str(PurePosixPath(path).with_suffix(".txt"))
        try:
            if self.root.storage.local:
                text = Path(self.root.path, beside).read_text("utf-8")
            else:
                text = fetch(beside, self.root).decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            if is_passing(error):
                raise ConnectionError(f"{beside} cannot be read: {error}") from error
            raise InputError(f"its caption cannot be read ({error})") from error
        return text.strip() or None


class _Contents:
    """What lies in a folder, while it is walked through.

    Attributes:
        shapes: the columns.
        captions: whether captions lie beside images.
        digest: of all names and sizes.
    """

    def __init__(self, root: Place) -> None:
        self._root = root
        self.shapes = Shapes()
        self.shapes.add({"file_name": "", "caption": ""}, root.path)
        self.captions = False
        self.digest = blake2b(digest_size=16)

    def rows(self, work: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Each row's image and what the list says of it, by path; lines of one image in order."""
        unlisted = None  # the image of which no line has come yet
        for item in sorted_on_disk(itertools.chain(self._files(), self._lines()), work):
            self.digest.update(json.dumps(item).encode())
            path, number, held = item
            if unlisted is not None and unlisted != path:
                yield unlisted, None
            unlisted = None
            if number:
                yield path, held
            elif _suffix(path) in SUFFIXES:
                unlisted = path
        if unlisted is not None:
            yield unlisted, None

    def _files(self) -> Iterator[Item]:
        for path, size in self._root.storage.walk(self._root.path):
            if (suffix := _suffix(path)) == ".txt":
                self.captions = True
            elif suffix not in SUFFIXES:
                continue
            yield [path, 0, size]

    def _lines(self) -> Iterator[Item]:
        storage, folder = self._root
        lists = (f"{folder.rstrip('/')}/{name}" for name in LISTS)
        found = next((file for path in lists if (file := storage.file(path))), None)
        if found is None:
            return
        with storage.open(found) as stream:
            for row in read_lines(stream):
                where = f"{storage.name(found.path)}: line {row.line}"
                if row.error is not None:
                    raise InputError(row.error, where)
                if not isinstance(name := row.value.get("file_name"), str):
                    raise InputError("is not an object with a 'file_name'", where)
                if any(not isinstance(row.value.get(key) or "", str) for key in _CAPTIONS):
                    raise InputError("its caption is not text", where)
                self.shapes.add(row.value, where)
                yield [name, row.line, row.value]


def _caption(line: Mapping[str, Any]) -> str:
    return next((text for key in _CAPTIONS if (text := (line.get(key) or "").strip())), "")


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()
