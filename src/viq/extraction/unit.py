"""One unit of an extraction: its rows in, one file of codes out.

Threads read rows and decode their images ahead while the network runs. Batches are formed inside
the unit, by patches, so what is written depends on the unit and the settings alone.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import torch

from viq.codes import Codes
from viq.data.images import as_picture
from viq.errors import CodesError, FingerprintError, ImageError, InputError
from viq.extraction.plan import ExtractionSource, Row
from viq.extraction.report import Failure, Progress, RowError, Running, UnitReport, data_file
from viq.extraction.sources.storage import is_passing
from viq.image import Prepared
from viq.store import CodesInfo, CodeWriter
from viq.store.reader import code_bytes
from viq.tokenizer import Tokenizer, load

TELL_SECONDS = 0.25  # between two words of progress


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How units are extracted.

    Attributes:
        model: bundled name, folder or hub id.
        max_pixels: larger pictures are scaled down to this many; the model's own limit if None.
        dtype: that the network runs in.
        device: "cpu", or "cuda" for all GPUs, or one as "cuda:1".
        batch_patches: patches that run through the network at once.
        threads: that the network uses in each worker on a CPU. Sums are taken in another order by
            another number, so it is fixed, and not what happens to be free.
        readers: threads of each worker that read and decode images; they change no code.
    """

    model: str = "nano"
    max_pixels: int | None = None
    dtype: str = "float32"
    device: str = "cpu"
    batch_patches: int = 4096
    threads: int = 1
    readers: int = 4


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every worker is told; can be pickled."""

    source: ExtractionSource
    folder: Path  # of the data set
    run: Path  # a folder, in which workers write; see viq.extraction.report.new_run
    settings: Settings
    info: CodesInfo  # what the codes must be of


class Extractor:
    """What a worker holds: the tokenizer, and the work of which it does units."""

    def __init__(self, work: Work, device: str) -> None:
        self.work, self.device = work, device
        self._tokenizer: Tokenizer | None = None

    def attempt(self, unit: int, tell: Callable[[Running], None]) -> UnitReport | Failure:
        """Extracts a unit, and says so where it cannot be done."""
        try:
            return extract_unit(self.work, self._loaded(), unit, tell)
        except CodesError as error:  # of what is written, or of the tokenizer
            return Failure(unit=unit, reason=str(error), is_final=True)
        except InputError as error:
            is_final = self._tokenizer is None
            return Failure(unit=unit, reason=str(error), is_final=is_final)
        except OSError as error:
            name = "" if error.filename is None else f"{error.filename}: "
            return Failure(unit=unit, reason=f"{name}{error.strerror or error}", is_final=True)
        except (MemoryError, torch.OutOfMemoryError):
            reason = "out of memory; fewer --workers, or a lower --batch-patches, take less"
            return Failure(unit=unit, reason=reason, is_final=True)
        except Exception:  # ours to mend, so all of it is told
            reason = f"unit {unit} cannot be extracted:\n{traceback.format_exc()}"
            return Failure(unit=unit, reason=reason, is_final=True)

    def _loaded(self) -> Tokenizer:
        if self._tokenizer is None:
            settings = self.work.settings
            torch.set_num_threads(settings.threads)
            tokenizer = load(settings.model, device=self.device, dtype=settings.dtype)
            if tokenizer.fingerprint != self.work.info.fingerprint:
                raise FingerprintError(
                    tokenizer.fingerprint, self.work.info.fingerprint, settings.model
                )
            for part in ("encoder", "head"):
                tokenizer.part(part)  # loaded now, and not in the first unit's time
            self._tokenizer = tokenizer
        return self._tokenizer


def extract_unit(
    work: Work, tokenizer: Tokenizer, unit: int, tell: Callable[[Running], None]
) -> UnitReport:
    """Writes a unit's file and then its report; all its rows may be errors, and there is no file.

    Raises:
        CodesError: the file cannot be written.
        InputError: the source cannot be read.
    """
    start = told = time.perf_counter()
    path = data_file(work.folder, unit, work.source.units)
    written = work.run / path.name
    settings, source = work.settings, work.source
    done, codes_written, network_seconds, decode_seconds = Progress(), 0, 0.0, 0.0
    errors: list[RowError] = []

    def decode(row: Row) -> _Decoded:
        return _decode(row, tokenizer, settings.max_pixels, source.where(unit))

    with ExitStack() as stack:
        writer: CodeWriter | None = None
        ahead = stack.enter_context(
            _Ahead(source.read(unit), decode, settings.readers, settings.batch_patches)
        )
        for batch in _batches(ahead, settings.batch_patches):
            errors += [one.error for one in batch if one.error is not None]
            decode_seconds += sum(one.seconds for one in batch)
            good = [one for one in batch if one.error is None]
            before = time.perf_counter()
            images = tokenizer.encode(
                [image for one in good for image in one.images],
                batch_patches=settings.batch_patches,
            )
            network_seconds += time.perf_counter() - before
            codes = iter(images)
            if good:
                if writer is None:
                    writer = stack.enter_context(CodeWriter(written, work.info, source.schema))
                rows = [[next(codes) for _ in one.images] for one in good]
                writer.write(pa.Table.from_batches([one.row.columns for one in good]), rows)
            codes_written += sum(one.values.size for one in images)
            done = done.plus(_progress(batch, images))
            if (now := time.perf_counter()) - told > TELL_SECONDS:
                told = now
                tell(Running(unit=unit, progress=done))
        if (expected := source.rows(unit)) is not None and expected != done.rows:
            raise InputError(
                f"has {done.rows} rows but had {expected} when the extraction was begun; take"
                " another --out",
                source.where(unit),
            )
    _put_in_place(path, written, is_there=writer is not None)
    report = UnitReport(
        unit=unit,
        rows=done.rows,
        images=done.images,
        pixels=done.pixels,
        codes=codes_written,
        code_bytes=0 if writer is None else code_bytes(str(path)),
        file_bytes=0 if writer is None else path.stat().st_size,
        seconds=time.perf_counter() - start,
        decode_seconds=decode_seconds,
        network_seconds=network_seconds,
        errors=tuple(errors),
    )
    report.save(work.folder, work.run)
    return report


def _put_in_place(path: Path, written: Path, *, is_there: bool) -> None:
    """Gives what was written its name, or takes away what was there if nothing was written.

    Both are moves into or out of the run's folder, which fail for those whose run is over.
    """
    try:
        if is_there:
            os.replace(written, path)
        else:
            with suppress(FileNotFoundError):  # of an earlier time, when some rows could be read
                os.replace(path, written)
                written.unlink()
    except OSError as error:
        raise CodesError(f"cannot be written: {error.strerror}", path) from error


@dataclass(frozen=True)
class _Decoded:
    """A row with its images made ready for the encoder, or with what is wrong with one of them."""

    row: Row
    images: tuple[Prepared, ...] = ()
    error: RowError | None = None
    seconds: float = 0.0
    weight: int = field(init=False)  # in patches, 1 at least: rows of text must not pile up either

    def __post_init__(self) -> None:
        patches = sum(image.grid_size[0] * image.grid_size[1] for image in self.images)
        object.__setattr__(self, "weight", max(1, patches))


def _decode(row: Row, tokenizer: Tokenizer, max_pixels: int | None, where: str) -> _Decoded:
    if row.error is not None:
        return _Decoded(row, error=_row_error(row, where, row.error))
    start = time.perf_counter()
    images: list[Prepared] = []
    for image in row.images:
        try:
            images.append(tokenizer.prepare(as_picture(image, where), max_pixels=max_pixels))
        except ImageError as error:
            if isinstance(error.__cause__, MemoryError):  # not the picture's fault
                raise error.__cause__ from error
            if is_passing(error.__cause__):  # nor this, so that the unit is done another time
                raise InputError(error.reason, error.source or where) from error
            which = f"image {len(images) + 1} of {len(row.images)}: "
            reason = error.reason if len(row.images) == 1 else which + error.reason
            seconds = time.perf_counter() - start
            found = _row_error(row, error.source or where, reason)
            return _Decoded(row, error=found, seconds=seconds)
    return _Decoded(row, tuple(images), seconds=time.perf_counter() - start)


def _row_error(row: Row, where: str, reason: str) -> RowError:
    return RowError(id=row.id, position=row.position, where=where, reason=reason)


class _Ahead:
    """Rows in their order, which threads decode before they are asked for.

    Each thread takes the next row when the ones that wait have fewer than ``most`` patches, so
    memory is bounded by that and a row a thread.
    """

    def __init__(
        self, rows: Iterator[Row], decode: Callable[[Row], _Decoded], threads: int, most: int
    ) -> None:
        self._rows, self._decode, self._most = rows, decode, most
        self._turn = threading.Lock()  # whose it is takes the next row
        self._changed = threading.Condition()
        self._results: dict[int, _Decoded | Exception | None] = {}  # None: there are no more
        self._taken = self._waiting = 0
        self._is_over = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __iter__(self) -> Iterator[_Decoded]:
        for number in count():
            with self._changed:
                self._changed.wait_for(lambda: number in self._results)  # noqa: B023
                result = self._results.pop(number)
                if isinstance(result, _Decoded):
                    self._waiting -= result.weight
                    self._changed.notify_all()
            if result is None:
                return
            if isinstance(result, Exception):
                raise result
            yield result

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            number, row = taken
            try:
                self._put(number, self._decode(row))
            except Exception as error:
                self._put(number, error)

    def _take(self) -> tuple[int, Row] | None:
        with self._turn:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._waiting < self._most)
                if self._is_over:
                    return None
            number = self._taken
            self._taken += 1
            try:
                if (row := next(self._rows, None)) is not None:
                    return number, row
                self._put(number, None)
            except Exception as error:
                self._put(number, error)
            return None

    def _put(self, number: int, result: _Decoded | Exception | None) -> None:
        with self._changed:
            self._results[number] = result
            if isinstance(result, _Decoded):
                self._waiting += result.weight
            else:
                self._is_over = True
            self._changed.notify_all()


def _batches(rows: Iterable[_Decoded], most: int) -> Iterator[list[_Decoded]]:
    """As many rows at once as have ``most`` patches together, or one."""
    batch: list[_Decoded] = []
    weight = 0
    for row in rows:
        if batch and weight + row.weight > most:
            yield batch
            batch, weight = [], 0
        batch.append(row)
        weight += row.weight
    if batch:
        yield batch


def _progress(batch: Sequence[_Decoded], images: Sequence[Codes]) -> Progress:
    pixels = sum(image.original_size[0] * image.original_size[1] for image in images)
    failed = sum(one.error is not None for one in batch)
    return Progress(len(batch), len(images), pixels, failed)
