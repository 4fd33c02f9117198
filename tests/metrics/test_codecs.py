"""JPEG and WebP within a number of bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from viq.metrics.codecs import JPEG_SIDE, WEBP_SIDE, Compressed, jpeg_at, webp_at
from viq.metrics.quality import psnr


def picture(width, height, noise=20):
    """A smooth picture with noise."""
    rng = np.random.default_rng(width * 1000 + height)
    y, x = np.mgrid[:height, :width]
    values = np.stack([128 + 90 * np.sin(x / 9), y * 255 / height, (x + y) % 256], axis=-1)
    values += rng.normal(0, noise, values.shape)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def encode_at(image, codec, quality, reduction):
    if reduction > 1:
        size = tuple(round(side / reduction) for side in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    options = {"optimize": True} if codec is jpeg_at else {"method": 6}
    image.save(buffer, "JPEG" if codec is jpeg_at else "WEBP", quality=quality, **options)
    return buffer.getvalue()


def size_at(image, codec, quality, reduction=1):
    return len(encode_at(image, codec, quality, reduction))


def image_at(image, codec, quality, reduction):
    decoded = Image.open(io.BytesIO(encode_at(image, codec, quality, reduction)))
    return decoded.convert("RGB").resize(image.size, Image.Resampling.LANCZOS)


@pytest.mark.parametrize("codec", [jpeg_at, webp_at])
@pytest.mark.parametrize("max_bytes", [1_000, 5_000, 10_000])
def test_the_next_quality_would_not_fit(codec, max_bytes):
    image = picture(200, 150)
    found = codec(image, max_bytes)
    assert found.num_bytes == size_at(image, codec, found.quality, found.reduction) <= max_bytes
    assert size_at(image, codec, found.quality + 1, found.reduction) > max_bytes


@pytest.mark.parametrize("codec", [jpeg_at, webp_at])
@pytest.mark.parametrize("max_bytes", [400, 1_000, 3_000])
def test_no_other_size_would_be_closer(codec, max_bytes):
    image = picture(160, 128)
    found = codec(image, max_bytes)
    best = psnr(np.asarray(image), np.asarray(found.image))
    others = 0
    for reduction in (1, 2, 3, 4, 6):
        for quality in range(1, 96, 3):
            if size_at(image, codec, quality, reduction) <= max_bytes:
                image_then = image_at(image, codec, quality, reduction)
                assert psnr(np.asarray(image), np.asarray(image_then)) < best + 0.1
                others += 1
    assert others


@pytest.mark.parametrize("codec", [jpeg_at, webp_at])
def test_more_bytes_are_more_quality(codec):
    image = picture(200, 150)
    found = [codec(image, max_bytes) for max_bytes in (1_000, 3_000, 10_000)]
    values = [psnr(np.asarray(image), np.asarray(one.image)) for one in found]
    assert values == sorted(values)
    assert {one.image.size for one in found} == {image.size}
    assert {one.image.mode for one in found} == {"RGB"}


@pytest.mark.parametrize(("codec", "best"), [(jpeg_at, 95), (webp_at, 100)])
def test_with_bytes_to_spare_the_quality_is_the_best(codec, best):
    found = codec(picture(50, 40), 10**9)
    assert (found.quality, found.reduction) == (best, 1)


@pytest.mark.parametrize("codec", [jpeg_at, webp_at])
def test_where_the_lowest_quality_is_too_large_the_size_is_reduced(codec):
    image = picture(301, 200, noise=60)
    max_bytes = 500
    assert size_at(image, codec, 1 if codec is jpeg_at else 0) > max_bytes
    found = codec(image, max_bytes)
    assert found.num_bytes <= max_bytes
    assert found.reduction > 1
    assert found.image.size == image.size


@pytest.mark.parametrize("codec", [jpeg_at, webp_at])
def test_when_nothing_fits_there_is_nothing(codec):
    assert codec(picture(40, 30), 20) is None


@pytest.mark.parametrize(("codec", "side"), [(jpeg_at, JPEG_SIDE), (webp_at, WEBP_SIDE)])
def test_sides_too_long_for_the_format_are_reduced(codec, side):
    found = codec(Image.new("RGB", (side + 1, 1)), 10**6)
    assert isinstance(found, Compressed)
    assert (found.reduction, found.image.size) == (2, (side + 1, 1))
