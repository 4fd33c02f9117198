"""Options that several commands share."""

import argparse
from typing import TYPE_CHECKING

from viq.errors import InputError

if TYPE_CHECKING:
    from viq.tokenizer import Tokenizer


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def add_tokenizer(parser: argparse.ArgumentParser) -> None:
    """Adds --model, --device and --dtype."""
    parser.add_argument(
        "--model", default="nano", help="bundled name, folder or Hugging Face id (default: nano)"
    )
    add_place(parser)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Adds --device and --dtype: where networks run, and in what."""
    parser.add_argument("--device", default="cpu", help="for example cuda (default: cpu)")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="float32 is the default; in another some codes come out otherwise",
    )


def add_max_pixels(parser: argparse.ArgumentParser) -> None:
    """Adds --max-pixels."""
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="scale larger pictures down to N pixels (default: the model's own limit)",
    )


def check_device(device: str) -> None:
    """Refuses a device that is not there.

    Raises:
        InputError: torch cannot use it.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # torch without CUDA asserts
        raise InputError(str(error).splitlines()[0], f"--device {device}") from error


def load_tokenizer(args: argparse.Namespace) -> "Tokenizer":
    """The tokenizer that the options name.

    Raises:
        InputError: there is no such model or device, or the model cannot take --max-pixels.
    """
    from dataclasses import replace

    from viq.tokenizer import load

    check_device(args.device)
    tokenizer = load(args.model, device=args.device, dtype=args.dtype)
    if getattr(args, "max_pixels", None) is not None:
        try:
            replace(tokenizer.config.image, max_pixels=args.max_pixels)
        except ValueError as error:
            raise InputError(str(error), f"--max-pixels {args.max_pixels}") from error
    return tokenizer
