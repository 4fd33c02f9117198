"""Pictures as a report carries them: no larger than needs be."""

import base64
import io
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from viq.errors import InputError

MOST_SIDE = 2400  # pixels
MOST_BYTES = 400_000  # of a picture in a page that loses nothing; more are photographs
QUALITY = 90  # of those


class Packed(NamedTuple):
    """An encoded picture."""

    data: bytes
    format: Literal["png", "webp"]
    width: int
    height: int
    exact: bool  # no pixel changed by its compression

    @property
    def uri(self) -> str:
        """The picture as an address."""
        return f"data:image/{self.format};base64,{base64.b64encode(self.data).decode()}"


def for_page(path: Path) -> Packed:
    """A picture as WebP: without loss, but for one that takes more than ``MOST_BYTES`` so.

    Raises:
        InputError: it is not there, or no picture.
    """
    image = _read(path)
    data = _saved(image, "WEBP", lossless=True, quality=50, method=4)
    exact = len(data) <= MOST_BYTES
    if not exact:
        data = _saved(image, "WEBP", quality=QUALITY, method=4)
    return Packed(data, "webp", image.width, image.height, exact)


def for_folder(path: Path) -> Packed:
    """A picture as PNG, without loss: its own file, where that is smaller.

    Raises:
        InputError: it is not there, or no picture.
    """
    image = _read(path)
    data = _saved(image, "PNG", optimize=True)
    with Image.open(path) as file:
        same = (file.format, file.size) == ("PNG", image.size) and not file.has_transparency_data
    if same and path.stat().st_size <= len(data):
        data = path.read_bytes()
    return Packed(data, "png", image.width, image.height, exact=True)


def _read(path: Path) -> Image.Image:
    """A picture in RGB; a huge one is scaled down."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it is scaled down
            with Image.open(path) as file:
                image = file.convert("RGBA" if file.has_transparency_data else "RGB")
    except FileNotFoundError:
        raise InputError("the figure is not there", path) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("the figure is no picture, or damaged", path) from error
    if max(image.size) > MOST_SIDE:
        image.thumbnail((MOST_SIDE, MOST_SIDE), Image.Resampling.LANCZOS)
    if image.mode == "RGBA":  # on white, as plots are drawn for; a dark page would show through
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image).convert("RGB")
    return image


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
