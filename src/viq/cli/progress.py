"""What a command tells: results on stdout, failures and progress on stderr, and the exit code."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from types import TracebackType
from typing import Self

from tqdm import tqdm

from viq.errors import InputError

FEW = 3  # files that need no progress bar


class Report:
    """Counts what became of each input. A context, in which progress is shown on a terminal."""

    def __init__(self, verb: str, total: int) -> None:
        """The verb is what is done to the files, for example "encoded"."""
        self.verb, self.total = verb, total
        self.succeeded = self.failed = 0
        self._start = time.monotonic()
        self._bar = tqdm(
            total=total,
            unit="file",
            dynamic_ncols=True,
            leave=False,
            file=sys.stderr,
            disable=True if total <= FEW else None,  # None: unless stderr is no terminal
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def success(self, line: str | None = None) -> None:
        """Counts an input that became what it should, and prints a line of results."""
        self.succeeded += 1
        if line is not None:
            tqdm.write(_one_line(line), file=sys.stdout)
        self._bar.update()

    def failure(self, source: str | PathLike[str], error: InputError) -> None:
        """Counts an input that failed, and says why."""
        self.failed += 1
        message = str(error) if error.source is not None else f"{source}: {error.reason}"
        tqdm.write(_one_line(f"viq: error: {message}"), file=sys.stderr)
        self._bar.update()

    def summary(self) -> None:
        """Says on stderr how many inputs went well, how many failed, and how long it took."""
        seconds = time.monotonic() - self._start
        failed = f", {self.failed} failed" if self.failed else ""
        files = "file" if self.succeeded == 1 else "files"
        tqdm.write(
            f"{self.verb} {self.succeeded} {files} in {seconds:.1f} s{failed}", file=sys.stderr
        )

    @property
    def status(self) -> int:
        """The exit code: 0 when all went well, 1 when some failed, 2 when all did."""
        if not self.failed:
            return 0
        return 1 if self.succeeded else 2


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lays cells out in columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in (header, *rows)
    )


@contextmanager
def hushed() -> Iterator[None]:
    """Keeps off stderr what C libraries write there: libtiff names no file, and ours say enough."""
    try:
        stderr = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
