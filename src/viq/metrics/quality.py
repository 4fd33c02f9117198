"""How close two images are, measured on 8-bit RGB.

PSNR, SSIM after Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861), and MS-SSIM after Wang
et al. 2003 (https://doi.org/10.1109/ACSSC.2003.1292216). All take uint8 arrays (H, W, 3) or pixels:
float tensors (3, H, W) in [-1, 1], which are first rounded to 8 bits.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Picture = NDArray[np.uint8] | Tensor

PEAK = 255
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # the image's own size first
MS_SSIM_SIDE = 176  # pixels: 11 on the coarsest scale; smaller images have no MS-SSIM


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
    window = _window(min(SSIM_WINDOW, shortest if shortest % 2 else shortest - 1))
    channels = [_similarity(_float(first, c), _float(second, c), window) for c in range(3)]
    return float(np.mean([channel.luminance * channel.structure for channel in channels]))


def ms_ssim(a: Picture, b: Picture) -> float:
    """Returns the structural similarity over five scales, each half the one before; 1 when equal.

    Of the four finer scales the contrast and structure count, of the coarsest the luminance too.
    Windows are those of ``ssim``, but on the coarsest scale, which may have a side of 11 pixels,
    they visit all places of the image continued by reflection: so torchmetrics has it. What is
    negative at a scale counts as 0.

    Raises:
        ValueError: the images are no images, differ in size, or have a side of less than
            ``MS_SSIM_SIDE`` pixels.
    """
    first, second = _both(a, b)
    if min(first.shape[:2]) < MS_SSIM_SIDE:
        raise ValueError(
            f"an image of size {first.shape[:2]} (H, W) is too small for MS-SSIM, which needs sides"
            f" of {MS_SSIM_SIDE} pixels."
        )
    window, margin = _window(SSIM_WINDOW), SSIM_WINDOW // 2
    scales: list[list[float]] = []  # a value for each scale, by channel
    for c in range(3):
        one, other, found = _float(first, c), _float(second, c), []
        for _ in MS_SSIM_WEIGHTS[:-1]:
            found.append(float(_similarity(one, other, window).structure.mean()))
            one, other = _halved(one), _halved(other)
        one, other = (np.pad(values, margin, "reflect") for values in (one, other))
        last = _similarity(one, other, window)
        scales.append([*found, float((last.luminance * last.structure).mean())])
    means = np.maximum(np.mean(scales, axis=0), 0)
    return float(np.prod(means**MS_SSIM_WEIGHTS))


class _Similarity(NamedTuple):
    luminance: NDArray[np.float64]
    structure: NDArray[np.float64]  # and contrast


def _similarity(
    a: NDArray[np.float64], b: NDArray[np.float64], window: NDArray[np.float64]
) -> _Similarity:
    """The two factors of SSIM at each place of one channel, (H, W) each."""
    mean_a, mean_b = _blur(a, window), _blur(b, window)
    variances = _blur(a * a, window) - mean_a**2 + (_blur(b * b, window) - mean_b**2)
    covariance = _blur(a * b, window) - mean_a * mean_b
    c1, c2 = (SSIM_K1 * PEAK) ** 2, (SSIM_K2 * PEAK) ** 2
    return _Similarity(
        luminance=(2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1),
        structure=(2 * covariance + c2) / (variances + c2),
    )


def _window(width: int) -> NDArray[np.float64]:
    window = np.exp(-0.5 * ((np.arange(width) - width // 2) / SSIM_SIGMA) ** 2)
    return window / window.sum()


def _float(image: NDArray[np.uint8], channel: int) -> NDArray[np.float64]:
    return image[..., channel].astype(np.float64)


def _halved(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of 2 x 2; an odd last row or column is dropped."""
    height, width = (side // 2 * 2 for side in values.shape)
    rows = values[:height:2] + values[1:height:2]
    return (rows[:, :width:2] + rows[:, 1:width:2]) / 4


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
