"""The images of samples, which may still be encoded."""

import io

from PIL import Image, UnidentifiedImageError

from viq.codes import Codes
from viq.data.sample import SampleImage
from viq.errors import ImageError
from viq.image.load import Picture, readable_formats


def as_picture(image: SampleImage, name: str) -> Picture:
    """What ``load_image`` and ``prepare`` take; of an encoded file only the header is read.

    Raises:
        ImageError: the bytes are no image, or it is codes; calls it ``name``.
    """
    if isinstance(image, Codes):
        raise ImageError("is codes already, but pictures are read here", name)
    if not isinstance(image, bytes):
        return image
    try:
        return Image.open(io.BytesIO(image), formats=readable_formats())
    except UnidentifiedImageError as error:  # whose own message is of a place in memory
        what = f"not a readable image ({len(image)} bytes): none of the formats that are read"
        raise ImageError(what, name) from error
    except Exception as error:  # damaged data make Pillow raise nearly anything
        raise ImageError(f"not a readable image ({len(image)} bytes): {error}", name) from error
