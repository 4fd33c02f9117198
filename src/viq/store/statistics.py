"""What can be said of a whole code data set, from one pass and in little memory.

Axes: Q code heads.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viq.codes import Codes
from viq.store.format import CodesInfo


class Spread(NamedTuple):
    """The least, the middle and the greatest of many numbers."""

    min: int
    median: int  # the lower one of two
    max: int


@dataclass(eq=False)
class Statistics:
    """Counts rows, images, codes and pixels as rows are added."""

    info: CodesInfo
    rows: int = 0
    rows_without_images: int = 0
    images: int = 0
    codes: int = 0
    pixels: int = 0  # of the originals
    patches: Counter[int] = field(default_factory=Counter)  # images by their number of patches
    heights: Counter[int] = field(default_factory=Counter)  # and by the originals' sides
    widths: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._uses = np.zeros((self.info.code_heads, self.info.codebook_size), np.int64)

    def add(self, rows: Iterable[tuple[Codes, ...]]) -> None:
        """Counts some rows; thousands at once are quicker than one by one."""
        values = []
        for images in rows:
            self.rows += 1
            self.rows_without_images += not images
            for image in images:
                self.images += 1
                self.codes += image.values.size
                self.pixels += math.prod(image.original_size)
                self.patches[len(image.values)] += 1
                self.heights[image.original_size[0]] += 1
                self.widths[image.original_size[1]] += 1
                values.append(image.values)
        if values:
            for uses, head in zip(self._uses, np.concatenate(values).T, strict=True):
                uses += np.bincount(head, minlength=len(uses))

    def distinct_codes(self) -> NDArray[np.int64]:
        """How many codes of the codebook occur in each code head, (Q,)."""
        return np.count_nonzero(self._uses, axis=1)

    def entropy(self) -> NDArray[np.float64]:
        """Bits per code of each code head, (Q,); 0 without images."""
        total = max(1, self.codes // self.info.code_heads)
        shares = self._uses / total
        return np.sum(shares * np.log2(total / np.maximum(self._uses, 1)), axis=1)


def spread(counts: Counter[int]) -> Spread | None:
    """The spread of numbers that occur as often as counted; None if there are none."""
    numbers, middle = sorted(counts), (counts.total() + 1) // 2
    for number in numbers:
        middle -= counts[number]
        if middle <= 0:
            return Spread(numbers[0], number, numbers[-1])
    return None
