"""How close two images are, measured on 8-bit RGB.

PSNR, and SSIM after Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861). Both take uint8
arrays (H, W, 3) or pixels: float tensors (3, H, W) in [-1, 1], which are first rounded to 8 bits.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Picture = NDArray[np.uint8] | Tensor

PEAK = 255
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr(a: Picture, b: Picture) -> float:
    """Returns the peak signal-to-noise ratio in dB over all pixels and channels; inf when equal.

    Raises:
        ValueError: the images are no images, or differ in size.
    """
    first, second = _both(a, b)
    error = float(np.mean((first.astype(np.float32) - second) ** 2, dtype=np.float64))
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


def ssim(a: Picture, b: Picture) -> float:
    """Returns the structural similarity, 1 when equal: the mean over pixels and RGB channels.

    The window is a Gaussian, sigma 1.5, cut to 11 x 11, and visits only places where it fits. In an
    image with a side of less than 11 pixels it is cut to the largest odd width that fits.

    Raises:
        ValueError: the images are no images, or differ in size.
    """
    first, second = _both(a, b)
    shortest = min(first.shape[:2])
    width = min(SSIM_WINDOW, shortest if shortest % 2 else shortest - 1)
    window = np.exp(-0.5 * ((np.arange(width) - width // 2) / SSIM_SIGMA) ** 2)
    window /= window.sum()
    return float(np.mean([_ssim(first[..., c], second[..., c], window) for c in range(3)]))


def _ssim(a: NDArray[Any], b: NDArray[Any], window: NDArray[np.float64]) -> float:
    """The SSIM of one channel, (H, W) each."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = _blur(a, window), _blur(b, window)
    variance_a = _blur(a * a, window) - mean_a**2
    variance_b = _blur(b * b, window) - mean_b**2
    covariance = _blur(a * b, window) - mean_a * mean_b
    c1, c2 = (SSIM_K1 * PEAK) ** 2, (SSIM_K2 * PEAK) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float(similarity.mean())


def _blur(values: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of (H, W) under the window, only where all of it lies inside."""
    for axis in (0, 1):
        values = np.lib.stride_tricks.sliding_window_view(values, len(window), axis) @ window
    return values


def _both(a: Picture, b: Picture) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    first, second = _to_array(a), _to_array(b)
    if first.shape != second.shape:
        raise ValueError(
            f"the images differ in size: {first.shape[:2]} and {second.shape[:2]} (H, W)."
        )
    return first, second


def _to_array(image: Picture) -> NDArray[np.uint8]:
    if isinstance(image, Tensor) and image.is_floating_point() and image.ndim == 3:
        values = image.detach().to("cpu", torch.float32)
        if not bool(values.isfinite().all()):
            raise ValueError("an image holds values that are not finite.")
        image = (
            values.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
        )
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise ValueError(f"an image is {kind}; pass a uint8 array or a float tensor.")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"an image has shape {image.shape} as an array; pass (H, W, 3), or a tensor (3, H, W)."
        )
    return image
