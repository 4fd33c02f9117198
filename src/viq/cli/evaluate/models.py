"""Pictures and tokenizers that an evaluation is asked for by name."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from viq.cli.options import positive
from viq.errors import InputError, ModelError

if TYPE_CHECKING:
    from viq.tokenizer import Tokenizer

_MODEL = "bundled name, folder or Hugging Face id, or NAME=MODEL to give its rows a name"


def add_data(parser: argparse.ArgumentParser, other: str = "") -> None:
    """Adds --data, --split and --count; ``other`` is what the data may be, too."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="folder of pictures, Parquet file or folder of such, or text: lines that are drawn"
        + other,
    )
    parser.add_argument("--split", help="of a folder (default of Parquet files: validation)")
    parser.add_argument(
        "--count", type=positive, metavar="N", help="N of the pictures, spread over all"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds --model, one."""
    parser.add_argument("--model", default="nano", help=f"{_MODEL} (default: nano)")


def add_models(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Adds --model, which may be repeated."""
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        required=required,
        dest="models",
        metavar="MODEL",
        help=f"{_MODEL}; may be repeated",
    )


def named_models(texts: list[str]) -> dict[str, str]:
    """What ``viq.load`` takes, by what rows are called.

    Raises:
        InputError: two have the same name.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, model = text.partition("=")
        if not equals or Path(text).exists():
            name = model = text
        if not name or not model:
            raise InputError("is neither MODEL nor NAME=MODEL", f"--model {text}")
        if name in found:
            raise InputError("is evaluated twice; give each another name", name)
        found[name] = model
    return found


def load_models(
    texts: list[str], device: str, *, dtype: str = "float32", max_pixels: int | None = None
) -> "dict[str, Tokenizer]":
    """The tokenizers, by what rows are called.

    Raises:
        InputError: there is no such model or device, two have the same name, or one cannot take
            pictures of ``max_pixels``.
    """
    from dataclasses import replace

    from viq.cli.options import check_device
    from viq.tokenizer import load

    check_device(device)
    found = {}
    for name, model in named_models(texts).items():
        try:
            found[name] = load(model, device=device, dtype=dtype)
        except ModelError as error:
            if isinstance(error.__cause__, KeyError):  # a config without our format
                raise ModelError("this is no tokenizer", error.source) from error
            raise
    if max_pixels is not None:
        try:
            for tokenizer in found.values():
                replace(tokenizer.config.image, max_pixels=max_pixels)
        except ValueError as error:
            raise InputError(str(error), f"--max-pixels {max_pixels}") from error
    return found
