"""Image codecs within a number of bytes, and at a quality."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from viq.errors import InputError
from viq.metrics import codecs
from viq.metrics.codecs import CODECS, Compressed, at_bytes, at_quality, why_not
from viq.metrics.quality import psnr

ALL = list(CODECS)


@pytest.fixture(params=ALL)
def codec(request):
    if request.param == "jpeg-xl":
        pytest.importorskip("pillow_jxl")
    return CODECS[request.param]


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
    image.save(buffer, codec.format, quality=quality, **codec.options)
    return buffer.getvalue()


def size_at(image, codec, quality, reduction=1):
    return len(encode_at(image, codec, quality, reduction))


def image_at(image, codec, quality, reduction):
    decoded = Image.open(io.BytesIO(encode_at(image, codec, quality, reduction)))
    return decoded.convert("RGB").resize(image.size, Image.Resampling.LANCZOS)


@pytest.mark.parametrize("max_bytes", [1_000, 4_000])
def test_the_next_quality_would_not_fit(codec, max_bytes):
    image = picture(120, 90)
    found = at_bytes(image, codec, max_bytes)
    assert found.num_bytes == size_at(image, codec, found.quality, found.reduction) <= max_bytes
    if found.quality < codec.qualities[-1]:
        assert size_at(image, codec, found.quality + 1, found.reduction) > max_bytes


@pytest.mark.parametrize("max_bytes", [400, 2_000])
def test_no_other_size_would_be_closer(codec, max_bytes):
    image = picture(160, 128)
    found = at_bytes(image, codec, max_bytes)
    best = psnr(np.asarray(image), np.asarray(found.image))
    slow = codec.format in ("AVIF", "JXL")
    others = 0
    for reduction in (1, 2, 3, 5):
        for quality in range(1, 96, 23 if slow else 5):
            if size_at(image, codec, quality, reduction) <= max_bytes:
                image_then = image_at(image, codec, quality, reduction)
                assert psnr(np.asarray(image), np.asarray(image_then)) < best + 0.1
                others += 1
    assert others


def test_more_bytes_are_more_quality(codec):
    image = picture(120, 90)
    found = [at_bytes(image, codec, max_bytes) for max_bytes in (800, 2_000, 6_000)]
    values = [psnr(np.asarray(image), np.asarray(one.image)) for one in found]
    assert values == sorted(values)
    assert {one.image.size for one in found} == {image.size}
    assert {one.image.mode for one in found} == {"RGB"}


@pytest.mark.parametrize(
    ("name", "best"), [("jpeg", 95), ("webp", 100), ("avif", 100), ("jpeg-xl", 99)]
)
def test_with_bytes_to_spare_the_quality_is_the_best(name, best):
    if name == "jpeg-xl":
        pytest.importorskip("pillow_jxl")
    found = at_bytes(picture(50, 40), CODECS[name], 10**9)
    assert (found.quality, found.reduction) == (best, 1)


def test_where_the_lowest_quality_is_too_large_the_size_is_reduced(codec):
    image = picture(201, 100, noise=60)
    max_bytes = 400
    assert size_at(image, codec, codec.qualities[0]) > max_bytes
    found = at_bytes(image, codec, max_bytes)
    assert found.num_bytes <= max_bytes
    assert found.reduction > 1
    assert found.image.size == image.size


def test_when_nothing_fits_there_is_nothing(codec):
    assert at_bytes(picture(40, 30), codec, 10) is None


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_sides_too_long_for_the_format_are_reduced(name):
    codec = CODECS[name]
    image = Image.new("RGB", (codec.max_side + 1, 1))
    for found in (at_bytes(image, codec, 10**6), at_quality(image, codec, 50)):
        assert isinstance(found, Compressed)
        assert (found.reduction, found.image.size) == (2, image.size)


def test_a_quality_is_what_the_format_gives_for_it(codec):
    image = picture(120, 90)
    low, high = (at_quality(image, codec, quality) for quality in (20, 90))
    assert low.num_bytes == size_at(image, codec, 20) < high.num_bytes
    values = [psnr(np.asarray(image), np.asarray(one.image)) for one in (low, high)]
    assert values[0] < values[1]
    assert (low.quality, low.reduction, low.image.size) == (20, 1, image.size)


def test_qualities_that_a_codec_does_not_have_are_named():
    with pytest.raises(ValueError, match=r"quality 96; JPEG has 1 to 95\."):
        at_quality(picture(8, 8), CODECS["jpeg"], 96)
    with pytest.raises(ValueError, match=r"quality 100; JPEG-XL has 0 to 99\."):
        at_quality(picture(8, 8), CODECS["jpeg-xl"], 100)


def test_two_runs_give_the_same_bytes(codec):
    image = picture(90, 70)
    found = [at_bytes(image, codec, 2_000) for _ in range(2)]
    assert found[0][1:] == found[1][1:]
    assert found[0].image.tobytes() == found[1].image.tobytes()


def test_metadata_and_profiles_cost_nothing(codec, tmp_path):
    plain = picture(60, 40)
    # JPEG-XL would otherwise pack the file of an image that was opened as a JPEG.
    plain.save(tmp_path / "a.jpg", quality=95, icc_profile=b"x" * 5_000)
    with Image.open(tmp_path / "a.jpg") as opened:
        opened.load()
        assert "icc_profile" in opened.info
        bare = Image.fromarray(np.asarray(opened))
        assert at_quality(opened, codec, 50)[1:] == at_quality(bare, codec, 50)[1:]


def test_a_missing_codec_says_what_to_install(monkeypatch):
    monkeypatch.setattr(codecs, "find_spec", lambda name: None)
    assert why_not(CODECS["jpeg"]) is None
    assert why_not(CODECS["jpeg-xl"]) == "it needs a package: pip install pillow-jxl-plugin"
    for use in (lambda *a: at_bytes(*a, 1_000), lambda *a: at_quality(*a, 50)):
        with pytest.raises(
            InputError, match=r"^JPEG-XL: it needs a package: pip install pillow-jx"
        ):
            use(picture(8, 8), CODECS["jpeg-xl"])


def test_a_pillow_without_avif_is_named(monkeypatch):
    monkeypatch.setattr(codecs.features, "check", lambda feature: feature != "avif")
    assert why_not(CODECS["webp"]) is None
    with pytest.raises(InputError, match=r"^AVIF: this Pillow was built without it; pip install a"):
        at_bytes(picture(8, 8), CODECS["avif"], 1_000)


def test_what_is_there_lacks_nothing(codec):
    assert why_not(codec) is None
    assert why_not(replace(codec, name="other")) is None
