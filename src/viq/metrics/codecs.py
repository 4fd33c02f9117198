"""What image codecs make of an image in a given number of bytes, to compare codes with.

JPEG, WebP and AVIF are Pillow's own; JPEG-XL needs the package pillow-jxl-plugin. Files are encoded
on one thread, so that they come out the same everywhere, and hold neither metadata nor a profile.
"""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from viq.errors import InputError
from viq.metrics.quality import psnr


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A lossy image format and how it is used here."""

    name: str
    format: str  # Pillow's name
    qualities: range  # from the worst
    max_side: int  # pixels; longer sides it cannot have
    options: Mapping[str, Any]


CODECS = {
    "jpeg": Codec(
        name="JPEG",
        format="JPEG",
        qualities=range(1, 96),
        max_side=65_535,
        options={"optimize": True},  # Huffman tables; chroma subsampling is Pillow's own
    ),
    "webp": Codec(
        name="WebP",
        format="WEBP",
        qualities=range(101),
        max_side=16_383,
        options={"method": 6},
    ),
    # Of AV1's speeds, 10 the fastest, this is the slowest with which a search in an image of 0.3
    # megapixels takes some 2 s of a core; 8 takes 0.8 s, and the image is 0.4 dB further off.
    "avif": Codec(
        name="AVIF",
        format="AVIF",
        qualities=range(101),
        max_side=65_535,
        options={"speed": 6, "max_threads": 1},
    ),
    # Quality 100 would be without loss. Where the image came from a JPEG, its file is not packed.
    "jpeg-xl": Codec(
        name="JPEG-XL",
        format="JXL",
        qualities=range(100),
        max_side=1 << 30,
        options={"effort": 7, "num_threads": 1, "lossless_jpeg": False},
    ),
}
_JXL_PLUGIN = "pillow_jxl"


class Compressed(NamedTuple):
    """An image that went through a lossy format."""

    image: Image.Image  # as large as the original
    num_bytes: int
    quality: int  # of the encoder, 100 at best
    reduction: int  # sides were divided by this before encoding, and enlarged again after


def why_not(codec: Codec) -> str | None:
    """What is missing to use a codec here, and what to do; None where nothing is."""
    if codec.format == "JXL" and find_spec(_JXL_PLUGIN) is None:
        return "it needs a package: pip install pillow-jxl-plugin"
    if codec.format in ("AVIF", "WEBP") and not features.check(codec.format.lower()):
        return f"this Pillow was built without it; pip install a Pillow that has {codec.name}"
    return None


def at_bytes(image: Image.Image, codec: Codec, max_bytes: int) -> Compressed | None:
    """The best of an RGB image in at most ``max_bytes``, whole file; None when nothing is so small.

    At every size, the image's own, then 1/2, 1/3 ... of its sides, the highest quality that fits
    is found; the size that comes closest to the image, by PSNR, is taken. With few bytes a good
    small picture is often closer than a bad large one. Headers alone take 300 bytes and more in
    JPEG and AVIF.

    Raises:
        InputError: the codec cannot be used here.
    """
    _require(codec)
    original = np.asarray(image)
    best, best_psnr = None, -math.inf
    for reduction in range(_least_reduction(image, codec), max(image.size) + 1):
        small = _reduced(image, reduction)

        def encode(quality: int, small: Image.Image = small) -> bytes:
            return _encode(small, codec, quality)

        if len(encode(codec.qualities[0])) > max_bytes:
            continue
        quality, data = _highest(encode, max_bytes, codec.qualities)
        decoded = _decode(data, image.size)
        closeness = psnr(original, np.asarray(decoded))
        if closeness <= best_psnr:
            break  # and smaller ones would only be worse
        best, best_psnr = Compressed(decoded, len(data), quality, reduction), closeness
    return best


def at_quality(image: Image.Image, codec: Codec, quality: int) -> Compressed:
    """An RGB image at one of the codec's qualities, in its own size if the format can have that.

    Raises:
        ValueError: the codec has no such quality.
        InputError: the codec cannot be used here.
    """
    if quality not in codec.qualities:
        first, last = codec.qualities[0], codec.qualities[-1]
        raise ValueError(f"quality {quality}; {codec.name} has {first} to {last}.")
    _require(codec)
    reduction = _least_reduction(image, codec)
    data = _encode(_reduced(image, reduction), codec, quality)
    return Compressed(_decode(data, image.size), len(data), quality, reduction)


def _require(codec: Codec) -> None:
    if (reason := why_not(codec)) is not None:
        raise InputError(reason, codec.name)
    if codec.format == "JXL":
        import_module(_JXL_PLUGIN)  # which adds it to Pillow


def _encode(image: Image.Image, codec: Codec, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, codec.format, quality=quality, **codec.options)
    return buffer.getvalue()


def _decode(data: bytes, size: tuple[int, int]) -> Image.Image:
    with Image.open(io.BytesIO(data)) as file:
        decoded = file.convert("RGB")
    return decoded if decoded.size == size else decoded.resize(size, Image.Resampling.LANCZOS)


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


def _least_reduction(image: Image.Image, codec: Codec) -> int:
    return math.ceil(max(image.size) / codec.max_side)


def _reduced(image: Image.Image, reduction: int) -> Image.Image:
    """With the sides divided, and with nothing but its pixels."""
    if reduction > 1:
        size = (max(1, round(image.width / reduction)), max(1, round(image.height / reduction)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return Image.fromarray(np.asarray(image))
