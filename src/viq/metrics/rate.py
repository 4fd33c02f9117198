"""What codes cost, and how well they use their codebook.

Axes: N patches, Q code heads.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def bits_per_pixel(num_bytes: int, size: tuple[int, int]) -> float:
    """Returns the bits that each pixel of an image of ``size`` (H, W) costs.

    Raises:
        ValueError: a side is not positive, or the bytes are negative.
    """
    if min(size) < 1 or num_bytes < 0:
        raise ValueError(f"{num_bytes} bytes for an image of size {tuple(size)}.")
    return 8 * num_bytes / math.prod(size)


def code_usage(values: NDArray[Any], codebook_size: int) -> NDArray[np.float64]:
    """Returns for each code head the share of the codebook that occurs in codes (N, Q): (Q,).

    Raises:
        ValueError: there are no codes, or they are no integers in [0, codebook_size).
    """
    return np.mean(_counts(values, codebook_size) > 0, axis=1)


def entropy(values: NDArray[Any], codebook_size: int) -> NDArray[np.float64]:
    """Returns for each code head the entropy of codes (N, Q) in bits per code: (Q,).

    Raises:
        ValueError: there are no codes, or they are no integers in [0, codebook_size).
    """
    counts = _counts(values, codebook_size)
    shares = counts / len(values)
    return np.sum(shares * np.log2(len(values) / np.maximum(counts, 1)), axis=1)


def _counts(values: NDArray[Any], codebook_size: int) -> NDArray[np.int64]:
    """How often each head has each code, (Q, codebook_size)."""
    if values.ndim != 2 or values.size == 0 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"codes are {values.dtype} of shape {values.shape}; pass integers (N, code_heads)."
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= codebook_size:
        raise ValueError(
            f"codes go from {low} to {high}, but the codebook size is {codebook_size}."
        )
    return np.stack(
        [np.bincount(head.astype(np.int64), minlength=codebook_size) for head in values.T]
    )
