"""Pixels, float tensors (3, H, W) in [-1, 1], from PIL images and back."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pixels(image: Image.Image) -> Tensor:
    """Turns an RGB image into pixels (3, H, W), float32: 0 -> -1 and 255 -> 1."""
    if image.mode != "RGB":
        raise ValueError(f"the image has mode {image.mode}; convert it to RGB.")
    return to_range(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())


def to_range(values: Tensor) -> Tensor:
    """Turns uint8 values of any shape into float32: 0 -> -1 and 255 -> 1."""
    return values.to(torch.float32).div(127.5).sub_(1)


def to_image(
    pixels: Tensor,
    *,
    encoded_size: tuple[int, int] | None = None,
    original_size: tuple[int, int] | None = None,
) -> Image.Image:
    """Turns pixels (3, H, W) into an RGB image; values outside [-1, 1] are clamped.

    Args:
        pixels: of any float dtype, on any device.
        encoded_size: (H, W) without padding, to which the pixels are cut first.
        original_size: (H, W) to which the image is then resized if it differs.

    Raises:
        ValueError: the pixels have another shape or dtype, are smaller than ``encoded_size`` or
            are not finite.
    """
    if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.is_floating_point():
        raise ValueError(
            f"pixels are {pixels.dtype} of shape {tuple(pixels.shape)}; pass a float (3, H, W)."
        )
    height, width = pixels.shape[1:] if encoded_size is None else encoded_size
    if not (0 < height <= pixels.shape[1] and 0 < width <= pixels.shape[2]):
        raise ValueError(
            f"encoded_size is {(height, width)} but the pixels are {tuple(pixels.shape[1:])}."
        )
    values = pixels.detach()[:, :height, :width].to("cpu", torch.float32)
    if not bool(values.isfinite().all()):
        raise ValueError("pixels hold values that are not finite.")
    values = values.clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)
    image = Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
    if original_size is None or tuple(original_size) == (height, width):
        return image
    return image.resize((original_size[1], original_size[0]), Image.Resampling.LANCZOS)
