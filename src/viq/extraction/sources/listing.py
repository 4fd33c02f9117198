"""Lists that do not fit into memory, sorted on disk."""

import contextlib
import heapq
import json
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

Item = list[Any]  # of JSON values; compared as lists are

CHUNK = 100_000  # items that are sorted in memory
MERGED = 64  # files that are open at a time


def sorted_on_disk(
    items: Iterable[Item], work: Path, chunk: int = CHUNK, merged: int = MERGED
) -> Iterator[Item]:
    """The items in order; chunks of them are sorted, stored in ``work`` and merged."""
    items = iter(items)
    numbers = count()
    files: deque[Path] = deque()
    with contextlib.ExitStack() as stack:

        def store(part: Iterable[Item]) -> None:
            path = work / f"sorting-{next(numbers):05d}.tmp"
            stack.callback(path.unlink, missing_ok=True)
            with path.open("w", encoding="ascii") as file:
                file.writelines(json.dumps(item) + "\n" for item in part)
            files.append(path)

        while part := sorted(islice(items, chunk)):
            if len(part) < chunk and not files:
                yield from part
                return
            store(part)
        while len(files) > merged:
            some = [files.popleft() for _ in range(merged)]
            store(_merge(some))
            for path in some:
                path.unlink()
        yield from _merge(files)


def _merge(files: Iterable[Path]) -> Iterator[Item]:
    """The items of sorted files, in order."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(path.open(encoding="ascii")) for path in files]
        yield from heapq.merge(*(map(json.loads, stream) for stream in streams))
