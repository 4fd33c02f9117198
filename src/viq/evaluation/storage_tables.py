"""Tables and figures of what pictures take on disk, made from the samples alone."""

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from viq.codes import Codes
from viq.evaluation.coding import codes_of
from viq.evaluation.document import Cell, Column, Figure, Table
from viq.evaluation.files import whole_file
from viq.evaluation.pictures import unread
from viq.evaluation.plots import COLOURS, PALE, new_figure, save_figure
from viq.evaluation.reconstruction.tables import values_of
from viq.evaluation.samples import Samples
from viq.evaluation.scores import mean_score
from viq.evaluation.storage import (
    CELL,
    CELLS,
    PAPER,
    PAPER_PART,
    PAPER_SIZE,
    PART,
    Storage,
)
from viq.image import sheet as sheets
from viq.metrics.codecs import CODECS, at_bytes
from viq.metrics.quality import psnr
from viq.store import CodesInfo, CodeWriter

ALL = "all sizes"
MOST_SIZES = 8  # of which there are rows

Record = Mapping[str, Any]

BYTES = (
    Column(name="model"),
    Column(name="size"),
    Column(name="pictures"),
    Column(name="raw", unit="bytes", digits=0),
    Column(name="codes of 16 bits", unit="bytes", digits=0),
    Column(name="in .viq files", unit="bytes", digits=0),
    Column(name="in Parquet", unit="bytes", digits=0),
    Column(name="information, at most", unit="bytes", digits=0),
    Column(name="PNG", unit="bytes", digits=0),
    Column(name="raw / codes", digits=1),
    Column(name="PNG / codes", digits=1),
)
BESIDE = (
    Column(name="subject"),
    Column(name="size"),
    Column(name="bits per pixel", digits=3),
    Column(name="PSNR", unit="dB"),
    Column(name="SSIM", digits=3),
    Column(name="pictures"),
    Column(name="at the model's PSNR", unit="bits per pixel", digits=3),
    Column(name="at the model's PSNR", unit="% of the codes' bytes", digits=0),
)


def tables(asked: Storage, samples: Samples) -> list[Table]:
    """Bytes by size, and codecs beside the codes."""
    records = {name: samples.of(PART)[name] for name in asked.done(samples)}
    sizes = Counter(_size(record) for record in records.values()).most_common()
    groups = {
        size: {name: one for name, one in records.items() if _size(one) == size}
        for size, _ in sizes[:MOST_SIZES]
    }
    groups |= {ALL: records, PAPER: dict(samples.of(PAPER_PART))}
    where = asked.pictures.titled(list(records))
    left_out = unread(asked.names, records)
    note = (
        f"Means over pictures; those of more than {asked.max_pixels:,} pixels are scaled down to so"
        " many first, and raw is what is then there. Parquet: the codes of all pictures of a row in"
        " one file, divided by their number. Information, at most: log2 of the codebook's size for"
        " each code."
        f" {PAPER}: {_large(samples.of(PAPER_PART)[PAPER])}."
    )
    if more := len(sizes) - MOST_SIZES if len(sizes) > MOST_SIZES else 0:
        note += f" Pictures of {more} more sizes are in {ALL!r} only."
    name = asked.model.name
    return [
        Table(
            title=f"Storage: {where}",
            columns=BYTES,
            rows=tuple(_bytes(name, size, list(some.values())) for size, some in groups.items()),
            note=note + left_out,
        ),
        Table(
            title=f"Codecs beside codes: {where}",
            columns=BESIDE,
            rows=tuple(row for size in (ALL, PAPER) for row in _beside(asked, size, groups[size])),
            note=(
                "First each codec's best picture in at most as many bytes as the codes take: whole"
                " files, with headers, which the codes' bytes are without; of any size of the"
                " picture; over the pictures of which it has a file so small. Then what it takes to"
                " come as close to the picture as the model does, by PSNR. Means with 95 %"
                " bootstrap intervals; bits per pixel are all bits over all pixels, shares all"
                " bytes over all bytes." + left_out
            ),
        ),
    ]


def figures(asked: Storage, samples: Samples, folder: Path) -> list[Figure]:
    """The large picture in all formats, and what it takes; written to the folder."""
    record, size = samples.of(PAPER_PART)[PAPER], "{} x {}".format(*PAPER_SIZE)
    with whole_file(folder / "storage.png") as temporary:
        _sheet(asked, samples, record).save(temporary)
    _bars(asked, record, folder / "bytes.png")
    return [
        Figure(
            file="storage.png",
            title=f"{size} in as many bytes as its codes; below, its middle at full size",
            caption=f"a picture of {size}, as codes and in lossy formats of as many bytes",
        ),
        Figure(
            file="bytes.png",
            title=f"What {size} takes; lossy formats at the PSNR of {asked.model.name}",
            caption=f"bytes of a picture of {size} in each format",
        ),
    ]


