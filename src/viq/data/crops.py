"""Batches of equal crops whose size changes from batch to batch.

Batch b is a function of (seed, b) alone, so the position in the data is one number, and a
resumed run sees what the uninterrupted one would have seen.
"""

import io
import logging
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from viq.data.pictures import ParquetPictures
from viq.errors import ImageError
from viq.image import load_image

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How pictures are cut."""

    sizes: tuple[tuple[int, int], ...] = ((128, 128),)  # pixels (H, W), one drawn a batch
    pixels: int = 2**19  # a batch holds as many crops as fit
    min_scale: float = 0.7  # pictures are scaled down at random, to this at the least,
    max_scale: float = 2.0  # and up to this where they do not fill the crop
    weights: dict[str, int] = field(default_factory=dict)  # of the values of column ``kind``
    seed: int = 0


class CropBatches(Dataset[Tensor]):
    """Endless batches of crops; item b is the b-th, uint8 (count, 3, H, W)."""

    def __init__(self, pictures: ParquetPictures, config: CropConfig) -> None:
        self.pictures = pictures
        self.config = config
        self.rows = np.array(pictures.weighted_rows("kind", config.weights))
        # The same number of pictures in each batch would need equal sizes; counting batches by
        # their largest number keeps the order of pictures a function of the batch's number.
        self.stride = max(config.pixels // (h * w) for h, w in config.sizes)

    def __getitem__(self, batch: int) -> Tensor:
        rng = np.random.default_rng([self.config.seed, batch])
        height, width = self.config.sizes[rng.integers(len(self.config.sizes))]
        count = self.config.pixels // (height * width)
        crops = []
        for place in range(batch * self.stride, batch * self.stride + count):
            row = self._row(place)
            try:
                picture = load_image(Image.open(io.BytesIO(self.pictures.encoded(row))))
            except (ImageError, OSError) as error:
                log.warning("row %d cannot be read and is left out: %s", row, error)
                continue
            crops.append(_crop(picture, (height, width), self.config, rng))
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)

    def _row(self, place: int) -> int:
        """The row at this place of an endless sequence of shuffled epochs."""
        epoch, index = divmod(place, len(self.rows))
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.config.seed, 1 << 32, epoch]).permutation(
                self.rows
            )
        return int(self._order[index])


def centre_crops(pictures: ParquetPictures, kinds: tuple[str, ...], side: int) -> Tensor:
    """Squares (B, 3, side, side), uint8, of all pictures of these kinds that are large enough."""
    crops = []
    for row, kind in enumerate(pictures.table["kind"].to_pylist()):
        if kind not in kinds:
            continue
        picture = load_image(Image.open(io.BytesIO(pictures.encoded(row))))
        if min(picture.size) >= side:
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            crops.append(np.asarray(picture.crop((left, top, left + side, top + side))))
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def _crop(
    picture: Image.Image, size: tuple[int, int], config: CropConfig, rng: np.random.Generator
) -> np.ndarray:
    """A crop (H, W, 3) at a random place and scale; what is still missing continues the edge."""
    height, width = size
    fill = max(height / picture.height, width / picture.width)
    scale = min(config.max_scale, max(fill, rng.uniform(config.min_scale, 1.0)))
    if not 0.95 < scale <= 1.0:
        scaled = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(scaled, Image.Resampling.LANCZOS)
    top = rng.integers(max(0, picture.height - height) + 1)
    left = rng.integers(max(0, picture.width - width) + 1)
    pixels = np.asarray(picture)[top : top + height, left : left + width]
    missing = [(0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)]
    pixels = np.pad(pixels, missing, mode="edge")
    return np.ascontiguousarray(pixels[:, ::-1] if rng.integers(2) else pixels)
