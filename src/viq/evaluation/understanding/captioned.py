"""Captioned pictures in Parquet, as ``datasets`` saves them: train files to fit on, held-out ones.

Columns: ``image``, a struct with ``bytes`` or plain bytes; ``caption`` and ``kind``, both optional.
Validation pictures whose name is that of a train picture are left out, so that concepts are held
out; ``repeated`` counts them.
"""

from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from viq.data.synthetic.splits import Split
from viq.errors import InputError
from viq.evaluation.pictures import listing
from viq.evaluation.understanding.pictures import Labelled, Sets, Size

SIDE = 128  # pixels, whatever the picture's shape: as the contrastive stage sees them
ROWS = {"quick": (3000, 500), "full": (12_000, 2000)}  # at the most, to fit on and to test on
_TEXTS = ("caption", "kind")
_SEED = 0


def captioned(folder: Path, size: Size) -> Sets:
    """Pictures of ``train*.parquet`` and ``validation*.parquet``, labelled "caption" and "kind".

    Which rows are taken depends on how many there are, and on which are left out.

    Raises:
        InputError: there are no such files, one is damaged, or it has no column of images.
    """
    train, test = ROWS[size]
    return Sets(rows_of(folder, "train", train), held_out(folder, test))


def identity(folder: Path) -> dict[str, Any]:
    """What tells a folder's pictures from others: their files' names, sizes and rows."""
    files = sorted([*folder.glob("train*.parquet"), *folder.glob("validation*.parquet")])
    rows = sum(_file(file).metadata.num_rows for file in files)
    return {"rows": rows, **listing(folder, [file.name for file in files])}


def held_out(folder: Path, most: int) -> list[Labelled]:
    """At most so many validation pictures with names that no train picture has, or with none."""
    return rows_of(folder, "validation", most, without=_names(folder, "train"))


def repeated(folder: Path) -> tuple[int, int]:
    """How many validation pictures have the name of a train picture, and how many there are.

    Raises:
        InputError: as of ``captioned``; but there need be no train files.
    """
    known = _names(folder, "train")
    files = split_files(folder, "validation")
    names = [name_of(caption).casefold() for file in files for caption in _captions(file)]
    return sum(name in known for name in names), len(names)


def name_of(caption: str) -> str:
    """What stands before the tags of a caption."""
    return caption.split(";")[0].strip(" .\t\n")


def split_files(folder: Path, split: Split) -> list[Path]:
    """The files of a split.

    Raises:
        InputError: there are none.
    """
    files = sorted(folder.glob(f"{split}*.parquet"))
    if not files:
        raise InputError(f"no {split}*.parquet here; pictures to fit on and to test on are", folder)
    return files


def rows_of(
    folder: Path, split: Split, most: int, *, without: Set[str] = frozenset()
) -> list[Labelled]:
    """At most so many pictures of one split, none of some names; errors as of ``captioned``."""
    files = split_files(folder, split)
    counts = [_file(file).metadata.num_rows for file in files]
    order = np.random.default_rng(_SEED).permutation(sum(counts))
    if without:
        names = [name_of(caption).casefold() for file in files for caption in _captions(file)]
        order = order[[names[place] not in without for place in order]]
    chosen = np.sort(order[:most])
    starts = np.cumsum([0, *counts])
    return [
        row
        for file, start, end in zip(files, starts[:-1], starts[1:], strict=True)
        if len(inside := chosen[(chosen >= start) & (chosen < end)] - start)
        for row in _read(file, inside)
    ]


def _names(folder: Path, split: Split) -> set[str]:
    files = sorted(folder.glob(f"{split}*.parquet"))
    names = {name_of(caption).casefold() for file in files for caption in _captions(file)}
    return names - {""}


def _captions(file: Path) -> list[str]:
    """Of each row; empty where there is none."""
    with _file(file) as opened:
        if "caption" not in opened.schema_arrow.names:
            return [""] * opened.metadata.num_rows
        try:
            cells = opened.read(["caption"])["caption"].to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"not a readable Parquet file ({error})", file) from error
    return [str(cell or "") for cell in cells]


def _read(file: Path, numbers: np.ndarray) -> list[Labelled]:
    with _file(file) as opened:
        names = opened.schema_arrow.names
        if "image" not in names:
            raise InputError(f"no column 'image'; there are: {', '.join(names)}", file)
        columns = ["image", *(name for name in _TEXTS if name in names)]
        try:
            rows = opened.read(columns).take(pa.array(numbers)).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"not a readable Parquet file ({error})", file) from error
    return [
        Labelled(f"{file.name}:{number}", _bytes(row["image"]), _labels(row))
        for number, row in zip(numbers.tolist(), rows, strict=True)
    ]


def _file(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"not a readable Parquet file ({error})", file) from error


def _bytes(cell: object) -> bytes:
    """Of a cell; empty where there are none, which no reader of pictures takes."""
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    return found if isinstance(found, bytes) else b""


def _labels(row: dict[str, object]) -> dict[str, str]:
    texts = {name: str(row.get(name) or "").strip() for name in _TEXTS}
    return {name: text for name, text in texts.items() if text}
