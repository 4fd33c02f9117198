"""Any image as pixels whose sides are whole patches: native resolution, no crop, no distortion."""

import math
from dataclasses import dataclass, replace
from os import PathLike
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from viq.errors import ImageError
from viq.image.load import Picture, load_image
from viq.image.patches import patchify
from viq.image.pixels import to_pixels

ImageSource = Picture | Tensor
Padding = Literal["edge", "zero"]

MAX_PAD_MULTIPLE = 64  # codes can say that up to 63 pixels of a side are padding
RANGE_TOLERANCE = 1e-3  # how far a float tensor's values may be outside [-1, 1]


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How a picture is made ready for the encoder.

    Attributes:
        patch_size: pixels on a patch's side.
        pad_multiple: the sides of a padded picture are multiples of this; itself one of patch_size.
        padding: "edge" repeats the last row and column, "zero" fills with mid-grey.
        max_pixels: pictures with more pixels are scaled down to this many.
    """

    patch_size: int = 16
    pad_multiple: int = 32
    padding: Padding = "edge"
    max_pixels: int = 2048**2

    def __post_init__(self) -> None:
        for name in ("patch_size", "pad_multiple", "max_pixels"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a positive integer.")
        if self.pad_multiple % self.patch_size or self.pad_multiple > MAX_PAD_MULTIPLE:
            raise ValueError(
                f"pad_multiple is {self.pad_multiple}; it must be a multiple of patch_size,"
                f" {self.patch_size}, and at most {MAX_PAD_MULTIPLE}."
            )
        if self.padding not in get_args(Padding):
            raise ValueError(f"padding is {self.padding!r}; it must be 'edge' or 'zero'.")
        if self.max_pixels < self.pad_multiple**2:
            raise ValueError(
                f"max_pixels is {self.max_pixels}; it must hold one block of"
                f" {self.pad_multiple} x {self.pad_multiple} (pad_multiple) pixels."
            )

    @property
    def max_padded_pixels(self) -> int:
        """Pixels that a padded picture may have.

        Padding makes each side at most twice as long, and so never reaches this, unless a side is
        shorter than ``pad_multiple``: only thin pictures can be refused.
        """
        return 4 * self.max_pixels


class Prepared(NamedTuple):
    """One image, ready to be cut into patches."""

    pixels: Tensor  # (3, H, W) float32 in [-1, 1], padded at the right and the bottom
    original_size: tuple[int, int]  # (H, W) that decoding gives back
    encoded_size: tuple[int, int]  # (H, W) after any scaling down, before padding
    grid_size: tuple[int, int]  # (h, w) in patches


def prepare(image: ImageSource, config: ImageConfig, *, name: str | None = None) -> Prepared:
    """Loads, scales down if need be, and pads one image.

    A picture (a path, PIL image or uint8 array) keeps its resolution unless it has more than
    ``max_pixels``, and is padded to ``pad_multiple``. A float tensor (3, H, W) in [-1, 1] is taken
    as it is, and padded with zeros to ``patch_size``.

    Raises:
        ImageError: the image cannot be read, or is so thin that padding would multiply it; for a
            tensor: its dtype, shape, range or size is wrong.
    """
    if isinstance(image, Tensor):
        original_size = encoded_size = _tensor_size(image, name)
        padded_size = _padded_size(encoded_size, config.patch_size, config, name)
        _check_range(image, name)
        pixels = image.to(torch.float32)
        padding: Padding = "zero"
    else:
        picture = load_image(image, name=name)
        original_size = (picture.height, picture.width)
        encoded_size = scaled_size(original_size, config.max_pixels)
        source = image if name is None and isinstance(image, (str, PathLike)) else name
        padded_size = _padded_size(encoded_size, config.pad_multiple, config, source)
        if encoded_size != original_size:
            picture = picture.resize(encoded_size[::-1], Image.Resampling.LANCZOS)
        pixels = to_pixels(picture)
        padding = config.padding
    pixels = _pad(pixels, padded_size, padding)
    rows, columns = (side // config.patch_size for side in padded_size)
    return Prepared(pixels, original_size, encoded_size, (rows, columns))


def in_blocks(config: ImageConfig, block: int) -> ImageConfig:
    """The same preparation, but with sides that are multiples of ``block`` pixels, too."""
    multiple = math.lcm(config.pad_multiple, block)
    return replace(config, pad_multiple=multiple, max_pixels=max(config.max_pixels, multiple**2))


def to_patches(prepared: Prepared, config: ImageConfig) -> Tensor:
    """A prepared picture as patches (N, 3*P*P): uint8, as it was, unless padded with mid-grey.

    Besides being a quarter as large, integers stay what they are when a batch is made bfloat16.
    """
    patches = patchify(prepared.pixels, config.patch_size)
    if config.padding == "zero":  # between two of the 256 values
        return patches
    return patches.add_(1).mul_(127.5).round_().to(torch.uint8)


def scaled_size(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """Returns the size (H, W) itself or, scaled down, one of the same shape within max_pixels."""
    height, width = size
    if height * width <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (height * width))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    # Rounding up may have gone too far; the longer side notices a pixel less the least.
    if height > width:
        height = min(height, max_pixels // width)
    else:
        width = min(width, max_pixels // height)
    return height, width


def _padded_size(
    size: tuple[int, int], multiple: int, config: ImageConfig, source: str | PathLike[str] | None
) -> tuple[int, int]:
    height, width = (math.ceil(side / multiple) * multiple for side in size)
    if (pixels := height * width) > config.max_padded_pixels:
        raise ImageError(
            f"too large or too thin: {size[1]} x {size[0]} would be padded to {width} x {height},"
            f" {pixels:,} pixels of at most {config.max_padded_pixels:,}; crop it or scale it down",
            source,
        )
    return height, width


def _pad(pixels: Tensor, size: tuple[int, int], padding: Padding) -> Tensor:
    bottom, right = (to - side for to, side in zip(size, pixels.shape[1:], strict=True))
    if padding == "edge":
        return F.pad(pixels, (0, right, 0, bottom), mode="replicate")
    return F.pad(pixels, (0, right, 0, bottom))


def _tensor_size(tensor: Tensor, name: str | None) -> tuple[int, int]:
    if not tensor.is_floating_point():
        raise ImageError(
            f"the tensor is {tensor.dtype}; pass uint8 as a numpy array (H, W, 3), or a float"
            " tensor (3, H, W) in [-1, 1]",
            name,
        )
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise ImageError(f"the tensor has shape {tuple(tensor.shape)}; pass (3, H, W)", name)
    if tensor.numel() == 0:
        raise ImageError(f"has no pixels: the tensor has shape {tuple(tensor.shape)}", name)
    return tensor.shape[1], tensor.shape[2]


def _check_range(tensor: Tensor, name: str | None) -> None:
    low, high = (float(value) for value in tensor.aminmax())  # not a number if any value is not
    if not (low >= -1 - RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise ImageError(
            f"the tensor's values go from {low:g} to {high:g}; pass values in [-1, 1]", name
        )
