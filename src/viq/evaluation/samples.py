"""What an evaluation has found of each sample, kept as it goes, so that it can go on.

A folder holds ``settings.json``, which says what was asked, and ``samples/PART.jsonl``, a line for
each finished sample. A line that a stopped process left unfinished is dropped, and its sample done
again.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from viq.errors import InputError
from viq.evaluation.files import encoded, unwritable, whole_text

SETTINGS = "settings.json"
MOST_BYTES = 200  # of a part that is its file's name


class Samples:
    """Finished samples of one evaluation, by part (mostly what is evaluated) and id."""

    def __init__(self, folder: Path) -> None:
        """For ``open``."""
        self.folder = folder
        self._parts: dict[str, dict[str, dict[str, Any]]] = {}

    @classmethod
    @contextmanager
    def open(cls, folder: Path, asked: Mapping[str, Any]) -> Iterator[Self]:
        """Begins in a new folder, or goes on in one where the same was asked.

        Args:
            folder: of the evaluation; made if need be.
            asked: all that decides the samples' results, as JSON takes it; of files also what
                tells them from others, e.g. a tokenizer's fingerprint.

        Raises:
            InputError: something else was asked there, naming both; or another process is at it.
        """
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        with (folder / "samples" / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError("another evaluation is writing here", folder) from None
            _check(folder / SETTINGS, json.loads(json.dumps(asked)))
            yield cls(folder)

    def of(self, part: str) -> Mapping[str, dict[str, Any]]:
        """The finished samples of a part, by id, in the order in which they were finished."""
        return self._of(part)

    def add(self, part: str, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Keeps finished samples: what comes back of them later is what JSON makes of it.

        Raises:
            ValueError: one is there already, or has another ``id`` of its own; none is kept then.
            TypeError: a value is not one of JSON's; none is kept then.
            OSError: the file cannot be written, naming it; none is kept then.
        """
        known = self._of(part)
        lines = {}
        for name, record in records.items():
            if name in known:
                raise ValueError(f"sample {name!r} is there already.")
            if record.get("id", name) != name:
                raise ValueError(f"sample {name!r} has the id {record['id']!r} in its record.")
            lines[name] = json.dumps({"id": name, **record}, ensure_ascii=False)
        text = "".join(line + "\n" for line in lines.values())
        path = self._path(part)
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(encoded(text))
        except OSError as error:
            with suppress(OSError):  # what is half written would join the next line
                os.truncate(path, size)
            raise unwritable(error, path) from error
        known |= {name: json.loads(line) for name, line in lines.items()}

    def _of(self, part: str) -> dict[str, dict[str, Any]]:
        if part not in self._parts:
            self._parts[part] = _read(self._path(part))
        return self._parts[part]

    def _path(self, part: str) -> Path:
        safe = "".join(c if c.isalnum() or c in "-_.=" else "_" for c in part)
        if safe != part or len(encoded(part)) > MOST_BYTES:  # runs/a and runs_a are two parts
            safe = f"{safe[-40:]}-{hashlib.sha256(encoded(part)).hexdigest()[:8]}"
        return self.folder / "samples" / f"{safe}.jsonl"


def _check(path: Path, asked: dict[str, Any]) -> None:
    if not path.exists():
        whole_text(path, json.dumps(asked, indent=1, ensure_ascii=False) + "\n")
        return
    try:
        before = json.loads(path.read_text("utf-8"))
        if not isinstance(before, dict):
            raise ValueError(f"{type(before).__name__} instead of an object.")
    except (ValueError, RecursionError) as error:
        raise InputError(
            "not the settings of an evaluation, or damaged; remove the folder, or give another"
            " --out",
            path,
        ) from error
    for name in sorted(before.keys() | asked.keys()):
        if before.get(name) != asked.get(name):
            raise InputError(
                f"the evaluation here was begun with {name} {_short(before.get(name))}, this one"
                f" has {_short(asked.get(name))}; give the same, or another --out",
                path.parent,
            )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Whole lines; a torn one at the end is cut off, so that what follows begins a new one."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    found = {}
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line.decode("utf-8"))
            found[record["id"]] = record
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"line {number} is damaged; remove it to do it again", path) from error
    return found
