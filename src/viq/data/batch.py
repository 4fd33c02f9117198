"""What a step of the text-aligned stages reads: samples packed twice.

All images of all samples form one packed sequence of patches; all samples' texts, in which
image tokens have their places, form one sequence of fixed length for the language model.

Axes: N patches of all images, P patch side in pixels, Q code heads, R rows of all images, L length
of the language model's sequence, V image tokens.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from viq.chat import IGNORED
from viq.image import to_range
from viq.model.packing import Packing


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Several samples in one sequence; none sees another."""

    samples: tuple[str, ...]  # ids, in the order of ``lengths``
    rows: Tensor  # (R, ...) what a reader made of all images: patches (N, 3 * P * P) uint8 or in
    # [-1, 1], codes (N, Q) int32, or another encoder's tiles, uint8, one a row
    packing: Packing  # the grids of what the language model reads, in order
    pool: int  # patches that one image token stands for, along each side: 1, 2 or 4
    input_ids: Tensor  # (L,) int64; at the places of image tokens any valid id
    labels: Tensor  # (L,) int64: the token itself where it is supervised, else IGNORED
    lengths: tuple[int, ...]  # of each sample, and last of the filling, if any; their sum is L
    image_positions: Tensor  # (V,) int64 places in the sequence of image tokens, in order
    tiles: tuple[tuple[int, int], ...] = ()  # where rows are tiles: of each picture, after the view
    # of the whole, so many rows and columns of them
    letters: Tensor | None = None  # (N, FRAMES) uint8 classes, where rows are patches: data.letters

    @property
    def images(self) -> int:
        """How many images there are; of a picture in tiles the language model reads two."""
        return len(self.tiles) or len(self.packing)

    @property
    def supervised(self) -> int:
        """How many tokens are supervised."""
        return int((self.labels != IGNORED).sum())

    @property
    def pixels(self) -> Tensor:
        """The rows, which are patches, as float32 in [-1, 1], (N, 3 * P * P)."""
        return self.rows if self.rows.is_floating_point() else to_range(self.rows)

    def to(self, device: torch.device | str) -> Self:
        """The batch with its tensors on ``device``."""
        names = ("rows", "input_ids", "labels", "image_positions", "letters")
        found = {name: getattr(self, name) for name in names}
        moved = {n: t.to(device, non_blocking=True) for n, t in found.items() if t is not None}
        return replace(self, **moved)
