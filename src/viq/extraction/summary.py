"""What an extraction made, in figures: for people, and for the card of the data set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from viq.card import dataset_card
from viq.extraction.report import UnitReport, write_whole
from viq.store import CodesInfo

ERRORS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("unit", pa.int32()),
        pa.field("position", pa.int64()),  # of the row in the source
        pa.field("where", pa.string()),
        pa.field("reason", pa.string()),
    ]
)


@dataclass(kw_only=True)
class Summary:
    """A data set's counts, and what this run had to do with them.

    Attributes:
        rows: in the data set.
        errors: rows that are in errors.parquet instead.
        first_error: the first of them and why, in words.
        images: with codes.
        pixels: of the images as they were.
        codes: of all images.
        code_bytes: what they take on disk.
        file_bytes: all data files.
        worker_seconds: that workers took for all units, in this run and in those before it.
        units: of the whole extraction.
        new_units: that this run did.
        new_images: in them.
        new_pixels: in them.
        seconds: that this run took.
    """

    rows: int = 0
    errors: int = 0
    first_error: str | None = None
    images: int = 0
    pixels: int = 0
    codes: int = 0
    code_bytes: int = 0
    file_bytes: int = 0
    worker_seconds: float = 0.0
    units: int = 0
    new_units: int = 0
    new_images: int = 0
    new_pixels: int = 0
    seconds: float = 0.0

    def add(self, report: UnitReport, *, is_new: bool) -> None:
        """Counts a unit."""
        self.rows += report.rows - len(report.errors)
        self.errors += len(report.errors)
        if report.errors and self.first_error is None:
            first = report.errors[0]
            self.first_error = f"{first.where}: row {first.id}: {first.reason}"
        self.images += report.images
        self.pixels += report.pixels
        self.codes += report.codes
        self.code_bytes += report.code_bytes
        self.file_bytes += report.file_bytes
        self.worker_seconds += report.seconds
        self.units += 1
        if is_new:
            self.new_units += 1
            self.new_images += report.images
            self.new_pixels += report.pixels

    @property
    def bytes_a_code(self) -> float:
        """What a code takes on disk."""
        return self.code_bytes / max(1, self.codes)

    @property
    def bits_per_pixel(self) -> float:
        """Of the codes on disk, per pixel of the originals."""
        return 8 * self.code_bytes / max(1, self.pixels)

    @property
    def hours_a_million(self) -> float:
        """Hours of one worker for a million such images, without loading the model."""
        return self.worker_seconds / 3600 * 1e6 / max(1, self.images)

    def to_dict(self, price_per_hour: float | None = None) -> dict[str, Any]:
        """All figures by name, as JSON; the price is a worker's."""
        per_second = 1 / max(self.seconds, 1e-9)
        figures: dict[str, Any] = {
            "rows": self.rows,
            "errors": self.errors,
            "images": self.images,
            "megapixels": self.pixels / 1e6,
            "codes": self.codes,
            "bytes": self.file_bytes,
            "bytes_a_code": self.bytes_a_code,
            "bits_per_pixel": self.bits_per_pixel,
            "units": self.units,
            "new_units": self.new_units,
            "seconds": self.seconds,
            "images_per_second": self.new_images * per_second,
            "megapixels_per_second": self.new_pixels / 1e6 * per_second,
            "worker_hours_per_million_images": self.hours_a_million,
        }
        if price_per_hour is not None:
            figures["price_per_million_images"] = price_per_hour * self.hours_a_million
        return figures


def write_errors(path: Path, reports: Iterable[UnitReport]) -> None:
    """Writes ``errors.parquet``, in the source's order."""
    temporary = path.with_name(f".{path.name}.tmp")
    with pq.ParquetWriter(temporary, ERRORS, compression="zstd") as writer:
        waiting: list[Mapping[str, Any]] = []
        before = 0  # rows of the units before
        for report in reports:
            waiting += [
                {
                    "id": error.id,
                    "unit": report.unit,
                    "position": before + error.position,
                    "where": error.where,
                    "reason": error.reason,
                }
                for error in report.errors
            ]
            before += report.rows
            if len(waiting) > 10_000:
                writer.write_table(pa.Table.from_pylist(waiting, ERRORS))
                waiting = []
        writer.write_table(pa.Table.from_pylist(waiting, ERRORS))
    temporary.replace(path)


def write_card(
    path: Path, summary: Summary, info: CodesInfo, schema: pa.Schema, model: str
) -> None:
    """Writes ``README.md``: by its head ``datasets`` finds the files, the rest is for people."""
    facts = {
        "rows": f"{summary.rows:,}",
        "rows in `errors.parquet`, an image of which could not be read": f"{summary.errors:,}",
        "images": f"{summary.images:,}",
        "megapixels": f"{summary.pixels / 1e6:,.1f}",
        "codes": f"{summary.codes:,}",
        "bytes a code": f"{summary.bytes_a_code:.2f}",
        "bits per pixel": f"{summary.bits_per_pixel:.3f}",
    }
    write_whole(path, dataset_card(info, schema, facts, model=model))
