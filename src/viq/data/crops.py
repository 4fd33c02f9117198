"""Batches of equal crops, whose size changes from batch to batch; and crops to evaluate on.

Axes: B crops, H and W their pixels.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from viq.data.images import as_picture
from viq.data.sample import Sample, Source
from viq.errors import InputError, ViQError
from viq.image import load_image

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How pictures are cut.

    Attributes:
        sizes: pixels (H, W), one drawn for each crop; one that is listed twice is drawn twice as
            often.
        pixels: a batch holds as many crops as fit.
        min_scale: pictures are scaled down at random, to this at the least.
        max_scale: pictures that do not fill the crop are scaled up, to this at the most.
    """

    sizes: tuple[tuple[int, int], ...] = ((128, 128),)
    pixels: int = 2**19
    min_scale: float = 0.7
    max_scale: float = 2.0

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ValueError("sizes is empty; list at least one (H, W).")
        for height, width in self.sizes:
            if not 0 < height * width <= self.pixels:
                raise ValueError(
                    f"sizes has {height} x {width}, {height * width} pixels; a batch must hold one"
                    f" such crop, but pixels is {self.pixels}."
                )


@dataclass(frozen=True, kw_only=True)
class CropBatch:
    """Crops of one size."""

    images: Tensor  # (B, 3, H, W) uint8
    samples: tuple[str, ...]  # ids

    def to(self, device: torch.device | str) -> Self:
        """The batch with its images on ``device``."""
        return replace(self, images=self.images.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True)
class CropItem:
    """One crop."""

    sample: str
    draw: int
    pixels: NDArray[np.uint8]  # (H, W, 3)


class Crops:
    """Assembles batches: a crop's size and place are functions of (seed, draw) alone."""

    def __init__(self, config: CropConfig, *, seed: int = 0) -> None:
        self.config = config
        self.seed = seed
        self._open: dict[tuple[int, ...], list[CropItem]] = {}

    def prepare(self, sample: Sample, draw: int) -> CropItem:
        """Cuts one crop out of one of the sample's images.

        Raises:
            InputError: there is no image, or it cannot be read.
        """
        if not sample.images:
            raise InputError("has no image", sample.id)
        rng = np.random.default_rng([self.seed, draw])
        size = self.config.sizes[rng.integers(len(self.config.sizes))]
        image = sample.images[rng.integers(len(sample.images))]
        picture = load_image(as_picture(image, sample.id), name=sample.id)
        return CropItem(sample=sample.id, draw=draw, pixels=_crop(picture, size, self.config, rng))

    def add(self, item: CropItem) -> CropBatch | None:
        """Collects a crop; returns a batch once all are there that fit."""
        size = item.pixels.shape[:2]
        items = self._open.setdefault(size, [])
        items.append(item)
        if len(items) < self.config.pixels // (size[0] * size[1]):
            return None
        del self._open[size]
        return CropBatch(
            images=stacked([item.pixels for item in items]),
            samples=tuple(item.sample for item in items),
        )

    def open(self) -> list[list[int]]:
        """Draw numbers of the crops of each size that wait for more."""
        return [[item.draw for item in items] for items in self._open.values()]

    def restore(self, items: list[list[CropItem]]) -> None:
        """Puts crops back as ``open`` had told them."""
        self._open = {group[0].pixels.shape[:2]: list(group) for group in items}


def centre_crops(source: Source, side: int, limit: int) -> Tensor:
    """The middle squares (B, 3, side, side), uint8, of the first pictures that are large enough.

    Pictures that cannot be read are reported and left out.

    Raises:
        InputError: there is none.
    """
    crops: list[NDArray[np.uint8]] = []
    for index in range(len(source)):
        if len(crops) == limit:
            break
        try:
            sample = source[index]
            pictures = [load_image(as_picture(i, sample.id), name=sample.id) for i in sample.images]
        except ViQError as error:
            log.warning("left out of the evaluation: %s", error)
            continue
        for picture in pictures[: limit - len(crops)]:
            if min(picture.size) >= side:
                left, top = (picture.width - side) // 2, (picture.height - side) // 2
                crops.append(np.asarray(picture.crop((left, top, left + side, top + side))))
    if not crops:
        raise InputError(f"no picture of at least {side} x {side} pixels", source.name)
    return stacked(crops)


def stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Images (H, W, 3) of one size as one tensor (B, 3, H, W)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _crop(
    picture: Image.Image, size: tuple[int, int], config: CropConfig, rng: np.random.Generator
) -> NDArray[np.uint8]:
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
