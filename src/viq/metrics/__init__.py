"""Measures as pure functions: how close two images are, and what codes cost."""

from viq.metrics.quality import psnr, ssim
from viq.metrics.rate import bits_per_pixel, code_usage, entropy

__all__ = ["bits_per_pixel", "code_usage", "entropy", "psnr", "ssim"]
