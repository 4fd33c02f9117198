"""Files of a local disk or of any file system of fsspec, in the few ways that sources need.

A path without a protocol, or with ``file://``, is local. Names in messages are local paths or URLs.
"""

import errno
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import fsspec  # type: ignore[import-untyped]
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from viq.errors import InputError

_BUFFER = 1 << 20  # bytes; one request of a remote store

# What says of a file itself that it cannot be opened. All else may be over the next time: too many
# open files, a disk or a network that does not answer.
_LASTING = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENXIO, errno.ENODEV),
}


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

    def files(self, folder: str, suffix: str = "") -> list[File]:
        """The visible files that lie in a folder itself, sorted; [] if there is no such folder."""
        try:
            there = _list_local(folder) if self.local else self._listed(folder)
            return sorted(file for file in there if _is_visible(file.path, suffix))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _listed(self, folder: str) -> list[File]:
        return self._files(self.fs.ls(folder, detail=True))

    def _files(self, entries: Iterable[Mapping[str, Any]]) -> list[File]:
        files: list[File | None] = []
        for entry in entries:
            if entry["type"] == "file":
                files.append(File(entry["name"], int(entry["size"] or 0)))
            elif entry["type"] != "directory":  # a link, which may lead to a file
                broken = entry.get("islink") and not self.fs.exists(entry["name"])
                files.append(File(entry["name"], 0) if broken else self.file(entry["name"]))
        return sorted(file for file in files if file is not None)

    def open(self, file: File) -> BinaryIO:
        """Opens a file to be read from one end to the other.

        Reading raises an InputError where the storage fails, or ends before the file does.

        Raises:
            InputError: it cannot be opened.
        """
        return io.BufferedReader(self._opened(file), _BUFFER)

    def open_at_random(self, file: File) -> "_Reads":
        """Opens a file of which pieces are read here and there, each by a request of its own.

        Raises:
            InputError: it cannot be opened.
        """
        return self._opened(file, **({} if self.local else {"cache_type": "none"}))

    def _opened(self, file: File, **options: Any) -> "_Reads":
        name = self.name(file.path)
        try:
            return _Reads(self.fs.open(file.path, "rb", **options), name, file.size)
        except MemoryError:
            raise
        except Exception as error:  # each storage has its own
            raise InputError(f"cannot be opened: {why(error)}", name) from error

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


class _Reads(io.RawIOBase):
    """A file's bytes, and an InputError where the storage does not give them.

    A connection that is dropped looks like the file's end, and so like a damaged file, to all who
    do not know how long it is.
    """

    def __init__(self, file: Any, name: str, size: int) -> None:
        self._file, self._name = file, name
        self._size = size  # 0 where the storage does not know

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._tried(self._file.read, size)
        if len(data) < size:
            self._check_end()
        return data

    def readinto(self, buffer: Any) -> int:
        count: int = self._tried(self._file.readinto, buffer)
        if not count:
            self._check_end()
        return count

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def _tried(self, function: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return function(argument)
        except MemoryError:
            raise
        except Exception as error:  # each storage has its own
            raise InputError(f"cannot be read: {why(error)}", self._name) from error

    def _check_end(self) -> None:
        if (at := self._file.tell()) < self._size:
            reason = f"its storage ends it at byte {at:,} of {self._size:,}"
            raise InputError(reason, self._name)


def _list_local(folder: str) -> Iterator[File]:
    """By ``os.scandir``; fsspec's list of a folder of millions of files would fill the memory."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if (size := _size(entry)) is not None:
                yield File(f"{folder.rstrip('/')}/{entry.name}", size)


def _walk_local(top: str) -> Iterator[File]:
    """As ``_list_local``, and all folders in the folder."""
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
                    elif (size := _size(entry)) is not None:
                        yield File(path, size)
        except OSError as error:
            raise InputError(f"cannot be listed: {why(error)}", where) from error


def _size(entry: "os.DirEntry[str]") -> int | None:
    """A file's bytes; None of what is no file. A link to nothing is one, which cannot be read."""
    try:
        status = entry.stat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def base(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def _is_visible(path: str, suffix: str) -> bool:
    name = base(path)
    return not name.startswith(".") and name.lower().endswith(suffix)


def folder_of(path: str) -> str:
    """The path without its last part."""
    return path.rpartition("/")[0] or "/"


def is_passing(error: BaseException | None) -> bool:
    """Whether a file could not be read for a reason that is not its own.

    Pillow and Arrow raise OSErrors without a number for damaged data.
    """
    if not isinstance(error, OSError):
        return False
    numbered = error.errno is not None and error.errno not in _LASTING
    return numbered or isinstance(error, (ConnectionError, TimeoutError))


def why(error: Exception) -> str:
    """What went wrong, in words, without the path that the message names anyway."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(error) or type(error).__name__
