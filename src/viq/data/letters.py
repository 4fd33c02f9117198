"""Which letters stand where in a picture, as classes of the patches.

Who draws a picture knows where its letters are, and leaves them in Pillow's ``Image.info``. Each
patch has a few frames, upright strips; a frame is of the class of the letter whose middle lies in
it, or blank. Of other pictures nothing is known.

Axes: N patches of one image, FRAMES of a patch.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Letter = tuple[str, float, float]  # with its middle (x, y), in pixels of the picture

LETTERS = "letters"  # the key in ``Image.info``
FRAMES = 4
ALPHABET = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    ".,:;!?'\"-+*/=%&@#()[]{}<>_|\\~^`$€£¥°"
)
BLANK, OTHER = 0, 1  # classes; then the alphabet's
CLASSES = len(ALPHABET) + 2
UNKNOWN = 255

_CLASS_OF = {letter: place + 2 for place, letter in enumerate(ALPHABET)}


def frames(
    letters: Iterable[Letter] | None, scale: float, grid_size: tuple[int, int], patch_size: int
) -> NDArray[np.uint8]:
    """The classes (N, FRAMES) of an image's patches; of two letters in a frame the later counts.

    Args:
        letters: None where they are not known.
        scale: what the picture's pixels were multiplied by before it was cut into patches.
        grid_size: patches (h, w).
        patch_size: pixels on a patch's side.
    """
    h, w = grid_size
    if letters is None:
        return np.full((h * w, FRAMES), UNKNOWN, np.uint8)
    classes = np.full((h, w * FRAMES), BLANK, np.uint8)
    for letter, x, y in letters:
        row, column = int(y * scale / patch_size), int(x * scale * FRAMES / patch_size)
        if 0 <= row < h and 0 <= column < w * FRAMES:  # a letter may be cut off
            classes[row, column] = _CLASS_OF.get(letter, OTHER)
    return classes.reshape(h * w, FRAMES)


def no_frames() -> NDArray[np.uint8]:
    """The frames of no patch."""
    return np.empty((0, FRAMES), np.uint8)
