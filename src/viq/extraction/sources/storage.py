"""Files of a local disk or of any file system of fsspec, in the few ways that sources need.

A path without a protocol, or with ``file://``, is local. Names in messages are local paths or URLs.
"""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import fsspec  # type: ignore[import-untyped]
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from viq.errors import InputError

_BUFFER = 1 << 20  # bytes; one request of a remote store


class Place(NamedTuple):
    """A file or folder, and where it is."""

    storage: "Storage"
    path: str  # as the file system has it: absolute, without a protocol


class File(NamedTuple):
    path: str  # as the file system has it; of a walk, from the folder on
    size: int  # bytes


@dataclass(frozen=True)
class Storage:
    """One file system; can be pickled."""

    fs: AbstractFileSystem

    @staticmethod
    def locate(url: str) -> Place:
        """The file system that an URL or a path names.

        Raises:
            InputError: the protocol is unknown, its package is not installed, or an archive in
                the URL is not there.
        """
        try:
            fs, path = fsspec.url_to_fs(url)
        except (ImportError, OSError, ValueError) as error:
            raise InputError(f"cannot be opened ({why(error)})", url) from error
        return Place(Storage(fs), path.rstrip("/") or "/")

    @property
    def local(self) -> bool:
        """Whether paths are those of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def name(self, path: str) -> str:
        """What messages call a file."""
        return path if self.local else self.fs.unstrip_protocol(path)

    def is_dir(self, path: str) -> bool:
        return self.fs.isdir(path)

    def file(self, path: str) -> File | None:
        """The file of this name, if there is one."""
        try:
            info = self.fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return File(path, int(info["size"] or 0)) if info["type"] == "file" else None

    def glob(self, pattern: str) -> list[File]:
        """The files that a pattern names, sorted."""
        return self._files(self.fs.glob(pattern, detail=True).values())

    def files(self, folder: str) -> list[File]:
        """The visible files that lie in a folder itself, sorted; [] if there is no such folder."""
        try:
            files = self._files(self.fs.ls(folder, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [file for file in files if not base(file.path).startswith(".")]

    def _files(self, entries: Iterable[Mapping[str, Any]]) -> list[File]:
        files: list[File | None] = []
        for entry in entries:
            if entry["type"] == "file":
                files.append(File(entry["name"], int(entry["size"] or 0)))
            elif entry["type"] != "directory":  # a link, which may lead to a file
                files.append(self.file(entry["name"]))
        return sorted(file for file in files if file is not None)

    def open(self, path: str) -> BinaryIO:
        """Opens a file to be read from one end to the other.

        Raises:
            InputError: it cannot be opened.
        """
        try:
            file = self.fs.open(path, "rb")
            return file if isinstance(file, io.BytesIO) else io.BufferedReader(file, _BUFFER)
        except OSError as error:
            raise InputError(f"cannot be opened: {why(error)}", self.name(path)) from error

    def open_at_random(self, path: str) -> Any:
        """Opens a file of which pieces are read here and there, each by a request of its own.

        Raises:
            InputError: it cannot be opened.
        """
        try:
            return self.fs.open(path, "rb", **({} if self.local else {"cache_type": "none"}))
        except OSError as error:
            raise InputError(f"cannot be opened: {why(error)}", self.name(path)) from error

    def read(self, path: str) -> bytes:
        """All bytes of a file."""
        return self.fs.cat_file(path)

    def walk(self, folder: str) -> Iterator[File]:
        """All visible files below a folder, in no order, a folder at a time.

        Folders behind symbolic links are left out: they could lead round in a circle.

        Raises:
            InputError: a folder cannot be listed.
        """
        return _walk_local(folder) if self.local else self._walk(folder)

    def _walk(self, top: str) -> Iterator[File]:
        folders = [top]
        while folders:
            folder = folders.pop()
            for entry in self.fs.ls(folder, detail=True):
                path = entry["name"].rstrip("/")
                if base(path).startswith(".") or path == folder:  # stores list folders as files
                    continue
                if entry["type"] == "directory":
                    folders.append(path)
                else:
                    yield File(path.removeprefix(top).lstrip("/"), int(entry["size"] or 0))
            self.fs.invalidate_cache(folder)  # or the names of all folders would stay in memory


def _walk_local(top: str) -> Iterator[File]:
    """By ``os.scandir``, which does not list a folder of millions of files in memory."""
    folders = [""]
    while folders:
        folder = folders.pop()
        where = os.path.join(top, folder)
        try:
            with os.scandir(where) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                    elif entry.is_file():
                        yield File(path, entry.stat().st_size)
        except OSError as error:
            raise InputError(f"cannot be listed: {why(error)}", where) from error


def base(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def folder_of(path: str) -> str:
    """The path without its last part."""
    return path.rpartition("/")[0] or "/"


def why(error: Exception) -> str:
    """What went wrong, in words, without the path that the message names anyway."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(error) or type(error).__name__
