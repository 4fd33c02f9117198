"""Every kind of picture that people have, and every file that is none."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from viq.errors import ImageError
from viq.image import load as load_module
from viq.image import load_image
from viq.image.load import readable_formats

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

UPRIGHT = {  # EXIF orientation -> stored array to upright array, as the standard words it
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def random_array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def colours(image: Image.Image) -> list:
    """Returns the pixels of an RGB image in raster order."""
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """Returns a PNG written by hand: ``chunks`` are name and data, ``rows`` the filtered rows."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (header, *chunks, b"IDAT" + zlib.compress(rows), b"IEND")
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def cmyk_profile() -> bytes:
    """Returns an ICC profile in which black ink alone is dark and the other inks are invisible."""
    clut = b"".join(bytes([0 if black else 255, 128, 128]) for black in [0, 1] * 8)  # Lab
    identity = struct.pack(">9i", *[65536 if i % 4 == 0 else 0 for i in range(9)])
    ramp = bytes(range(256))
    table = b"mft1" + bytes([0, 0, 0, 0, 4, 3, 2, 0]) + identity + ramp * 4 + clut + ramp * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    start = 128 + 4 + 2 * 12
    tags = struct.pack(">I4sII", 2, b"wtpt", start, len(white))
    tags += struct.pack(">4sII", b"A2B0", start + len(white), len(table))
    body = tags + white + table
    header = struct.pack(">I4xI4s4s4s12x4s", 128 + len(body), 0x02400000, b"prtr", b"CMYK", b"Lab ",
                         b"acsp")  # fmt: skip
    return header.ljust(68, b"\0") + white[8:] + bytes(48) + body


@pytest.fixture
def write(tmp_path):
    """Saves an image or bytes in a file and returns its path."""

    def write(image, name: str, **options) -> Path:
        path = tmp_path / name
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path, **options)
        return path

    return write


# Where pictures come from.


def test_an_rgb_file_comes_back_as_it_is(write):
    array = random_array(5, 7, 3)
    path = write(Image.fromarray(array), "a.png")
    for source in (path, str(path), os.fsencode(path).decode()):
        image = load_image(source)
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), array)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.bmp", {}),
        ("a.gif", {}),
        ("a.ico", {"sizes": [(16, 16)]}),
        ("a.jp2", {}),
        ("a.jpg", {"quality": 100}),
        ("a.pcx", {}),
        ("a.ppm", {}),
        ("a.qoi", {}),
        ("a.sgi", {}),
        ("a.tga", {}),
        ("a.tif", {}),
        ("a.webp", {"lossless": True}),
        ("a.avif", {"quality": 100}),
    ],
)
def test_every_format_is_read(write, name, options):
    Image.init()
    if Image.EXTENSION.get(Path(name).suffix) not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {Path(name).suffix}")
    path = write(Image.new("RGB", (16, 16), (200, 40, 90)), name, **options)
    pixels = np.asarray(load_image(path)).astype(int)
    assert pixels.shape == (16, 16, 3)
    assert abs(pixels - (200, 40, 90)).max() <= 6


def test_arrays_are_read():
    array = random_array(4, 6, 4)
    grey = np.repeat(array[:, :, :1], 3, axis=2)
    assert np.array_equal(np.asarray(load_image(array[:, :, 0])), grey)
    assert np.array_equal(np.asarray(load_image(array[:, :, :1])), grey)
    assert np.array_equal(np.asarray(load_image(array[:, :, :3])), array[:, :, :3])
    assert np.array_equal(np.asarray(load_image(array[::-1, ::2, :3])), array[::-1, ::2, :3])


def test_an_arrays_fourth_channel_is_alpha():
    array = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    assert colours(load_image(array)) == [RED, WHITE, (127, 127, 127)]


def test_a_callers_array_and_image_stay_independent():
    array = random_array(3, 3, 3)
    given = Image.fromarray(array)
    loaded = load_image(given)
    loaded.putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(np.asarray(given), array)
    loaded = load_image(array)
    before = array.copy()
    loaded.putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(array, before)


def test_a_callers_image_is_neither_changed_nor_closed(write):
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("RGB", (4, 2), c) for c in (RED, GREEN)]
    path = write(frames[0], "a.png", save_all=True, append_images=frames[1:], exif=exif)
    with Image.open(path) as image:
        image.seek(1)
        info, mode = dict(image.info), image.mode
        assert colours(load_image(image))[0] == GREEN  # the frame that the caller chose
        assert (image.info, image.mode, image.size, image.tell()) == (info, mode, (4, 2), 1)
        assert image.getexif()[0x0112] == 6
        image.seek(0)
        assert colours(load_image(image))[0] == RED


