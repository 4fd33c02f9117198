"""The images that a row names: bytes stay as they are, paths are looked up, or fetched.

Local files are left to those who decode them; of any other storage the bytes are fetched here, some
rows ahead.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from viq.data.rows import read_images
from viq.errors import InputError
from viq.extraction.sources.storage import Place, is_passing, why
from viq.image import Picture

_FETCHED_AHEAD = 16  # requests to a remote storage at a time
_PAUSES = (1.0, 4.0)  # seconds before a fetch is tried again
# What says that there is no such image; everything else may be the network's fault.
_NOT_THERE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)

T = TypeVar("T")
R = TypeVar("R")


def find_images(value: object, root: Place) -> tuple[Picture | bytes, ...]:
    """What a row holds, as ``viq.data.rows.read_images`` takes it, with paths below ``root``.

    Raises:
        InputError: it is no image, or is not there; its ``reason`` is about the row.
        ConnectionError: it could not be fetched, again and again, or looked up.
    """
    if not root.storage.local:
        return read_images(_fetched(value, root), Path(), "")
    try:
        return read_images(value, Path(root.path), "")
    except OSError as error:
        if is_passing(error):
            raise ConnectionError(f"an image cannot be looked up: {error}") from error
        # else a name that no file can have
        raise InputError(f"its image cannot be opened: {why(error)}") from error


def ahead(function: Callable[[T], R], items: Iterable[T], root: Place) -> Iterator[R]:
    """The function of each item, in order; some at a time where each may wait for the network."""
    if root.storage.local:
        yield from map(function, items)
        return
    items = iter(items)
    with ThreadPoolExecutor(_FETCHED_AHEAD) as threads:
        waiting: deque[Future[R]] = deque()
        try:
            waiting.extend(threads.submit(function, item) for item in islice(items, _FETCHED_AHEAD))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(threads.submit(function, item) for item in islice(items, 1))
        finally:  # whoever stops reading does not wait for what is left
            for future in waiting:
                future.cancel()


def fetch(path: str, root: Place) -> bytes:
    """All bytes of a file below ``root``.

    Raises:
        FileNotFoundError: there is none; likewise the other errors that say so.
        ConnectionError: it could not be read, again and again.
    """
    file = f"{root.path.rstrip('/')}/{path}"
    for pause in (*_PAUSES, None):
        try:
            return root.storage.read(file)
        except _NOT_THERE:
            raise
        except Exception as error:  # each storage has its own
            if pause is None:
                name = root.storage.name(file)
                raise ConnectionError(f"{name} cannot be fetched ({why(error)})") from error
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _fetched(value: Any, root: Place) -> Any:
    """The value with bytes in the place of paths."""
    if isinstance(value, (list, tuple)):
        return [_fetched(item, root) for item in value]
    if isinstance(value, Mapping):
        held = value.get("bytes")
        return _fetched(value.get("path") if held is None else held, root)
    if not isinstance(value, str):
        return value
    try:
        return fetch(value, root)
    except _NOT_THERE as error:
        name = root.storage.name(f"{root.path.rstrip('/')}/{value}")
        raise InputError(f"its image is missing: {why(error)} {name}") from error
