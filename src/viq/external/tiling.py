"""Pictures of any shape for networks of one size: a view of the whole, and tiles of a closer one.

As in LLaVA-NeXT (https://llava-vl.github.io/blog/2024-01-30-llava-next/): the whole picture is
squashed into one square; and it is fitted, its shape kept, into the one of a few grids of squares
that shows most of it, in the middle, with black at the edges. Patches that show nothing but those
edges are dropped once they have gone through the network.

Axes: (H, W) pixels of a picture, (R, K) rows and columns of tiles, S pixels on a tile's side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LLAVA_NEXT = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))


@dataclass(frozen=True, kw_only=True)
class TilingConfig:
    """How pictures are shown to a network of one size.

    Attributes:
        grids: rows and columns of tiles, of which the best is chosen; none for whole views alone.
        side: pixels on a tile's side; None for what the network was trained with.
    """

    grids: tuple[tuple[int, int], ...] = _LLAVA_NEXT
    side: int | None = None

    def __post_init__(self) -> None:
        if any(min(grid) < 1 for grid in self.grids):
            raise ValueError(f"grids are {self.grids}; a grid has 1 row and 1 column or more.")
        if self.side is not None and self.side < 1:
            raise ValueError(f"side is {self.side}; it must be 1 or more.")


class Fit(NamedTuple):
    """Where a picture lies on its tiles."""

    size: tuple[int, int]  # (H, W) that it is scaled to
    corner: tuple[int, int]  # (top, left) of it


def best_grid(
    size: tuple[int, int], grids: Sequence[tuple[int, int]], side: int
) -> tuple[int, int]:
    """The grid (R, K) on which most of a picture's pixels (H, W) show; of equals the smallest."""

    def waste(grid: tuple[int, int]) -> tuple[int, int]:
        area = grid[0] * grid[1] * side**2
        scale = min(grid[0] * side / size[0], grid[1] * side / size[1])
        shown = min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])
        return -shown, area - shown

    return min(grids, key=waste)


def fit(size: tuple[int, int], grid: tuple[int, int], side: int) -> Fit:
    """A picture (H, W) as large as the grid of tiles allows, in its middle."""
    canvas = (grid[0] * side, grid[1] * side)
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    height, width = (
        min(math.ceil(round(old * scale, 6)), most) for old, most in zip(size, canvas, strict=True)
    )
    return Fit((height, width), ((canvas[0] - height) // 2, (canvas[1] - width) // 2))


def cut(picture: Image.Image, grid: tuple[int, int], side: int, resample: int) -> NDArray[np.uint8]:
    """The whole of an RGB picture, then its tiles row by row, (1 + R * K, S, S, 3).

    Args:
        picture: of any size.
        grid: (R, K); (0, 0) for no tiles.
        side: S.
        resample: how it is scaled, by Pillow's number.
    """
    how = Image.Resampling(resample)
    views = [np.asarray(picture.resize((side, side), how))]
    if all(grid):
        (height, width), (top, left) = fit((picture.height, picture.width), grid, side)
        canvas = Image.new("RGB", (grid[1] * side, grid[0] * side))
        canvas.paste(picture.resize((width, height), how), (left, top))
        rows = np.asarray(canvas).reshape(grid[0], side, grid[1], side, 3)
        views += list(rows.transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3))
    return np.stack(views)


def shown_patches(
    size: tuple[int, int], grid: tuple[int, int], side: int, *, patch: int, pool: int
) -> tuple[int, int]:
    """How many rows and columns of all tiles' patches show some of a picture (H, W).

    In whole image tokens of ``pool`` x ``pool`` patches; what is dropped lies half at either end,
    see ``drop_edges``.
    """
    unit = patch * pool
    shown = []
    for tiles, length, start in zip(grid, *fit(size, grid, side), strict=True):
        end = tiles * side - start - length
        shown.append(tiles * side // patch - (start // unit + end // unit) * pool)
    return shown[0], shown[1]


def drop_edges(whole: int, shown: int, pool: int) -> slice:
    """Which of a row's (or column's) patches are shown, of all that its tiles have.

    A picture lies in the middle, or half a pixel above it, so the numbers say where that is.
    """
    start = (whole - shown) // pool // 2 * pool
    return slice(start, start + shown)
