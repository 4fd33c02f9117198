"""How a sample's images become rows of a batch: patches of pictures, or codes as they are.

Axes: N patches of one image, P patch side in pixels, Q code heads.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from viq.codes import Codes
from viq.data.config import PhaseConfig
from viq.data.images import as_picture
from viq.data.sample import Sample, SampleImage
from viq.errors import CodesError, FingerprintError, ImageError
from viq.image import ImageConfig, patchify, prepare


class ImageRows(NamedTuple):
    """What a reader made of one image."""

    rows: NDArray[Any]  # (R, ...)
    grid_sizes: tuple[tuple[int, int], ...]  # of what the language model reads: mostly one grid


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
    """Pictures to uint8 patches (N, 3 * P * P), by the same preparation as for encoding."""

    image: ImageConfig

    def no_rows(self) -> NDArray[np.uint8]:
        """(0, 3 * P * P)."""
        return np.empty((0, 3 * self.image.patch_size**2), np.uint8)

    def read(self, image: SampleImage, name: str) -> ImageRows:
        """The patches of a picture and its grid.

        Raises:
            ImageError: it cannot be read, or is codes; names it.
        """
        prepared = prepare(as_picture(image, name), self.image, name=name)
        values = patchify(prepared.pixels, self.image.patch_size).add_(1).mul_(127.5).round_()
        return ImageRows(values.to(torch.uint8).numpy(), (prepared.grid_size,))


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


def read_all(sample: Sample, reader: ImageReader) -> list[ImageRows]:
    """The rows of each of a sample's images.

    Raises:
        InputError: one cannot be read; names the sample.
    """
    return [
        reader.read(image, sample.id if len(sample.images) == 1 else f"{sample.id}, image {number}")
        for number, image in enumerate(sample.images)
    ]


def patch_reader(phase: PhaseConfig, patch_size: int) -> PatchReader:
    """How a phase reads pictures: of at most its area, in whole image tokens.

    Raises:
        ValueError: one image may be too large for a batch.
    """
    if phase.max_patches * patch_size**2 < phase.area:
        raise ValueError(
            f"max_patches is {phase.max_patches}, but one image of area {phase.area} has up to"
            f" {phase.area // patch_size**2}; raise max_patches or lower area."
        )
    image = ImageConfig(
        patch_size=patch_size, pad_multiple=patch_size * phase.pool, max_pixels=phase.area
    )
    return PatchReader(image=image)