def test_a_files_metadata_do_not_come_along(write):
    exif = Image.Exif()
    exif[0x0112] = 3
    path = write(Image.new("RGB", (4, 2)), "a.jpg", exif=exif, dpi=(72, 72), comment=b"hi")
    image = load_image(path)
    assert image.info == {}
    assert not image.getexif()


def test_files_are_closed(write):
    good = write(Image.new("RGB", (4, 4)), "a.png")
    bad = write(good.read_bytes()[:-30], "b.png")
    animated = write(Image.new("P", (4, 4)), "c.gif")
    before = len(os.listdir("/dev/fd"))
    load_image(good)
    load_image(animated)
    with pytest.raises(ImageError):
        load_image(bad)
    assert len(os.listdir("/dev/fd")) == before


# What a viewer does.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_exif_rotation_is_applied_once(write, name, orientation):
    stored = random_array(5, 8, 3, seed=orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name == "a.webp" else {}
    path = write(Image.fromarray(stored), name, exif=exif, **options)
    assert np.array_equal(np.asarray(load_image(path)), UPRIGHT[orientation](stored))


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\0"])
def test_damaged_exif_data_turn_nothing(write, exif):
    stored = random_array(5, 8, 3)
    path = write(Image.fromarray(stored), "a.png", exif=exif)
    assert np.array_equal(np.asarray(load_image(path)), stored)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_alpha_is_put_on_white(mode):
    base = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((255, 128, 0)):
        base.putpixel((x, 0), (0, 0, 0, alpha))
    if mode == "PA":
        image = Image.new("P", (3, 1))
        image.putpalette([0, 0, 0])
        image.putalpha(base.getchannel("A"))
    else:
        image = base.convert("LA").convert(mode) if mode[0] == "L" else base.convert(mode)
    assert image.mode == mode
    assert colours(load_image(image)) == [(0, 0, 0), (127, 127, 127), WHITE]


def test_transparent_colours_become_white(write):
    palette = Image.new("P", (3, 1))
    palette.putpalette([*RED, *GREEN, *BLUE])
    palette.putdata([0, 1, 2])
    one = write(palette, "one.png", transparency=1)
    assert colours(load_image(one)) == [RED, WHITE, BLUE]
    each = write(palette, "each.png", transparency=bytes([255, 255, 0]))
    assert colours(load_image(each)) == [RED, GREEN, WHITE]
    gif = write(palette, "one.gif", transparency=0)
    assert colours(load_image(gif)) == [WHITE, GREEN, BLUE]
    grey = Image.new("L", (2, 1), 7)
    grey.putpixel((1, 0), 9)
    assert colours(load_image(write(grey, "l.png", transparency=9))) == [(7, 7, 7), WHITE]
    rgb = Image.new("RGB", (2, 1), RED)
    rgb.putpixel((1, 0), GREEN)
    assert colours(load_image(write(rgb, "rgb.png", transparency=RED))) == [WHITE, GREEN]
    bits = Image.new("1", (2, 1), 0)
    bits.putpixel((1, 0), 1)
    assert colours(load_image(write(bits, "1.png", transparency=0))) == [WHITE, WHITE]


def test_bits_grey_and_palettes_become_rgb():
    bits = Image.new("1", (2, 1))
    bits.putpixel((1, 0), 1)
    assert colours(load_image(bits)) == [(0, 0, 0), WHITE]
    assert colours(load_image(Image.new("L", (1, 1), 77))) == [(77, 77, 77)]
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([*RED, 10, 20, 30])
    assert colours(load_image(palette)) == [(10, 20, 30)]


WIDE = np.array([[0, 128, 129, 257, 32767, 65406, 65407, 65535]], np.uint16)
NARROW = [round(int(v) / 257) for v in WIDE[0]]  # 257 is odd, so there are no ties


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_files_are_scaled(write, name):
    path = write(Image.fromarray(WIDE), name)
    assert NARROW == [0, 0, 1, 1, 127, 254, 255, 255]
    assert colours(load_image(path)) == [(v, v, v) for v in NARROW]


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16L", "I;16B"])
def test_16_bit_grey_images_are_scaled(mode):
    if mode == "I":
        image = Image.fromarray(WIDE.astype(np.int32))
    else:
        order = ">u2" if mode == "I;16B" else "<u2"
        image = Image.frombytes(mode, (8, 1), WIDE.astype(order).tobytes())
    assert image.mode == mode
    assert colours(load_image(image)) == [(v, v, v) for v in NARROW]


def test_a_transparent_16_bit_grey_becomes_white(write):
    rows = b"\0" + struct.pack(">3H", 1000, 1001, 65535)
    data = png(3, 1, 16, 0, rows, b"tRNS" + struct.pack(">H", 1000))
    assert colours(load_image(write(data, "a.png"))) == [WHITE, (4, 4, 4), WHITE]


def test_16_bit_colours_keep_their_high_bytes(write):
    rows = b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0)
    path = write(png(2, 1, 16, 2, rows), "a.png")
    assert colours(load_image(path)) == [(0x12, 0x56, 0x9A), RED]


