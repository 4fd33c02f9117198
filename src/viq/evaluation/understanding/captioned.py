"""Captioned pictures in Parquet, as ``datasets`` saves them: train files to fit on, held-out ones.

Columns: ``image``, a struct with ``bytes`` or plain bytes; ``caption`` and ``kind``, both optional.
The validation files should hold other concepts than the train files.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from viq.data.synthetic.splits import Split
from viq.errors import InputError
from viq.evaluation.understanding.pictures import Labelled, Sets, Size

SIDE = 128  # pixels, whatever the picture's shape: as the contrastive stage sees them
ROWS = {"quick": (3000, 500), "full": (12_000, 2000)}  # at the most, to fit on and to test on
_TEXTS = ("caption", "kind")
_SEED = 0


def captioned(folder: Path, size: Size) -> Sets:
    """Pictures of ``train*.parquet`` and ``validation*.parquet``, labelled "caption" and "kind".

    Which rows are taken depends on how many there are, and on nothing else.

    Raises:
        InputError: there are no such files, one is damaged, or it has no column of images.
    """
    train, test = ROWS[size]
    return Sets(rows_of(folder, "train", train), rows_of(folder, "validation", test))


def rows_of(folder: Path, split: Split, most: int) -> list[Labelled]:
    """At most so many pictures of one split; errors as of ``captioned``."""
    files = sorted(folder.glob(f"{split}*.parquet"))
    if not files:
        raise InputError(f"no {split}*.parquet here; pictures to fit on and to test on are", folder)
    counts = [_file(file).metadata.num_rows for file in files]
    chosen = np.sort(np.random.default_rng(_SEED).permutation(sum(counts))[:most])
    starts = np.cumsum([0, *counts])
    return [
        row
        for file, start, end in zip(files, starts[:-1], starts[1:], strict=True)
        if len(inside := chosen[(chosen >= start) & (chosen < end)] - start)
        for row in _read(file, inside)
    ]


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
