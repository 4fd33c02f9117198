"""Images in and out: files, PIL images and arrays as padded pixels and patches, and back."""

from viq.image.load import MAX_FILE_PIXELS, Picture, load_image
from viq.image.patches import patchify, unpatchify
from viq.image.pixels import to_image, to_pixels, to_range
from viq.image.preprocess import (
    ImageConfig,
    ImageSource,
    Prepared,
    in_blocks,
    prepare,
    scaled_size,
    to_patches,
)

__all__ = [
    "MAX_FILE_PIXELS",
    "ImageConfig",
    "ImageSource",
    "Picture",
    "Prepared",
    "in_blocks",
    "load_image",
    "patchify",
    "prepare",
    "scaled_size",
    "to_image",
    "to_patches",
    "to_pixels",
    "to_range",
    "unpatchify",
]
