"""What becomes of a unit: reports on disk, which say what is done, and events on the way there."""

import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import cattrs

UNITS = Path(".viq", "units")  # in the folder of the data set

_PRIVATE = ".viq"
_RUN, _GONE = "run-", "gone-"  # begin the names of the folders in which workers write, or wrote


@dataclass(frozen=True, kw_only=True)
class RowError:
    """A row that is not in the data set, because one of its images cannot be read."""

    id: str
    position: int  # of the row in its unit
    where: str  # the file
    reason: str


@dataclass(frozen=True, kw_only=True)
class UnitReport:
    """A unit that is done; written once its file is in place.

    Attributes:
        unit: its number.
        rows: of the source, those with errors too.
        images: that were encoded.
        pixels: of these images as they were.
        codes: of these images.
        code_bytes: what the codes take in the file.
        file_bytes: the whole file, which has the other columns too; 0 without one.
        seconds: from the unit's beginning to its end.
        decode_seconds: for reading and decoding images, of all threads together.
        network_seconds: for the network.
        errors: the rows that are not in the file.
    """

    unit: int
    rows: int
    images: int
    pixels: int
    codes: int
    code_bytes: int
    file_bytes: int
    seconds: float
    decode_seconds: float
    network_seconds: float
    errors: tuple[RowError, ...]

    def to_json(self) -> str:
        """The content of the report's file."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "UnitReport":
        """Reads what ``to_json`` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            return cattrs.structure(json.loads(text), cls)
        except cattrs.ClassValidationError as error:
            raise ValueError(f"not a unit's report: {error}") from error

    def save(self, folder: Path, run: Path) -> None:
        """Writes the report into a data set's folder, by way of the run's."""
        path = report_file(folder, self.unit)
        written = run / path.name
        written.write_text(self.to_json(), "utf-8")
        os.replace(written, path)


class Progress(NamedTuple):
    """How much is done."""

    rows: int = 0  # those with errors too
    images: int = 0
    pixels: int = 0
    errors: int = 0
    units: int = 0  # that are whole

    @classmethod
    def of(cls, report: UnitReport) -> "Progress":
        """A whole unit."""
        return cls(report.rows, report.images, report.pixels, len(report.errors), 1)

    def plus(self, other: "Progress") -> "Progress":
        """Both together."""
        return Progress(*map(sum, zip(self, other, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Running:
    """How far a unit is since it was begun, for the last time."""

    unit: int
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A unit that cannot be done."""

    unit: int
    reason: str
    is_final: bool  # whether no other unit will do better


Event = Running | UnitReport | Failure


def load_report(folder: Path, unit: int, units: int) -> UnitReport | None:
    """The report of a unit that is done; None where it must still be done."""
    try:
        report = UnitReport.from_json(report_file(folder, unit).read_text("utf-8"))
        if report.file_bytes and data_file(folder, unit, units).stat().st_size != report.file_bytes:
            return None
    except (OSError, ValueError):  # never written, or cut short when the power failed
        return None
    return report


def report_file(folder: Path, unit: int) -> Path:
    """Where a unit's report is."""
    return folder / UNITS / f"{unit:05d}.json"


def data_file(folder: Path, unit: int, units: int) -> Path:
    """Where a unit's rows are, by the names that ``datasets`` gives shards."""
    return folder / "data" / f"train-{unit:05d}-of-{units:05d}.parquet"


def write_whole(path: Path, text: str) -> None:
    """Writes a file that has its name only when it is whole."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)


def new_run(folder: Path) -> Path:
    """The name of a folder in which all workers of one run write before they put files in place.

    A worker may outlive its driver: stopped, or on a machine that is cut off for a while. Once a
    new driver has taken that folder away, it can put nothing in place any more.
    """
    return folder / _PRIVATE / f"{_RUN}{uuid.uuid4().hex}"


def remove_temporary(folder: Path) -> None:
    """Removes what killed processes left half written, and the folders in which they write."""
    private = folder / _PRIVATE
    for path in (*folder.glob(".*.tmp"), *private.glob("*.tmp")):
        path.unlink(missing_ok=True)
    for run in private.glob(f"{_RUN}*"):
        # At once, so that nothing is added to it while it is removed.
        run.rename(private / f"{_GONE}{uuid.uuid4().hex}")
    for gone in private.glob(f"{_GONE}*"):
        shutil.rmtree(gone, ignore_errors=True)  # network disks keep what is open a while longer
