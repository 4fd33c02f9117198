"""Pictures to evaluate on: a folder's, those of Parquet files, or lines of text that are drawn."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from viq.data.folder import SUFFIXES
from viq.data.images import as_picture
from viq.data.rows import image_columns, read_images
from viq.data.sources import SPLIT
from viq.errors import ImageError, InputError
from viq.image import load_image

TEXT = "text"  # the name of the pictures that are drawn
TEXT_COUNT = 60
MOST_TEXTS = 100_000
TEXT_HEIGHTS = (16, 24, 32)  # pixels from the top of the highest letter to the lowest's bottom
TEXT_LINES = 6
TEXT_WIDTH = 512  # pixels that a line may have
TEXT_MARGIN = 16

FEW = 5  # pictures that a sentence names
SEED = 0  # of the choice of pictures, and of those that are drawn


class Original(NamedTuple):
    """A picture as it is, and the text in it where that is known."""

    image: Image.Image
    text: str | None = None


class Pictures(ABC):
    """Pictures by name, read one by one.

    Attributes:
        title: what the data are called.
        names: of all pictures, in order.
    """

    title: str
    names: Sequence[str]

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What tells these data from others, as far as it needs no reading."""

    @abstractmethod
    def read(self, name: str) -> Original:
        """The picture of this name.

        Raises:
            InputError: it cannot be read; names the file.
        """

    def group(self, name: str) -> str | None:  # noqa: ARG002  # most data have none
        """What kind of picture it is, where the data know kinds that are to be told apart."""
        return None

    def titled(self, names: Sequence[str]) -> str:
        """What tables call the data: their title, and how many of them ``names`` are."""
        count, all = len(names), len(self.names)
        number = f"{count:,}" if count == all else f"{count:,} of {all:,}"
        return f"{self.title}, {number} picture{'s' if all > 1 else ''}"


def choice(names: Sequence[str], count: int | None) -> Sequence[str]:
    """So many of the names, from all places, in their order and the same in every run; or all."""
    if count is None or count >= len(names):
        return names
    order = np.random.default_rng(SEED).permutation(len(names))
    return [names[place] for place in sorted(order[:count])]


def unread(names: Sequence[str], read: Collection[str]) -> str:
    """A sentence on the pictures that were asked for and not read; empty where there are none."""
    there = set(read)
    missing = [name for name in names if name not in there]
    if not missing:
        return ""
    some = ", ".join(missing[:FEW]) + (" ..." if len(missing) > FEW else "")
    return f" Left out, for they could not be read: {len(missing):,} of {len(names):,} ({some})."


def open_pictures(data: str, split: str | None = None, count: int | None = None) -> Pictures:
    """Opens a folder of pictures, Parquet files, or ``TEXT``.

    Args:
        data: a folder of pictures, a Parquet file or a folder of such, or "text".
        split: of a folder; "validation" by default where its Parquet files are of splits.
        count: how many pictures of text there are.

    Raises:
        InputError: there are none, or they cannot be opened.
    """
    if data == TEXT:
        if split is not None:
            raise InputError("the lines of text have no splits; leave --split out", data)
        if count is not None and count > MOST_TEXTS:
            raise InputError(f"at most {MOST_TEXTS:,} pictures of text are drawn", "--count")
        return DrawnText(count or TEXT_COUNT)
    path = Path(data).expanduser()
    if not path.exists():
        raise InputError(f"no such file or folder; {TEXT!r} has lines of text drawn", data)
    if files := _parquet_files(path, split):
        suffix = "" if path.is_file() else f", {split or 'validation'}"
        return ParquetPictures(f"{path.resolve().stem}{suffix}", files)
    return FolderPictures(path if split is None else path / split)


class FolderPictures(Pictures):
    """All pictures in a folder and those in it, by path."""

    def __init__(self, folder: Path) -> None:
        """Lists the folder.

        Raises:
            InputError: it is no folder, or has no pictures.
        """
        if not folder.is_dir():
            raise InputError("is no folder of pictures and no Parquet file", folder)
        self.folder, self.title = folder, folder.resolve().name
        self.names = [file.relative_to(folder).as_posix() for file in picture_files(folder)]
        if not self.names:
            raise InputError("has no pictures and no Parquet files of the split", folder)

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "folder", **listing(self.folder, self.names)}

    def read(self, name: str) -> Original:
        return Original(load_image(self.folder / name))


