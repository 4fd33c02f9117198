"""Images of any size in one sequence, end to end, without padding.

Axes: N rows of all images together, B images.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where each image lies in a packed sequence.

    Made on the host from numbers that are on the host anyway, so that no layer has to read
    a length back from the device.
    """

    grid_sizes: tuple[tuple[int, int], ...]  # patches (h, w) of each image

    @classmethod
    def of(cls, grid_sizes: Iterable[tuple[int, int]]) -> "Packing":
        """Packs images of these grids (h, w), in this order."""
        return cls(tuple((int(h), int(w)) for h, w in grid_sizes))

    @cached_property
    def lengths(self) -> list[int]:
        """Rows of each image, h * w."""
        return [h * w for h, w in self.grid_sizes]

    @cached_property
    def offsets(self) -> list[int]:
        """Where each image starts, and at the end N: (B + 1) numbers."""
        return [0, *accumulate(self.lengths)]

    @cached_property
    def max_seqlen(self) -> int:
        """Rows of the largest image."""
        return max(self.lengths, default=0)

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """Neighbours of equal length as (first row, images, rows of each), to run as one batch."""
        runs, start = [], 0
        for length, group in groupby(self.lengths):
            count = len(list(group))
            runs.append((start, count, length))
            start += count * length
        return runs

    @cached_property
    def _on_device(self) -> dict[torch.device, Tensor]:
        return {}

    def cu_seqlens(self, device: torch.device) -> Tensor:
        """The offsets as int32 (B + 1,) on ``device``; copied there once."""
        if device not in self._on_device:
            offsets = torch.tensor(self.offsets, dtype=torch.int32)
            self._on_device[device] = offsets.to(device, non_blocking=True)
        return self._on_device[device]

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Splits (N, ...) into one tensor an image."""
        return rows.split(self.lengths)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.grid_sizes)

    def __len__(self) -> int:
        return len(self.grid_sizes)
