"""What the tests of the commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from viq.cli.main import main


class Outcome(NamedTuple):
    status: int
    out: list[str]  # lines on stdout
    err: list[str]  # lines on stderr


@pytest.fixture
def viq_command(capsys) -> Callable[..., Outcome]:
    """Runs a command in this process."""

    def run(*arguments: object) -> Outcome:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return Outcome(status, out.splitlines(), err.splitlines())

    return run


@pytest.fixture
def save_image() -> Callable[..., Path]:
    """Writes a smooth colour picture, the same for the same size, and returns its path."""

    def save(path: Path, width: int = 40, height: int = 56) -> Path:
        y, x = np.mgrid[:height, :width]
        values = np.stack([2 * x % 256, 3 * y % 256, (x + y) % 256], axis=-1).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
        return path

    return save


@pytest.fixture
def save_codes(tiny_tokenizer, save_image, tmp_path) -> Callable[..., Path]:
    """Writes the tiny tokenizer's codes of a picture of ``save_image``."""

    def save(path: Path, width: int = 40, height: int = 56) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = save_image(tmp_path / "picture-to-encode" / "picture.png", width, height)
        tiny_tokenizer.encode(picture).save(path)
        return path

    return save
