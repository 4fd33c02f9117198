"""Tokenizers that an evaluation is asked for by name."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from viq.errors import InputError

if TYPE_CHECKING:
    from viq.tokenizer import Tokenizer


def add_models(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Adds --model, which may be repeated."""
    parser.add_argument(
        "--model",
        action="append",
        required=required,
        dest="models",
        metavar="MODEL",
        help="bundled name, folder or Hugging Face id, or NAME=MODEL to give its rows a name; may"
        " be repeated",
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


def load_models(texts: list[str], device: str) -> "dict[str, Tokenizer]":
    """The tokenizers in float32, by what rows are called.

    Raises:
        InputError: there is no such model or device, or two have the same name.
    """
    from viq.cli.options import check_device
    from viq.tokenizer import load

    check_device(device)
    return {name: load(model, device=device) for name, model in named_models(texts).items()}
