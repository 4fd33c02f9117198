"""Which files a source names, and of which kind they are.

As ``viq.data.sources`` finds them, but on any file system, with patterns, and in a folder of images
without a split of its own.
"""

import itertools
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from viq.data.folder import LISTS, SUFFIXES
from viq.data.sources import KINDS, SPLIT
from viq.errors import InputError
from viq.extraction.sources.storage import File, Place, Storage, base, folder_of, why

log = logging.getLogger(__name__)

SourceKind = Literal["folder", "llava", "parquet", "webdataset"]

_SHARDS: dict[str, SourceKind] = {".parquet": "parquet", ".tar": "webdataset"}
_ASKED_AHEAD = 16  # requests to a remote storage at a time
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class Found:
    """The files of a source, or the folder of images."""

    source: str  # what was asked for
    kind: SourceKind
    storage: Storage
    files: tuple[File, ...]  # in order; () of a folder of images
    folder: str  # the folder of images; else the first file's

    def name(self, number: int) -> str:
        """What messages call a file."""
        return self.storage.name(self.files[number].path)

    def identity(self) -> dict[str, Any]:
        """What tells these files from others, as far as it needs no reading."""
        return {
            "kind": self.kind,
            "source": self.storage.name(self.folder),
            "files": len(self.files),
            "bytes": sum(file.size for file in self.files),
        }


def find(source: str) -> Found:
    """Looks at what a path, a pattern or an URL names.

    Raises:
        InputError: there is nothing, or nothing of a kind that is read.
    """
    place = Storage.locate(source)
    try:
        folder = place.storage.is_dir(place.path)
        file = None if folder else place.storage.file(place.path)
    except Exception as error:  # each storage has its own
        raise InputError(f"cannot be opened ({why(error)})", source) from error
    if folder:
        return _in_folder(source, place)
    files = _match(source, place) if file is None else [file]
    suffixes = dict.fromkeys(_suffix(file.path) for file in files)
    unknown = [suffix for suffix in suffixes if suffix not in KINDS]
    if unknown:
        read = f"there are: {', '.join(KINDS)}, and folders of images"
        raise InputError(f"unknown kind of file {unknown[0]!r}; {read}", source)
    if len(kinds := {KINDS[suffix] for suffix in suffixes}) > 1:
        raise InputError(f"names files of several kinds: {', '.join(suffixes)}", source)
    return _found(source, kinds.pop(), place.storage, files)


def _found(source: str, kind: SourceKind, storage: Storage, files: list[File]) -> Found:
    return Found(source, kind, storage, tuple(files), folder_of(files[0].path))


def _match(source: str, place: Place) -> list[File]:
    """The files of a pattern: each name between braces, and each pattern's files sorted."""

    def match(name: str) -> list[File]:
        magic = any(character in name for character in "*?[")
        file = None if magic else place.storage.file(name)
        found = place.storage.glob(name) if magic else [file] if file is not None else []
        if not found:
            where = place.storage.name(name)
            raise InputError("no file has such a name" if magic else "no such file", where)
        return found

    with ThreadPoolExecutor(_ASKED_AHEAD) as threads:
        matches = list(threads.map(match, _names(place.path, source)))
    files = [file for found in matches for file in found]
    if twice := next((a for a, b in itertools.pairwise(sorted(files)) if a == b), None):
        raise InputError(f"names the file {base(twice.path)} twice", source)
    return files


def _names(pattern: str, source: str) -> Iterator[str]:
    """``a{0..2}.tar`` as a0.tar, a1.tar and a2.tar, ``a{x,y}`` as ax and ay."""
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    inner = braces.group(1)
    if numbers := _RANGE.fullmatch(inner):
        first, last = numbers.groups()
        if int(first) > int(last):
            raise InputError(f"the range {{{inner}}} runs backwards", source)
        items = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    else:
        items = inner.split(",")
    for item in items:
        yield from _names(pattern[: braces.start()] + item + pattern[braces.end() :], source)


def _in_folder(source: str, place: Place) -> Found:
    storage, folder = place
    for suffix, kind in _SHARDS.items():
        if files := _split_files(place, suffix):
            return _found(source, kind, storage, files)
    for name in ("train.json", "train.jsonl"):
        if (file := storage.file(f"{folder}/{name}")) is not None:
            return _found(source, "llava", storage, [file])
    for entry in storage.walk(folder):
        if _suffix(entry.path) in SUFFIXES or entry.path in LISTS:
            return Found(source, "folder", storage, (), folder)
    there = ", ".join(base(file.path) for file in storage.files(folder)[:5]) or "no files"
    reason = f"has no Parquet files, shards, images or train.jsonl in it; there are: {there}"
    raise InputError(reason, source)


def _split_files(place: Place, suffix: str) -> list[File]:
    """The shards of split train, or those of no split, as in the layouts of ``datasets``."""
    storage, top = place
    for folder in (f"{top}/train", top, f"{top}/data"):
        files = storage.files(folder, suffix)
        if not files:
            continue
        if base(folder) == "train":
            return files
        splits: dict[str, list[File]] = {}
        for file in files:
            found = SPLIT.match(base(file.path))
            splits.setdefault(found.group(1) if found else "", []).append(file)
        chosen = "train" if "train" in splits else ""
        others = sorted(set(splits) - {chosen})
        if chosen not in splits:
            has = f"has split {' and '.join(others)}, not train"
            raise InputError(f"{has}; name the files: {folder}/{others[0]}*{suffix}", top)
        if others:
            text = "%s: split train is read; other files are left out: %s"
            named = ", ".join(f"{split}*{suffix}" for split in others)
            log.warning(text, storage.name(folder), named)
        return splits[chosen]
    return []


def _suffix(path: str) -> str:
    name = base(path)
    return "." + name.rpartition(".")[2].lower() if "." in name else ""