def parquet_bytes(codes: Sequence[Codes]) -> int:
    """The size of one Parquet file of these codes, a picture a row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.parquet"
        with CodeWriter(path, CodesInfo.of(codes[0]), pa.schema([])) as writer:
            writer.write(pa.table({}), [[one] for one in codes])
        return path.stat().st_size


def _bytes(model: str, size: str, records: Sequence[Record]) -> tuple[Cell, ...]:
    codes = [codes_of(record) for record in records]
    raw = _mean([3 * math.prod(record["size"]) for record in records])
    stored = _mean([one.nbytes for one in codes])
    png = _mean([record["png"] for record in records])
    repeats = any(map(_repeats, records))
    return (
        model,
        size,
        len(records),
        raw,
        stored,
        _mean([record["viq"] for record in records]),
        None if repeats else parquet_bytes(codes) / len(codes),
        _mean([one.values.size * math.log2(one.codebook_size) / 8 for one in codes]),
        None if repeats else png,
        raw / stored,
        None if repeats else png / stored,
    )


def _beside(asked: Storage, size: str, records: Mapping[str, Record]) -> list[tuple[Cell, ...]]:
    """The model, then each codec."""
    every = list(records.values())
    own = {name: codes_of(record).nbytes for name, record in records.items()}
    rows: list[tuple[Cell, ...]] = [
        (
            asked.model.name,
            size,
            _bpp(own, records),
            _score(values_of(records, "psnr")),
            _score(values_of(records, "ssim")),
            len(every),
            None,
            None,
        )
    ]
    for key in asked.codecs:
        fits = {n: {**one[key], "size": one["size"]} for n, one in records.items() if key in one}
        same = {n: one[at] for n, one in records.items() if one.get(at := f"{key} at psnr")}
        rows.append(
            (
                f"{CODECS[key].name} as large as {asked.model.name}",
                size,
                _bpp({n: one["bytes"] for n, one in fits.items()}, records),
                _score(values_of(fits, "psnr")),
                _score(values_of(fits, "ssim")),
                len(fits),
                _bpp(same, records),
                100 * sum(same.values()) / sum(own[n] for n in same) if same else None,
            )
        )
    return rows


def _large(record: Record) -> str:
    """Where the large picture comes from."""
    if not record["squares"]:
        return "the middle of the first picture that is so large"
    text = f"no picture is so large; this is a mosaic of {record['squares']} squares of pictures"
    if _repeats(record):
        text += ", which come again, so what compression makes of it is not shown"
    return text


def _repeats(record: Record) -> bool:
    """Whether parts of a picture are equal, which no photograph has."""
    return 0 < record.get("squares", 0) < CELLS


def _sheet(asked: Storage, samples: Samples, record: Record) -> Image.Image:
    """The picture and a detail of it, by each format in as many bytes."""
    image, codes = asked.large(asked.done(samples))[0], codes_of(record)
    shown = {asked.model.name: (asked.model.tokenizer.decode(codes), codes.nbytes)}
    for key in asked.codecs:
        if (found := at_bytes(image, CODECS[key], codes.nbytes)) is not None:
            shown[CODECS[key].name] = (found.image, found.num_bytes)
    pictures, captions = {"original": image}, {"original": "{} x {}".format(*image.size)}
    for name, (one, num_bytes) in shown.items():
        pictures[name] = one
        closeness = psnr(np.asarray(image), np.asarray(one))
        captions[name] = f"{closeness:.2f} dB, {num_bytes:,} bytes"
    left, top = ((side - CELL) // 2 for side in PAPER_SIZE)
    box = (left, top, left + CELL, top + CELL)
    rows = [
        sheets.Row(
            "the whole picture",
            [
                sheets.Cell(sheets.shrink(one, CELL), captions[name])
                for name, one in pictures.items()
            ],
        ),
        sheets.Row(
            f"its middle, {CELL} x {CELL}",
            [sheets.Cell(one.crop(box), "") for one in pictures.values()],
        ),
    ]
    return sheets.sheet(list(pictures), rows, cell_side=CELL)


def _bars(asked: Storage, record: Record, path: Path) -> None:
    """Bytes of each format."""
    without_loss = {} if _repeats(record) else {"PNG": record["png"]}
    bars = {
        "raw": 3 * math.prod(record["size"]),
        **without_loss,
        f"codes of {asked.model.name}": codes_of(record).nbytes,
    }
    lossy = {f"{CODECS[key].name}, same PSNR": record.get(f"{key} at psnr") for key in asked.codecs}
    bars |= {name: num_bytes for name, num_bytes in lossy.items() if num_bytes is not None}
    figure, (axes,) = new_figure(height=360)
    colours = [PALE] * (1 + len(without_loss)) + [COLOURS[1]]
    colours += [COLOURS[0]] * (len(bars) - len(colours))
    drawn = axes.barh(list(bars), list(bars.values()), color=colours)
    axes.bar_label(drawn, [f"{value:,}" for value in bars.values()], padding=3)
    axes.set(xlabel="bytes", xscale="log", xlim=(None, 4 * max(bars.values())))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.invert_yaxis()
    save_figure(figure, path)


def _size(record: Record) -> str:
    height, width = record["size"]
    return f"{width} × {height}"


def _bpp(num_bytes: Mapping[str, int], records: Mapping[str, Record]) -> float | None:
    """All bits over all pixels of the pictures whose bytes these are."""
    if not num_bytes:
        return None
    return 8 * sum(num_bytes.values()) / sum(math.prod(records[n]["size"]) for n in num_bytes)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _score(values: Sequence[float]) -> Cell:
    """The mean with its interval, which one value has not."""
    if len(values) == 1:
        return float(values[0])
    return mean_score(values) if values else None
