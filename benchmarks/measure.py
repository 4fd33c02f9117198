"""Seconds of the parts of a step, on a CPU and on a GPU, and the memory of weights."""

import ctypes
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Marks:
    """Ends of the parts of a step; a GPU notes them itself, so that none waits for it."""

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._cuda, self._clock = device.type == "cuda", clock
        self._marks: list[tuple[str, Any]] = []

    def start(self) -> None:
        """Begins anew, when what was asked of a GPU before is done."""
        if self._cuda:
            torch.cuda.synchronize()
        self._marks = []
        self.mark("start")

    def mark(self, part: str) -> None:
        """Ends a part."""
        if not self._cuda:
            self._marks.append((part, self._clock()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append((part, event))

    def seconds(self) -> dict[str, float]:
        """Of each part, since the end of the one before it."""
        if self._cuda:
            torch.cuda.synchronize()
        found = {}
        for (_, before), (part, end) in zip(self._marks, self._marks[1:], strict=False):
            found[part] = before.elapsed_time(end) / 1000 if self._cuda else end - before
        return found


def keep_memory() -> None:
    """Has the C library keep what is freed, as torch does on a GPU (glibc alone).

    Otherwise each large tensor is memory from the system, zeroed page by page, and that takes a
    good part of a step on a CPU.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        most_mmaps, trim_threshold = -4, -1  # malloc.h
        library.mallopt(most_mmaps, 0)
        library.mallopt(trim_threshold, -1)


def size_of(module: nn.Module) -> int:
    """Bytes of its weights."""
    return sum(p.numel() * p.element_size() for p in module.parameters())
