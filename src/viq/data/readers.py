"""How a sample's images become rows of a batch: patches or tiles of pictures, or codes.

Axes: N patches of one image, P patch side in pixels, Q code heads, T tiles of S pixels a side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from viq.codes import Codes
from viq.data.config import PhaseConfig
from viq.data.images import as_picture
from viq.data.letters import LETTERS, frames, no_frames
from viq.data.sample import Sample, SampleImage
from viq.errors import CodesError, FingerprintError, ImageError
from viq.external.tiling import TilingConfig, best_grid, cut, shown_patches
from viq.image import ImageConfig, in_blocks, load_image, prepare, to_patches


class ImageRows(NamedTuple):
    """What a reader made of one image."""

    rows: NDArray[Any]  # (R, ...)
    grid_sizes: tuple[tuple[int, int], ...]  # of what the language model reads: mostly one grid
    tiles: tuple[int, int] | None = None  # rows and columns of tiles, where rows are tiles
    letters: NDArray[np.uint8] | None = None  # (R, FRAMES), where rows are patches: data.letters


class ImageReader(Protocol):
    """Turns images into rows, in whatever process; can be pickled."""

    def no_rows(self) -> NDArray[Any]:
        """The rows of no image (0, ...)."""

    def read(self, image: SampleImage, name: str) -> ImageRows:
        """The rows of one image.

        Raises:
            InputError: it cannot be read, or is not what this reader takes; names it.
        """


@dataclass(frozen=True, kw_only=True)
class PatchReader:
    """Pictures to uint8 patches (N, 3 * P * P), by the same preparation as for encoding.

    Where pictures are padded with mid-grey, which no byte is, to float32 in [-1, 1].
    """

    image: ImageConfig

    def no_rows(self) -> NDArray[Any]:
        """(0, 3 * P * P)."""
        dtype = np.float32 if self.image.padding == "zero" else np.uint8
        return np.empty((0, 3 * self.image.patch_size**2), dtype)

    def read(self, image: SampleImage, name: str) -> ImageRows:
        """The patches of a picture and its grid.

        Raises:
            ImageError: it cannot be read, or is codes; names it.
        """
        picture = as_picture(image, name)
        prepared = prepare(picture, self.image, name=name)
        known = picture.info.get(LETTERS) if isinstance(picture, Image.Image) else None
        scale = prepared.encoded_size[1] / prepared.original_size[1]
        letters = frames(known, scale, prepared.grid_size, self.image.patch_size)
        rows = to_patches(prepared, self.image).numpy()
        return ImageRows(rows, (prepared.grid_size,), letters=letters)


@dataclass(frozen=True, kw_only=True)
class CodeReader:
    """Codes to int32 (N, Q), after seeing that they are the right tokenizer's."""

    fingerprint: str
    code_heads: int
    pool: int  # patches along each side of an image token

    def no_rows(self) -> NDArray[np.int32]:
        """(0, Q)."""
        return np.empty((0, self.code_heads), np.int32)

    def read(self, image: SampleImage, name: str) -> ImageRows:
        """The codes of an image and its grid.

        Raises:
            ImageError: it is a picture; names it.
            CodesError: they are another tokenizer's, or ``pool`` does not divide the grid.
        """
        if not isinstance(image, Codes):
            raise ImageError("is a picture, but codes are read here; extract them first", name)
        if image.fingerprint != self.fingerprint:
            raise FingerprintError(self.fingerprint, image.fingerprint, name)
        h, w = image.grid_size
        if h % self.pool or w % self.pool:
            raise CodesError(
                f"its grid of {h} x {w} patches does not divide into {self.pool} x {self.pool};"
                " take a lower pool",
                name,
            )
        return ImageRows(image.values.astype(np.int32), (image.grid_size,))


@dataclass(frozen=True, kw_only=True)
class TileReader:
    """Pictures to uint8 tiles (T, 3 * S * S): the whole squashed, then a closer view in squares.

    The language model reads both as images of their own; of the second what shows the picture.

    Raises:
        ValueError: ``pool`` does not divide a tile's patches.
    """

    side: int  # S
    patch_size: int
    pool: int
    tiling: TilingConfig = field(default_factory=TilingConfig)
    resample: int = 3  # Pillow's number: bicubic

    def __post_init__(self) -> None:
        if self.grid % self.pool:
            fitting = ", ".join(str(pool) for pool in (1, 2, 4) if self.grid % pool == 0)
            raise ValueError(
                f"tiles of {self.side} pixels are {self.grid} x {self.grid} patches, which do not"
                f" divide into {self.pool} x {self.pool}; pools that do: {fitting}. Or give tiles"
                f" of another --tiling.side, a multiple of {self.patch_size * self.pool}."
            )

    @property
    def grid(self) -> int:
        """Patches along a tile's side."""
        return self.side // self.patch_size

    def no_rows(self) -> NDArray[np.uint8]:
        """(0, 3 * S * S)."""
        return np.empty((0, 3 * self.side**2), np.uint8)

    def read(self, image: SampleImage, name: str) -> ImageRows:
        """A picture's tiles, and the grids of both views.

        Raises:
            ImageError: it cannot be read, or is codes; names it.
        """
        picture = load_image(as_picture(image, name), name=name)
        size, side = (picture.height, picture.width), self.side
        grids, tiles = [(self.grid, self.grid)], (0, 0)
        if self.tiling.grids:
            tiles = best_grid(size, self.tiling.grids, side)
            grids.append(shown_patches(size, tiles, side, patch=self.patch_size, pool=self.pool))
        views = cut(picture, tiles, side, self.resample)  # (T, S, S, 3)
        rows = np.ascontiguousarray(views.transpose(0, 3, 1, 2)).reshape(len(views), -1)
        return ImageRows(rows, tuple(grids), tiles)


def joined_letters(read: Sequence[ImageRows]) -> NDArray[np.uint8] | None:
    """The letters (R, FRAMES) of several images; None where rows are not patches."""
    known = [image.letters for image in read if image.letters is not None]
    return np.concatenate([no_frames(), *known]) if len(known) == len(read) else None


def read_all(sample: Sample, reader: ImageReader) -> list[ImageRows]:
    """The rows of each of a sample's images.

    Raises:
        InputError: one cannot be read; names the sample.
    """
    return [
        reader.read(image, sample.id if len(sample.images) == 1 else f"{sample.id}, image {number}")
        for number, image in enumerate(sample.images)
    ]


def patch_reader(
    phase: PhaseConfig, patch_size: int, image: ImageConfig | None = None
) -> PatchReader:
    """How a phase reads pictures: of at most its area, in whole image tokens.

    Args:
        phase: of the curriculum.
        patch_size: pixels on a patch's side.
        image: how a tokenizer prepares pictures; where it is given, codes are the same as its.

    Raises:
        ValueError: one image may be too large for a batch, or a tokenizer prepares pictures so
            that they do not divide into image tokens.
    """
    if phase.max_patches * patch_size**2 < phase.area:
        raise ValueError(
            f"max_patches is {phase.max_patches}, but one image of area {phase.area} has up to"
            f" {phase.area // patch_size**2}; raise max_patches or lower area."
        )
    area = phase.area
    if image is None:
        image = ImageConfig(patch_size=patch_size, pad_multiple=patch_size)
    else:
        area = min(area, image.max_pixels)
    return PatchReader(image=replace(in_blocks(image, patch_size * phase.pool), max_pixels=area))
