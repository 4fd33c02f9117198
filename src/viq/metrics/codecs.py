"""What JPEG and WebP make of an image in a given number of bytes, to compare codes with."""

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from viq.metrics.quality import psnr

JPEG_SIDE, WEBP_SIDE = 65_535, 16_383  # pixels; longer sides these formats cannot have


class Compressed(NamedTuple):
    """An image that went through a lossy format."""

    image: Image.Image  # as large as the original
    num_bytes: int
    quality: int  # of the encoder, 100 at best
    reduction: int  # sides were divided by this before encoding, and enlarged again after


def jpeg_at(image: Image.Image, max_bytes: int) -> Compressed | None:
    """The best JPEG in at most ``max_bytes``, whole file and all; None when nothing is so small.

    At every size, the image's own, then 1/2, 1/3 ... of its sides, the highest quality that fits
    is found; the size that comes closest to the image, by PSNR, is taken. With few bytes a good
    small picture is often closer than a bad large one. Optimized Huffman tables, and Pillow's own
    chroma subsampling. Headers alone take some 300 bytes.
    """
    return _best(image, max_bytes, range(1, 96), JPEG_SIDE, format="JPEG", optimize=True)


def webp_at(image: Image.Image, max_bytes: int) -> Compressed | None:
    """The best lossy WebP in at most ``max_bytes``, found as ``jpeg_at`` does."""
    return _best(image, max_bytes, range(101), WEBP_SIDE, format="WEBP", method=6)


def _best(
    image: Image.Image, max_bytes: int, qualities: range, max_side: int, **options: Any
) -> Compressed | None:
    original = np.asarray(image)
    best, best_psnr = None, -math.inf
    for reduction in range(math.ceil(max(image.size) / max_side), max(image.size) + 1):
        small = _reduced(image, reduction)

        def encode(quality: int, small: Image.Image = small) -> bytes:
            buffer = io.BytesIO()
            small.save(buffer, quality=quality, **options)
            return buffer.getvalue()

        if len(encode(qualities[0])) > max_bytes:
            continue
        quality, data = _highest(encode, max_bytes, qualities)
        with Image.open(io.BytesIO(data)) as file:
            decoded = file.convert("RGB")
        if reduction > 1:
            decoded = decoded.resize(image.size, Image.Resampling.LANCZOS)
        closeness = psnr(original, np.asarray(decoded))
        if closeness <= best_psnr:
            break  # and smaller ones would only be worse
        best, best_psnr = Compressed(decoded, len(data), quality, reduction), closeness
    return best


def _highest(encode: Callable[[int], bytes], max_bytes: int, qualities: range) -> tuple[int, bytes]:
    """By bisection, the highest quality that fits, where the lowest does; and its bytes."""
    fits, too_large = 0, len(qualities)
    data = encode(qualities[0])
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        if len(candidate := encode(qualities[middle])) <= max_bytes:
            fits, data = middle, candidate
        else:
            too_large = middle
    return qualities[fits], data


def _reduced(image: Image.Image, reduction: int) -> Image.Image:
    if reduction == 1:
        return image
    width, height = (max(1, round(side / reduction)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
