"""Lists that do not fit into memory, sorted on disk."""

import contextlib
import heapq
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

Item = list[Any]  # of JSON values; compared as lists are

CHUNK = 100_000  # items that are sorted in memory


def sorted_on_disk(items: Iterable[Item], work: Path, chunk: int = CHUNK) -> Iterator[Item]:
    """The items in order; chunks of them are sorted, stored in ``work`` and merged."""
    items = iter(items)
    with contextlib.ExitStack() as stack:
        streams: list[Iterator[Item]] = []
        while part := sorted(islice(items, chunk)):
            if len(part) < chunk and not streams:
                streams.append(iter(part))
                break
            path = work / f"sorting-{len(streams):05d}.tmp"
            stack.callback(path.unlink, missing_ok=True)
            with path.open("w", encoding="ascii") as file:
                file.writelines(json.dumps(item) + "\n" for item in part)
            streams.append(map(json.loads, stack.enter_context(path.open(encoding="ascii"))))
        yield from heapq.merge(*streams)
