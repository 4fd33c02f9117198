"""Images with captions, for the contrast of the two: one size, aspect ignored.

Axes: B pairs, S the images' side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from viq.chat import Message
from viq.data.crops import stacked
from viq.data.images import as_picture
from viq.data.sample import Sample, usable
from viq.errors import InputError
from viq.image import load_image


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """How pairs are made.

    Attributes:
        side: pixels to which an image's sides are squashed, as a fixed-resolution model sees it.
        batch: pairs of a batch.
        min_crop: each side is cut at random, to this share of it at the least; 1 cuts nothing.
        flip: mirrors half of the images; off, because text cannot be read then.
    """

    side: int
    batch: int
    min_crop: float = 0.8
    flip: bool = False

    def __post_init__(self) -> None:
        for name in ("side", "batch"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a positive integer.")
        if not 0 < self.min_crop <= 1:
            raise ValueError(f"min_crop is {self.min_crop}; it must be above 0 and at most 1.")


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Images and what is said of them."""

    images: Tensor  # (B, 3, S, S) uint8
    captions: tuple[str, ...]
    samples: tuple[str, ...]  # ids

    def to(self, device: torch.device | str) -> Self:
        """The batch with its images on ``device``."""
        return replace(self, images=self.images.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True)
class PairItem:
    """One pair."""

    sample: str
    draw: int
    pixels: NDArray[np.uint8]  # (S, S, 3)
    caption: str


class Pairs:
    """Assembles batches of a fixed number of pairs; what is cut is a function of (seed, draw)."""

    def __init__(self, config: PairConfig, *, seed: int = 0) -> None:
        self.config = config
        self.seed = seed
        self._open: list[PairItem] = []

    def prepare(self, sample: Sample, draw: int) -> PairItem:
        """Cuts and squashes the sample's image; its caption is the last answer.

        Raises:
            InputError: it has another number of images than one, no answer, or cannot be read.
        """
        config = self.config
        rng = np.random.default_rng([self.seed, draw])
        shares, places = rng.uniform(config.min_crop, 1.0, 2), rng.uniform(0.0, 1.0, 2)
        picture, text = _image(sample), caption(sample)
        width, height = (side * share for side, share in zip(picture.size, shares, strict=True))
        left, top = (picture.width - width) * places[0], (picture.height - height) * places[1]
        pixels = squashed(picture, config.side, (left, top, left + width, top + height))
        if config.flip and rng.integers(2):
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        return PairItem(sample=sample.id, draw=draw, pixels=pixels, caption=text)

    def add(self, item: PairItem) -> PairBatch | None:
        """Collects a pair; returns a batch once all are there."""
        self._open.append(item)
        if len(self._open) < self.config.batch:
            return None
        batch = _batch(self._open)
        self._open = []
        return batch

    def open(self) -> list[list[int]]:
        """Draw numbers of the pairs that wait for more."""
        return [[item.draw for item in self._open]]

    def restore(self, items: list[list[PairItem]]) -> None:
        """Puts pairs back as ``open`` had told them."""
        self._open = [item for group in items for item in group]


def whole_pairs(samples: Sequence[Sample], side: int) -> PairBatch:
    """All of these samples in one batch, nothing cut: for evaluation.

    Those that cannot be used are reported and left out.

    Raises:
        InputError: none can be used.
    """

    def prepare(sample: Sample, draw: int) -> PairItem:
        picture = _image(sample)
        pixels = squashed(picture, side, (0, 0, *picture.size))
        return PairItem(sample=sample.id, draw=draw, pixels=pixels, caption=caption(sample))

    if not (items := usable(prepare, samples)):
        raise InputError("there is no sample to evaluate on; give validation data that can be read")
    return _batch(items)


def squashed(
    picture: Image.Image, side: int, box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """A box (left, top, right, bottom) of an RGB image as (side, side, 3), whatever its shape."""
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=box))


def caption(sample: Sample) -> str:
    """The text of the last answer.

    Raises:
        InputError: there is none.
    """
    answers = [_text(message) for message in sample.messages if message["role"] == "assistant"]
    if not answers or not answers[-1].strip():
        raise InputError("has no answer to serve as a caption", sample.id)
    return answers[-1].strip()


def _text(message: Message) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def _image(sample: Sample) -> Image.Image:
    if len(sample.images) != 1:
        raise InputError(f"has {len(sample.images)} images; a pair has one", sample.id)
    return load_image(as_picture(sample.images[0], sample.id), name=sample.id)


def _batch(items: Sequence[PairItem]) -> PairBatch:
    return PairBatch(
        images=stacked([item.pixels for item in items]),
        captions=tuple(item.caption for item in items),
        samples=tuple(item.sample for item in items),
    )
