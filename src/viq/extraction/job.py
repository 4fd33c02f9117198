"""An extraction in a folder: what was asked, which units are done, and what is made of them all.

The folder is a code data set, with what is private to the extraction in ``.viq``. A unit is done
when its report is there, so a job that is interrupted and repeated does what is missing.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from viq.errors import InputError, ModelError, ViQError
from viq.extraction.plan import ExtractionSource, open_source
from viq.extraction.report import (
    UNITS,
    Event,
    Failure,
    Progress,
    Running,
    UnitReport,
    data_file,
    load_report,
    new_run,
    remove_temporary,
    write_whole,
)
from viq.extraction.sources.storage import Storage
from viq.extraction.summary import Summary, write_card, write_errors
from viq.extraction.unit import Settings, Work
from viq.store import CodesInfo
from viq.tokenizer import Tokenizer, load

log = logging.getLogger(__name__)

Engine = Callable[[Work, Sequence[int]], Generator[Event]]

FORMAT, VERSION = "viq-extraction", "1"
ERRORS_FILE, CARD, NOTE = "errors.parquet", "README.md", "extraction.json"
SHOWN_FAILURES = 3


class Job:
    """One extraction. A context, which holds the folder's lock.

    Attributes:
        work: what workers are told.
        rows: of the source, where that is known without reading it.
        missing: the units that are still to be done.
        before: what was done before.
    """

    def __init__(
        self,
        source: str,
        out: Path,
        settings: Settings,
        *,
        rows_a_unit: int = 1000,
        image_root: str | None = None,
        retry_errors: bool = False,
    ) -> None:
        """Takes the folder, plans the source, and looks what is done.

        Args:
            source: see ``viq.extraction.plan.open_source``, as for the next two.
            out: the data set's folder.
            settings: how units are extracted.
            rows_a_unit: rows of a unit.
            image_root: where image paths begin.
            retry_errors: whether units with rows that could not be read are done again.

        Raises:
            InputError: the source, the model or the folder cannot be used; another extraction is
                in the folder, with other settings or at this moment.
        """
        self._start = time.perf_counter()
        with ExitStack() as stack:
            self.folder = find_folder(out, source)
            _make_folder(self.folder)
            stack.enter_context(_locked(self.folder))
            remove_temporary(self.folder)
            self.work = plan(
                source,
                self.folder,
                settings,
                rows_a_unit=rows_a_unit,
                image_root=image_root,
                listing=self.folder / ".viq",
            )
            _begin(self.folder, _document(self.work, rows_a_unit))
            self.rows = count_rows(self.work.source)
            units = self.work.source.units
            self.missing, self.before = look(self.folder, units, retry_errors=retry_errors)
            if self.missing:
                _compare_versions(self.folder)
            self._todo = frozenset(self.missing)
            self.work.run.mkdir()
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        remove_temporary(self.folder)  # the workers have ended
        self._open.close()

    def run(self, engine: Engine) -> Generator[Progress]:
        """Does what is missing; gives how much of the whole is done, again and again.

        A unit whose source cannot be read does not keep the others from being done.

        Raises:
            ViQError: some could not be done.
        """
        done, running = self.before, dict[int, Progress]()
        failures: list[Failure] = []
        if not self.missing:
            return
        with closing(engine(self.work, self.missing)) as events:
            for event in events:
                if isinstance(event, Running):
                    running[event.unit] = event.progress
                else:
                    running.pop(event.unit, None)
                if isinstance(event, UnitReport):
                    done = done.plus(Progress.of(event))
                if isinstance(event, Failure):
                    failures.append(event)
                    if event.is_final:
                        break
                yield _sum(done, running)
        if failures:
            raise ViQError(_message(failures))

    def finish(self) -> Summary:
        """Checks that all is there, and writes ``errors.parquet`` and ``README.md``.

        Raises:
            ViQError: rows are missing.
        """
        summary = Summary()
        for report in self._reports():
            self._check(report)
            summary.add(report, is_new=report.unit in self._todo)
        errors, card = self.folder / ERRORS_FILE, self.folder / CARD
        if self._todo or not errors.exists():
            write_errors(errors, self._reports())
        if self._todo or not card.exists():
            document = json.loads((self.folder / NOTE).read_text("utf-8"))
            model = str(document["model"])
            name = Path(model).name if Path(model).is_absolute() else model
            write_card(card, summary, self.work.info, self.work.source.schema, name)
        summary.seconds = time.perf_counter() - self._start
        return summary

    def _reports(self) -> Iterator[UnitReport]:
        units = self.work.source.units
        for unit in range(units):
            if (report := load_report(self.folder, unit, units)) is None:
                raise ViQError(
                    f"{data_file(self.folder, unit, units)}: is missing after the extraction; do"
                    " all workers write to the same folder?"
                )
            yield report

    def _check(self, report: UnitReport) -> None:
        """That no row of the unit was lost, by the file itself."""
        written = 0
        path = data_file(self.folder, report.unit, self.work.source.units)
        if report.file_bytes:
            try:
                written = pq.read_metadata(path).num_rows
            except (OSError, pa.ArrowException) as error:
                raise ViQError(f"{path}: cannot be read ({error}); delete and repeat") from error
        expected = self.work.source.rows(report.unit)
        found = written + len(report.errors)
        if found != report.rows or expected not in (None, found):
            raise ViQError(
                f"{path}: has {written} rows and {len(report.errors)} errors, but its unit has"
                f" {report.rows if expected is None else expected} rows; delete and repeat"
            )


def find_folder(out: Path, source: str) -> Path:
    """The data set's folder, which need not be there, as workers in other folders find it.

    Raises:
        InputError: there can be none, or the source is looked for there: it would find the data
            set itself the next time.
    """
    try:
        folder = out.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links lead in a circle
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the folder cannot be made: {reason}", out) from error
    place = Storage.locate(source)
    if place.storage.local:
        top = os.path.realpath(place.path.replace("\0", ""))  # such a source is refused later
        taken = [top, f"{top}/data", f"{top}/train"]
        if str(folder) in (taken if os.path.isdir(top) else [os.path.dirname(top)]):
            raise InputError("the source is read from this folder; take another --out", folder)
    return folder


def plan(
    source: str,
    folder: Path,
    settings: Settings,
    *,
    rows_a_unit: int,
    image_root: str | None,
    listing: Path,
) -> Work:
    """The work that is asked for; nothing is written but in ``listing``, a folder.

    Raises:
        InputError: the source or the model cannot be used, or ``folder`` has something else.
    """
    settings, info = resolve(settings)
    opened = open_source(
        _absolute(source),
        work=listing,
        rows_a_unit=rows_a_unit,
        image_root=None if image_root is None else _absolute(image_root),
    )
    run = new_run(folder)
    work = Work(source=opened, folder=folder, run=run, settings=settings, info=info)
    _agree(folder, _document(work, rows_a_unit))
    return work


def resolve(settings: Settings) -> tuple[Settings, CodesInfo]:
    """The settings with nothing left open, and what codes they make.

    Raises:
        InputError: the model cannot be loaded, has no codes, or cannot take ``max_pixels``.
    """
    tokenizer: Tokenizer = load(settings.model)
    config = tokenizer.config
    head = config.network.head
    if (levels := head.quantizer.code_levels) is None:
        raise ModelError("this tokenizer is proximal: it has latents but no codes", settings.model)
    try:
        image = replace(config.image, max_pixels=settings.max_pixels or config.image.max_pixels)
    except ValueError as error:
        raise InputError(str(error), f"max_pixels {settings.max_pixels}") from error
    settings = replace(settings, model=_absolute(settings.model), max_pixels=image.max_pixels)
    info = CodesInfo(
        fingerprint=tokenizer.fingerprint,
        levels=levels,
        code_heads=head.code_heads,
        patch_size=image.patch_size,
    )
    return settings, info


def count_rows(source: ExtractionSource) -> int | None:
    """All rows, if that is known without reading them."""
    total = 0
    for unit in range(source.units):
        if (rows := source.rows(unit)) is None:
            return None
        total += rows
    return total


def look(folder: Path, units: int, *, retry_errors: bool = False) -> tuple[list[int], Progress]:
    """The units that are missing, or have errors to be retried, and how much the others are."""
    missing, done = [], Progress()
    for unit in range(units):
        report = load_report(folder, unit, units)
        if report is None or (retry_errors and report.errors):
            missing.append(unit)
        else:
            done = done.plus(Progress.of(report))
    return missing, done


def _sum(done: Progress, running: dict[int, Progress]) -> Progress:
    for progress in running.values():
        done = done.plus(progress)
    return done


def _message(failures: Sequence[Failure]) -> str:
    if failures[-1].is_final:
        return f"{failures[-1].reason}; what is done is kept, and a repeated job goes on from it"
    shown = "; ".join(failure.reason for failure in failures[:SHOWN_FAILURES])
    if (more := len(failures) - SHOWN_FAILURES) > 0:
        shown += f"; and {more} more"
    return (
        f"units that cannot be read: {len(failures)}: {shown}; the others are done, and a repeated"
        " job tries these again"
    )


def _document(work: Work, rows_a_unit: int) -> dict[str, Any]:
    """What was asked, and decides what is written."""
    settings = asdict(work.settings)
    del settings["readers"]  # changes nothing
    settings["device"] = torch.device(work.settings.device).type
    return {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": work.info.fingerprint,
        **settings,
        "rows_a_unit": rows_a_unit,
        "units": work.source.units,
        "source": work.source.identity(),
        "versions": {"pyarrow": pa.__version__, "torch": torch.__version__},
    }


def _begin(folder: Path, document: dict[str, Any]) -> None:
    """Makes what is not there yet: the folders, and the note of what is asked."""
    (folder / "data").mkdir(exist_ok=True)
    (folder / UNITS).mkdir(exist_ok=True)
    path = folder / NOTE
    if not path.exists():
        write_whole(path, json.dumps(document, indent=2, sort_keys=True) + "\n")


def _agree(folder: Path, document: dict[str, Any]) -> None:
    """Sees that what is asked is what was asked before, or that the folder is free."""
    path = folder / NOTE
    document = json.loads(json.dumps(document))  # as it comes back
    if not path.exists():
        ours = (*(folder / "data").glob("*.parquet"), folder / ERRORS_FILE, folder / CARD)
        if other := next((path.relative_to(folder) for path in ours if path.exists()), None):
            raise InputError(
                f"holds {other} of something else (there is no {NOTE}); take another --out", folder
            )
        return
    try:
        before = json.loads(path.read_text("utf-8"))
        free = ("model", "versions")  # the fingerprint says more; and see _compare_versions
        names = [name for name in document if name not in free]
        differ = next((name for name in names if before[name] != document[name]), None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"is damaged ({error!r}); take another --out", path) from error
    if differ is not None:
        raise InputError(
            f"this folder was begun with {differ} {_brief(before[differ])}, and now it is"
            f" {_brief(document[differ])}; take another --out, or what it was begun with",
            path,
        )


def _compare_versions(folder: Path) -> None:
    """Warns where a job goes on with another arithmetic or another way to write files."""
    before = json.loads((folder / NOTE).read_text("utf-8")).get("versions", {})
    now = {"torch": torch.__version__, "pyarrow": pa.__version__}
    differ = [name for name in now if before.get(name) != now[name]]
    if differ:
        changes = ", ".join(f"{name} {before.get(name)} (now {now[name]})" for name in differ)
        text = "%s: was begun with %s: the bytes of new files, and a few codes, may differ"
        log.warning(text, folder, changes)


def _brief(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 300 else f"{text[:300]}..."


def _make_folder(folder: Path) -> None:
    try:
        (folder / ".viq").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder cannot be made: {error.strerror}", folder) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other jobs out; the lock ends with the process, however that ends."""
    path = folder / ".viq" / "lock"
    try:
        file = path.open("w")
    except OSError as error:
        raise InputError(f"the folder cannot be written to: {error.strerror}", folder) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            reason = "another extraction is running in this folder; wait for it, or take another"
            raise InputError(f"{reason} --out", folder) from error
        yield


def _absolute(where: str) -> str:
    """A path as it is found from any folder; other names as they are."""
    return str(Path(where).resolve()) if Path(where).exists() else where