class ParquetPictures(Pictures):
    """The pictures of Parquet files, one a row, called by the rows' numbers."""

    def __init__(self, title: str, files: Sequence[Path]) -> None:
        """Reads the footers.

        Raises:
            InputError: a file is damaged or has no column of pictures, or there are no rows.
        """
        self.title, self._files = title, files
        self._groups: list[tuple[Path, int, int]] = []  # file, row group, rows before it
        self._columns: dict[Path, list[str]] = {}
        rows = 0
        for file in files:
            with _reading(file) as parquet:
                columns = image_columns(parquet.schema_arrow.names)
                if not columns:
                    names = ", ".join(parquet.schema_arrow.names)
                    raise InputError(f"no column of images; there are: {names}", file)
                self._columns[file] = list(columns)
                for group in range(parquet.num_row_groups):
                    self._groups.append((file, group, rows))
                    rows += parquet.metadata.row_group(group).num_rows
        if not rows:
            raise InputError("has no rows", files[0])
        self.names = [f"{row:06d}" for row in range(rows)]
        self._read: tuple[int, list[dict[str, Any]]] = (-1, [])  # the last row group

    def identity(self) -> Mapping[str, Any]:
        folder = self._files[0].parent
        return {"kind": "parquet", **listing(folder, [file.name for file in self._files])}

    def read(self, name: str) -> Original:
        row = int(name)
        place = next(n for n in reversed(range(len(self._groups))) if self._groups[n][2] <= row)
        file, _, first = self._groups[place]
        where = f"{file}: row {row - self._first_of(file)}"
        cells = self._rows(place)[row - first]
        found = read_images([cells[column] for column in self._columns[file]], file.parent, where)
        if len(found) != 1:
            raise ImageError(f"has {len(found)} pictures; one a row is evaluated", where)
        return Original(load_image(as_picture(found[0], where), name=where))

    def _first_of(self, file: Path) -> int:
        return next(first for other, _, first in self._groups if other == file)

    def _rows(self, place: int) -> list[dict[str, Any]]:
        """The cells of a row group, of which one is kept."""
        if self._read[0] != place:
            file, group, _ = self._groups[place]
            with _reading(file) as parquet:
                table = parquet.read_row_group(group, columns=self._columns[file])
            self._read = (place, table.to_pylist())
        return self._read[1]


class DrawnText(Pictures):
    """Blocks of lines in fonts and words that training never shows, in black on white."""

    title = "lines of text"

    def __init__(self, count: int) -> None:
        """Draws nothing yet.

        Raises:
            InputError: there are no fonts.
        """
        from viq.data.synthetic.fonts import find_fonts
        from viq.data.synthetic.words import Words

        self._fonts, self._words = find_fonts("validation"), Words(split="validation")
        self.names = [
            f"{place:04d}-{TEXT_HEIGHTS[place % len(TEXT_HEIGHTS)]}px" for place in range(count)
        ]

    def identity(self) -> Mapping[str, Any]:
        faces = [face.name for face in self._fonts.faces]
        texts = [self._lines(place) for place in range(len(self.names))]
        return {
            "kind": TEXT,
            "pictures": len(self.names),
            "digest": _digest([faces, texts, TEXT_HEIGHTS]),
        }

    def read(self, name: str) -> Original:
        from PIL import ImageDraw

        from viq.data.synthetic.canvas import line_height, text_width

        place, height = int(name.split("-")[0]), int(name.split("-")[1].removesuffix("px"))
        rng = np.random.default_rng([SEED, 1, place])
        face = self._fonts.full(rng)
        size = next(s for s in range(2 * height, 0, -1) if line_height(face.at(s)) <= height)
        font, lines = face.at(size), []
        for line in self._lines(place):
            words = line.split()
            while len(words) > 1 and text_width(" ".join(words), font) > TEXT_WIDTH:
                words.pop()
            lines.append(" ".join(words))
        step = height * 3 // 2
        width = max(text_width(line, font) for line in lines) + 2 * TEXT_MARGIN
        image = Image.new("RGB", (width, step * (len(lines) - 1) + height + 2 * TEXT_MARGIN))
        image.paste("white", (0, 0, *image.size))
        draw = ImageDraw.Draw(image)
        for row, line in enumerate(lines):
            draw.text((TEXT_MARGIN, TEXT_MARGIN + row * step), line, "black", font)
        return Original(image, "\n".join(lines))

    def group(self, name: str) -> str:
        return f"{name.split('-')[1].removesuffix('px')} px"

    def _lines(self, place: int) -> list[str]:
        rng = np.random.default_rng([SEED, 0, place])
        return [self._words.sentence(rng) for _ in range(TEXT_LINES)]


def picture_files(folder: Path) -> list[Path]:
    """The files of pictures in a folder and those in it, hidden ones apart, by path."""
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


def listing(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """What tells files from others by their names and sizes, wherever they lie."""
    sizes = [(folder / name).stat().st_size for name in names]
    return {
        "name": folder.resolve().name,
        "files": len(names),
        "bytes": sum(sizes),
        "digest": _digest([list(names), sizes]),
    }


def _digest(value: object) -> str:
    return blake2b(repr(value).encode(), digest_size=16).hexdigest()


def _parquet_files(path: Path, split: str | None) -> list[Path]:
    """The file, or the files of the split: named after it, in a folder of its name, or all."""
    if path.is_file():
        if path.suffix.lower() != ".parquet":
            raise InputError("is neither a folder nor a Parquet file", path)
        return [path]
    wanted = split or "validation"
    for folder in (path, path / "data", path / wanted):
        files = sorted(folder.glob("*.parquet"))
        if folder.name == wanted and files:
            return files
        if named := [f for f in files if f.name.split(".")[0].split("-")[0] == wanted]:
            return named
        if files and (split is not None or any(SPLIT.match(file.name) for file in files)):
            there = sorted({file.name.split(".")[0].split("-")[0] for file in files})
            raise InputError(
                f"no Parquet files of split {wanted!r}; there are: {', '.join(there)}", folder
            )
        if files:
            return files
    return []


@contextmanager
def _reading(file: Path) -> Iterator[Any]:
    """Opens a Parquet file; what Arrow raises becomes an InputError."""
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"not a readable Parquet file ({error})", file) from error
