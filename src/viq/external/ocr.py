"""Reads text in images: PP-OCRv4 in the package ``rapidocr-onnxruntime``, which brings its models.

It finds boxes of text and reads each; it knows Chinese, English letters, digits and signs. Letters
with accents are outside what it knows, and it drops some spaces between words. Images with a side
of more than 2,000 pixels it makes smaller. So its error is to be read against that on originals.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from viq.errors import ModelError

OCR = "PP-OCRv4"
_PACKAGE = "rapidocr_onnxruntime"


class Ocr:
    """Images to lines of text, from top to bottom."""

    def __init__(self, engine: Any) -> None:
        """For ``load_ocr``."""
        self._engine = engine

    def __call__(self, images: Sequence[Image.Image]) -> list[list[str]]:
        """For each image its lines; boxes side by side are one line, parted by a space."""
        return [self._lines(image) for image in images]

    def _lines(self, image: Image.Image) -> list[str]:
        blue_first = np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
        found, _ = self._engine(blue_first)
        return _in_lines([_Box.of(corners, text) for corners, text, _ in found or ()])


class _Box(NamedTuple):
    top: float
    left: float
    bottom: float
    text: str

    @classmethod
    def of(cls, corners: Sequence[Sequence[float]], text: str) -> "_Box":
        across, down = zip(*corners, strict=True)
        return cls(min(down), min(across), max(down), text)

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def load_ocr(*, threads: int = 1) -> Ocr:
    """Loads the models on the CPU.

    Args:
        threads: that it may use, at most as many as there are cores.

    Raises:
        ModelError: the package is missing.
    """
    if find_spec(_PACKAGE) is None:
        raise ModelError("reading text needs a package: pip install rapidocr-onnxruntime", OCR)
    # Imported by name: its code has no types.
    package = import_module(_PACKAGE)
    # It takes more threads than there are cores for "all of them".
    threads = min(threads, os.cpu_count() or 1)
    return Ocr(package.RapidOCR(intra_op_num_threads=threads, inter_op_num_threads=1))


def _in_lines(boxes: Sequence[_Box]) -> list[str]:
    """A box whose middle lies within the height of a line's first box is of that line."""
    lines: list[list[_Box]] = []
    for box in sorted(boxes, key=lambda box: (box.middle, box.left, box.text)):
        if lines and lines[-1][0].top < box.middle < lines[-1][0].bottom:
            lines[-1].append(box)
        else:
            lines.append([box])
    ordered = [sorted(line, key=lambda box: (box.left, box.top, box.text)) for line in lines]
    return [" ".join(box.text for box in line) for line in ordered]
