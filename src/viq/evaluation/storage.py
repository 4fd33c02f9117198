"""What pictures take on disk: raw, as codes, without loss, and in lossy formats.

The paper prints one row, 1920 x 1280: 7.37 MB raw, 0.077 MB as codes, 96 times less, with no codec
of today beside it and no figure of quality. Here codes are measured as they are stored, and JPEG,
WebP, AVIF and JPEG-XL both in as many bytes and at the PSNR that the model reaches.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from PIL import Image

from viq.errors import InputError
from viq.evaluation.coding import encode, scaled, to_record
from viq.evaluation.pictures import Pictures, choice
from viq.evaluation.reconstruction.measures import plain_closeness
from viq.evaluation.samples import Samples
from viq.evaluation.subjects import Model
from viq.metrics.codecs import CODECS, Codec, Compressed, at_bytes, at_quality
from viq.metrics.quality import psnr

PAPER_SIZE = (1920, 1280)
PAPER = "1920 × 1280, as in the paper"
CELL = 320  # pixels on the side of a cell of the mosaic
CELLS = PAPER_SIZE[0] // CELL * (PAPER_SIZE[1] // CELL)
PART, PAPER_PART = "pictures", "paper"
LANCZOS = Image.Resampling.LANCZOS


@dataclass(frozen=True, kw_only=True)
class Storage:
    """What is asked: which pictures, whose codes, and beside which of ``CODECS``.

    Larger pictures than ``max_pixels`` are scaled down, and what is then there is the original: raw
    and in all formats. The picture of the paper's size is always of that size.
    """

    pictures: Pictures
    names: Sequence[str]
    model: Model
    codecs: Sequence[str]
    max_pixels: int

    def asked(self) -> dict[str, Any]:
        """All that decides the samples, for ``Samples.open``."""
        return {
            "evaluation": "storage",
            "data": dict(self.pictures.identity()),
            "pictures": len(self.names),
            "model": dict(self.model.identity()),
            "codecs": list(self.codecs),
            "max_pixels": self.max_pixels,
        }

    def run(self, samples: Samples) -> Iterator[tuple[str, list[InputError]]]:
        """Does what is not done yet, picture by picture: each one's name, and what went wrong."""
        for name in self.names:
            errors: list[InputError] = []
            if name not in samples.of(PART):
                try:
                    image = scaled(self.pictures.read(name).image, self.max_pixels)
                    samples.add(PART, {name: self._measured(image, name)})
                except InputError as error:
                    errors = [error]
            yield name, errors

    def run_large(self, samples: Samples, update: Callable[[], object] = lambda: None) -> None:
        """Does the picture of the paper's size, where it is not done yet.

        That takes a minute or more; ``update`` is called after each codec.
        """
        if PAPER not in samples.of(PAPER_PART):
            image, squares = self.large(self.done(samples))
            record = {**self._measured(image, PAPER, update), "squares": squares}
            samples.add(PAPER_PART, {PAPER: record})

    def done(self, samples: Samples) -> list[str]:
        """The pictures that there are."""
        return [name for name in self.names if name in samples.of(PART)]

    def large(self, names: Sequence[str]) -> tuple[Image.Image, int]:
        """A picture of the paper's size, and of how many different squares it is a mosaic.

        It is the middle of the first picture that is so large (0 squares), or squares of pictures,
        one of each in turn. Where there are too few they come again.
        """
        for name in names:
            image = self.pictures.read(name).image
            if image.width >= PAPER_SIZE[0] and image.height >= PAPER_SIZE[1]:
                return _middle(image, PAPER_SIZE), 0
        columns, rows = (side // CELL for side in PAPER_SIZE)
        some = choice(names, columns * rows)
        found = [_squares(self.pictures.read(name).image) for name in some]
        turns = [square for turn in zip_longest(*found) for square in turn if square is not None]
        squares = turns[: columns * rows]
        whole = Image.new("RGB", PAPER_SIZE)
        for place in range(columns * rows):
            row, column = divmod(place, columns)
            whole.paste(squares[place % len(squares)], (column * CELL, row * CELL))
        return whole, len(squares)

    def _measured(
        self, image: Image.Image, name: str, update: Callable[[], object] = lambda: None
    ) -> dict[str, Any]:
        """All that is measured of one picture."""
        codes = encode(self.model.tokenizer, image, name)
        own = plain_closeness(image, self.model.tokenizer.decode(codes))
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        record: dict[str, Any] = {
            "size": [image.height, image.width],
            **to_record(codes),
            "viq": len(codes.to_bytes()),
            "png": file.tell(),
            **own,
        }
        for key in self.codecs:
            found = at_bytes(image, CODECS[key], codes.nbytes)
            if found is not None:
                record[key] = {"bytes": found.num_bytes, **plain_closeness(image, found.image)}
            if own["psnr"] is not None:
                record[f"{key} at psnr"] = bytes_at_psnr(image, CODECS[key], own["psnr"])
            update()
        return record


def bytes_at_psnr(image: Image.Image, codec: Codec, target: float) -> int | None:
    """The fewest bytes in which a codec comes as close to an image; None if it never does.

    Of the image's own size, then 1/2, 1/3 ... of its sides the lowest quality is found that does;
    smaller sizes are tried for as long as they make the file smaller.
    """
    original, best = np.asarray(image), None
    for reduction in range(1, max(image.size) + 1):
        width, height = (max(1, round(side / reduction)) for side in image.size)
        small = image if reduction == 1 else image.resize((width, height), LANCZOS)

        def found(quality: int, small: Image.Image = small) -> tuple[Compressed, float]:
            one = at_quality(small, codec, quality)
            shown = one.image.resize(image.size, LANCZOS)
            return one, psnr(original, np.asarray(shown))

        best_here, closeness = found(codec.qualities[-1])
        if closeness < target:
            return best
        low, high = 0, len(codec.qualities) - 1  # places; the one at high is close enough
        while low < high:
            middle = (low + high) // 2
            one, closeness = found(codec.qualities[middle])
            if closeness < target:
                low = middle + 1
            else:
                high, best_here = middle, one
        if best is not None and best_here.num_bytes >= best:
            return best
        best = best_here.num_bytes
    return best


def _squares(image: Image.Image) -> list[Image.Image]:
    """The cells that a picture holds side by side, at least one."""
    columns, rows = (side // CELL for side in image.size)
    if not (columns and rows):
        return [_middle(image, (CELL, CELL))]
    places = [(CELL * column, CELL * row) for row in range(rows) for column in range(columns)]
    return [image.crop((x, y, x + CELL, y + CELL)) for x, y in places]


def _middle(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """So much from the middle of a picture, which is enlarged first if it is smaller."""
    scale = max(to / side for to, side in zip(size, image.size, strict=True))
    if scale > 1:
        width, height = (
            max(to, round(side * scale)) for to, side in zip(size, image.size, strict=True)
        )
        image = image.resize((width, height), LANCZOS)
    left, top = ((side - to) // 2 for to, side in zip(size, image.size, strict=True))
    return image.crop((left, top, left + size[0], top + size[1]))
