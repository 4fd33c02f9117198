"""Image files, PIL images and arrays as plain RGB images, the way a viewer shows them.

EXIF rotation is applied, transparency is put on white, 16-bit grey is scaled to 8 bits, and of an
animation the first frame counts. A colour profile is used where there is no colour without one, in
CMYK; RGB stays as it is stored.
"""

import functools
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from viq.errors import ImageError

Picture = str | PathLike[str] | Image.Image | NDArray[Any]
Source = str | PathLike[str] | None  # what an error calls the image

# Pillow refuses files of more than 178,956,970 pixels by itself, unless a program lifts its limit.
MAX_FILE_PIXELS = 200_000_000

# Raster formats that Pillow decodes in its own process. EPS, which starts Ghostscript, is not here.
# TGA comes last: it has no signature, so any file may look like one.
FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000"),
    *("PPM", "ICO", "QOI", "PCX", "SGI", "TGA"),
)

_TURNS = {  # EXIF orientation -> what puts the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(source: Picture, *, name: str | None = None) -> Image.Image:
    """Reads an image and returns it as a new image of mode RGB, without metadata.

    Args:
        source: a file's path, a PIL image (left as it is), or a uint8 array of shape (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4).
        name: what errors call the image; a path needs none.

    Raises:
        ImageError: there is no such file, it is no image or a damaged one, it has more than
            ``MAX_FILE_PIXELS`` pixels or none, or the array has another dtype or shape.
    """
    if isinstance(source, (str, PathLike)):
        return _load_file(Path(os.fsdecode(source)), name)
    if isinstance(source, np.ndarray):
        source = _wrap_array(source, name)
    if isinstance(source, Image.Image):
        with _decoding(name):
            return _to_rgb(source, name)
    raise ImageError(
        f"a {type(source).__name__} is not an image; pass a path, a PIL image,"
        " a uint8 array (H, W, 3) or a float tensor (3, H, W)",
        name,
    )


def _load_file(path: Path, name: str | None) -> Image.Image:
    source = path if name is None else name
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("is a directory, not an image file", source)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its other end
            raise ImageError("is not a regular file", source)
        if status.st_size == 0:
            raise ImageError("the file is empty", source)
        file = path.open("rb")
    except FileNotFoundError:
        raise ImageError("no such file", source) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(f"cannot be opened: {_one_line(error)}", source) from error
    with file, _decoding(source):
        return _to_rgb(Image.open(file, formats=readable_formats()), source)


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read and that this Pillow knows."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def _decoding(source: Source) -> Iterator[None]:
    """Turns whatever Pillow raises into an ImageError, and keeps its warnings to itself."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        reason = f"not an image, or not in a format that is read: {', '.join(readable_formats())}"
        raise ImageError(reason, source) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too many pixels: {_one_line(error)}", source) from error
    except Exception as error:  # damaged data make Pillow raise nearly anything
        raise ImageError(f"cannot be decoded: {_one_line(error)}", source) from error


def _one_line(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def _wrap_array(array: NDArray[Any], name: str | None) -> Image.Image:
    if np.issubdtype(array.dtype, np.floating):
        raise ImageError(
            f"the array is {array.dtype}; pass uint8, or a float tensor (3, H, W) in [-1, 1]", name
        )
    if array.dtype != np.uint8:
        raise ImageError(f"the array is {array.dtype}; pass uint8", name)
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ImageError(
            f"the array has shape {array.shape}; pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
            name,
        )
    _check_size((array.shape[1], array.shape[0]), name)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _check_size(size: tuple[int, int], source: Source) -> None:
    width, height = size
    if width == 0 or height == 0:
        raise ImageError(f"has no pixels: it is {width} wide and {height} high", source)
    if (pixels := width * height) > MAX_FILE_PIXELS:
        raise ImageError(
            f"too many pixels: {width} x {height} are {pixels:,}, at most {MAX_FILE_PIXELS:,}"
            " can be read",
            source,
        )


def _to_rgb(image: Image.Image, source: Source) -> Image.Image:
    _check_size(image.size, source)  # what the header declares, before anything is decoded
    image.load()
    image = _upright(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _reduce_16_bits(image, source)
    elif image.mode == "F":
        raise ImageError("has float pixels, whose range is not known; convert it to 8 bits", source)
    elif image.mode == "CMYK":
        image = _cmyk_to_rgb(image)
    elif image.mode in ("La", "RGBa"):  # colours multiplied by alpha
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    image = _put_on_white(image) if image.has_transparency_data else image.convert("RGB")
    image.info.clear()  # an orientation or profile that was used must not be used again
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data turn nothing
        turn = None
    return image if turn is None else image.transpose(turn)


def _reduce_16_bits(image: Image.Image, source: Source) -> Image.Image:
    """Grey of 16 bits as 8 bits, 65535 as 255; a transparent value becomes white."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"has grey values from {low} to {high}; 16 bits, 0 to 65535, can be read", source
        )
    grey = ((np.arange(high + 1) + 128) // 257).astype(np.uint8)[values]
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    """By the embedded profile; without one, or with one that does not work, by plain arithmetic."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except Exception:  # viewers ignore a damaged profile, too
        converted = None
    return image.convert("RGB") if converted is None else converted


def _put_on_white(image: Image.Image) -> Image.Image:
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:
        # Of 16-bit colours Pillow keeps the high bytes, but of their transparent one all bits.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
