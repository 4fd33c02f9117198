"""Changes to a rectangle of codes. They take codes and give others; decoding is for others, too.

Axes: h x w patches of the picture, Q code heads, K digits of a code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viq.app.limits import RefusedError
from viq.codes import Codes


@dataclass(frozen=True)
class Place:
    """A rectangle of patches, and the code heads that an edit changes there."""

    top: int
    left: int
    height: int
    width: int
    heads: tuple[int, ...]

    def check(self, codes: Codes) -> None:
        """Sees that it lies inside a picture.

        Raises:
            RefusedError: it does not.
        """
        rows, columns = codes.grid_size
        if (
            min(self.top, self.left) < 0
            or min(self.height, self.width) < 1
            or self.top + self.height > rows
            or self.left + self.width > columns
        ):
            raise RefusedError(400, f"The rectangle is outside of the {rows} x {columns} patches.")
        if not self.heads or not set(self.heads) <= set(range(codes.code_heads)):
            raise RefusedError(400, f"Choose one or more of the {codes.code_heads} code heads.")


def fill(codes: Codes, place: Place, values: Sequence[int]) -> Codes:
    """One patch's codes (Q,) everywhere."""
    if len(values) != codes.code_heads or not all(0 <= v < codes.codebook_size for v in values):
        raise RefusedError(
            400, f"Give {codes.code_heads} codes from 0 to {codes.codebook_size - 1:,}, one a head."
        )
    return _changed(codes, place, np.array(values))


def copy(codes: Codes, place: Place, patch: tuple[int, int]) -> Codes:
    """The codes of one of the picture's own patches everywhere."""
    rows, columns = codes.grid_size
    row, column = patch
    if not (0 <= row < rows and 0 <= column < columns):
        raise RefusedError(400, f"There is no such patch among {rows} x {columns}.")
    return _changed(codes, place, _grid(codes)[row, column])


def mask(codes: Codes, place: Place) -> Codes:
    """Nothing: the code that stands for zero in all its dimensions."""
    return _changed(codes, place, _number(np.array(codes.levels) // 2, codes.levels))


def scramble(codes: Codes, place: Place, seed: int) -> Codes:
    """Random codes, the same for the same seed."""
    shape = (place.height, place.width, codes.code_heads)
    return _changed(
        codes, place, np.random.default_rng(seed).integers(0, codes.codebook_size, shape)
    )


def mix(codes: Codes, place: Place, other: Codes, share: float) -> Codes:
    """A way from the picture's codes to another's in the same places, ``share`` of it from 0 to 1.

    Digits of a code are ordered values, so between two there are others. An other picture that
    ends before the rectangle does begins anew.

    Raises:
        RefusedError: the codes are of different tokenizers.
    """
    if other.fingerprint != codes.fingerprint or other.code_heads != codes.code_heads:
        raise RefusedError(400, "The two pictures' codes are of different checkpoints.")
    if not 0 <= share <= 1:
        raise RefusedError(400, "The share of the second picture is from 0 to 100 percent.")
    rows = np.arange(place.top, place.top + place.height) % other.grid_size[0]
    columns = np.arange(place.left, place.left + place.width) % other.grid_size[1]
    theirs = _digits(_grid(other)[np.ix_(rows, columns)], codes.levels)
    ours = _digits(_inside(_grid(codes), place), codes.levels)
    digits = np.rint(ours + share * (theirs - ours)).astype(np.int64)
    return _changed(codes, place, _number(digits, codes.levels))


def _changed(codes: Codes, place: Place, values: NDArray[Any]) -> Codes:
    """The same codes with ``values``, (h, w, Q) or what broadcasts, in a place."""
    place.check(codes)
    grid = _grid(codes).copy()
    inside, heads = _inside(grid, place), list(place.heads)
    inside[..., heads] = np.broadcast_to(values, inside.shape)[..., heads]
    return replace(codes, values=grid.reshape(codes.values.shape))


def _grid(codes: Codes) -> NDArray[Any]:
    return codes.values.reshape(*codes.grid_size, codes.code_heads)  # (h, w, Q)


def _inside(grid: NDArray[Any], place: Place) -> NDArray[Any]:
    return grid[
        place.top : place.top + place.height,
        place.left : place.left + place.width,
    ]


def _digits(values: NDArray[Any], levels: Sequence[int]) -> NDArray[np.int64]:
    """Codes (...) as digits (..., K), the least significant first."""
    bases = np.cumprod([1, *levels[:-1]])
    return values[..., None].astype(np.int64) // bases % np.array(levels)


def _number(digits: NDArray[Any], levels: Sequence[int]) -> NDArray[Any]:
    """Digits (..., K) as codes (...)."""
    return np.sum(digits * np.cumprod([1, *levels[:-1]]), axis=-1)