def test_a_transparent_16_bit_colour_becomes_white(write):
    rows = b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0)
    data = png(2, 1, 16, 2, rows, b"tRNS" + struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))
    assert colours(load_image(write(data, "a.png"))) == [WHITE, RED]


def test_cmyk_without_a_profile_is_converted_plainly():
    image = Image.new("CMYK", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    assert colours(load_image(image)) == [(0, 255, 255), (0, 0, 0)]


@pytest.mark.skipif(not features.check("littlecms2"), reason="this Pillow has no LittleCMS")
def test_cmyk_is_converted_by_its_profile(write):
    image = Image.new("CMYK", (16, 8), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (8, 0, 16, 8))
    path = write(image, "a.jpg", icc_profile=cmyk_profile(), quality=100)
    pixels = np.asarray(load_image(path))
    assert pixels[:, :8].min() > 250  # cyan ink is invisible in this profile
    assert pixels[:, 8:].max() < 5


def test_a_profile_that_does_not_work_counts_as_none(write):
    plain = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    profiles = [b"nonsense", b"", cmyk_profile()[:200]]
    if features.check("littlecms2"):
        from PIL import ImageCms

        profiles.append(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for profile in profiles:
        path = write(plain, "a.tif", icc_profile=profile)
        assert set(colours(load_image(path))) == {(0, 255, 255)}


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV"])
def test_other_colour_spaces_become_rgb(mode):
    if mode == "LAB" and not features.check("littlecms2"):
        pytest.skip("this Pillow has no LittleCMS")
    values = {"YCbCr": (76, 85, 255), "LAB": (138, 209, 198), "HSV": (0, 255, 255)}[mode]
    pixels = np.asarray(load_image(Image.new(mode, (2, 2), values))).astype(int)
    assert abs(pixels - RED).max() <= 6


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_frame_of_an_animation_counts(write, name):
    frames = [Image.new("RGB", (4, 4), c) for c in (RED, GREEN, BLUE)]
    options = {"lossless": True} if name == "a.webp" else {}
    path = write(frames[0], name, save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as image:
        assert image.n_frames == 3
    assert set(colours(load_image(path))) == {RED}


# What is refused.


def refusal(source, **options) -> str:
    """Returns the message with which a source is refused."""
    with pytest.raises(ImageError) as caught:
        load_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_a_missing_file_is_refused(tmp_path):
    assert refusal(tmp_path / "none.png") == f"{tmp_path / 'none.png'}: no such file"


def test_a_name_stands_for_the_path(tmp_path):
    assert refusal(tmp_path / "none.png", name="upload 3") == "upload 3: no such file"


def test_a_directory_is_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: is a directory, not an image file"


def test_an_empty_file_is_refused(write):
    assert refusal(write(b"", "a.png")).endswith("a.png: the file is empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").endswith("pipe: is not a regular file")


def test_a_path_that_cannot_be_opened_is_refused():
    assert "cannot be opened: " in refusal("a" * 300)
    assert "cannot be opened: embedded null" in refusal("a\0b")


@pytest.mark.parametrize(
    "data",
    [
        b"hello, I am a text",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"\x89PNG",
    ],
)
def test_what_is_not_an_image_is_refused(write, data):
    message = refusal(write(data, "a.png"))
    assert "a.png: not an image, or not in a format that is read: PNG, JPEG, " in message


def test_no_format_runs_another_program():
    assert not {"EPS", "WMF", "MPEG"} & set(load_module.FORMATS)
    assert {"PNG", "JPEG", "GIF", "TIFF", "BMP"} <= set(readable_formats())


def encodings() -> dict[str, bytes]:
    """Returns one small picture in several formats."""
    image = Image.fromarray(random_array(24, 24, 3))
    options = {
        "png": {},
        "jpeg": {"exif": bytes(Image.Exif().tobytes())},
        "gif": {},
        "tiff": {},
        "bmp": {},
        "webp": {},
        "jpeg2000": {},
        "ico": {},
    }
    Image.init()
    files = {}
    for name, extra in options.items():
        if name.upper() in Image.SAVE:
            image.save(file := io.BytesIO(), name, **extra)
            files[name] = file.getvalue()
    return files


@pytest.mark.parametrize("name", ["png", "jpeg", "bmp", "webp"])
def test_a_truncated_file_is_refused(write, name):
    data = encodings()[name]
    message = refusal(write(data[: len(data) * 2 // 3], "a"))
    assert "a: cannot be decoded: " in message or "a: not an image" in message


def test_damage_of_any_kind_is_either_read_or_refused(write):
    rng = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    for data in encodings().values():
        cut = [data[: int(size)] for size in np.linspace(1, len(data) - 1, 25)]
        flipped = [bytearray(data) for _ in range(25)]
        for damaged in flipped:
            for position in rng.integers(0, min(len(data), 400), 3):
                damaged[position] = rng.integers(256)
        for damaged in [*cut, *map(bytes, flipped)]:
            path = write(damaged, "a")
            try:
                outcomes[load_image(path).mode == "RGB"] += 1
            except ImageError:
                outcomes[False] += 1
    assert min(outcomes.values()) > 20


@pytest.mark.parametrize(
    "error",
    [
        OSError("broken\n  data stream"),
        SyntaxError("broken data stream"),
        struct.error("broken data stream"),
        zlib.error("broken data stream"),
        IndexError("broken data stream"),
        OverflowError("broken data stream"),
    ],
)
def test_whatever_pillow_raises_is_a_refusal(write, monkeypatch, error):
    path = write(Image.new("RGB", (2, 2)), "a.png")
    monkeypatch.setattr(Image, "open", lambda *_, **__: (_ for _ in ()).throw(error))
    assert refusal(path).endswith("a.png: cannot be decoded: broken data stream")
    monkeypatch.setattr(Image, "open", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    assert refusal(path).endswith("a.png: cannot be decoded: MemoryError")


def test_a_declared_size_beyond_measure_is_refused_before_decoding(write, monkeypatch):
    path = write(png(50_000, 40_000, 8, 2, b""), "a.png")
    assert "a.png: too many pixels: Image size (2000000000 pixels) exceeds" in refusal(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as some programs do
    assert refusal(path).endswith(
        "a.png: too many pixels: 50000 x 40000 are 2,000,000,000, at most 200,000,000 can be read"
    )


def test_pillows_warning_of_large_images_is_not_passed_on(write, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = write(Image.new("RGB", (4, 4)), "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(path).size == (4, 4)


def test_an_array_beyond_measure_is_refused():
    array = np.broadcast_to(np.zeros(1, np.uint8), (20_000, 10_001))
    assert "too many pixels: 10001 x 20000 are 200,020,000" in refusal(array)


def test_an_image_without_pixels_is_refused():
    assert refusal(Image.new("RGB", (0, 5))) == "has no pixels: it is 0 wide and 5 high"
    message = refusal(np.zeros((0, 5, 3), np.uint8), name="empty")
    assert message == "empty: has no pixels: it is 5 wide and 0 high"


def test_a_closed_image_is_refused(write):
    image = Image.open(write(Image.new("RGB", (2, 2)), "a.png"))
    image.close()
    assert refusal(image).startswith("cannot be decoded: ")


def test_float_pixels_are_refused(write):
    path = write(Image.fromarray(np.zeros((2, 2), np.float32)), "a.tif")
    assert "a.tif: has float pixels, whose range is not known; convert" in refusal(path)


@pytest.mark.parametrize(("low", "high"), [(-1, 5), (0, 65536)])
def test_grey_of_more_than_16_bits_is_refused(low, high):
    image = Image.fromarray(np.array([[low, high]], np.int32))
    assert f"has grey values from {low} to {high}; 16 bits, 0 to 65535, can be read" in refusal(
        image
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_float_array_is_refused_and_says_what_to_pass(dtype):
    message = refusal(np.zeros((2, 2, 3), dtype))
    expected = "pass uint8, or a float tensor (3, H, W) in [-1, 1]"
    assert message == f"the array is {dtype}; {expected}"


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint16", "complex64"])
def test_an_array_of_another_dtype_is_refused(dtype):
    assert refusal(np.zeros((2, 2, 3), dtype)) == f"the array is {dtype}; pass uint8"


@pytest.mark.parametrize("shape", [(), (3,), (3, 4, 5), (1, 4, 5, 3), (4, 5, 2)])
def test_an_array_of_another_shape_is_refused(shape):
    message = refusal(np.zeros(shape, np.uint8))
    expected = "pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
    assert message == f"the array has shape {shape}; {expected}"


@pytest.mark.parametrize("source", [None, b"GIF89a", 3, [[0]]])
def test_other_things_are_refused(source):
    kind = type(source).__name__
    assert refusal(source).startswith(f"a {kind} is not an image; pass a path, a PIL image,")


def test_the_samples_can_be_read():
    folder = Path(load_module.__file__).parents[1] / "samples"
    paths = sorted(folder.glob("*.png"))
    assert len(paths) == 6
    assert sum(path.stat().st_size for path in paths) < 600_000
    credits = (folder / "CREDITS.md").read_text("utf-8")
    for path in paths:
        assert min(load_image(path).size) > 100
        assert f"`{path.name}`" in credits
