"""viq convert: weights in other people's formats, as a model that this package loads."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from viq.cli.options import positive
from viq.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "convert",
        help="turn weights of another format into a model",
        description="Reads weights in another format and writes a folder that --model takes\n"
        "(official) or that training begins with (siglip2). No code in the files is run.",
        epilog="examples:\n"
        "  viq convert official converted_16k/ --out viq-16k\n"
        "  viq convert siglip2 siglip2-so400m-patch16-384/ --out tower --position-side 128",
    )
    formats = parser.add_subparsers(title="formats", dest="format", metavar="FORMAT", required=True)

    official = formats.add_parser(
        "official",
        help="a tokenizer of the paper's authors",
        description="Converts a tokenizer of https://github.com/yuxumin/ViQ.",
        epilog="examples:\n"
        "  viq convert official converted_16k/ --out viq-16k\n"
        "  viq convert official vision_tower.pth --dtype bfloat16 --out viq-own",
    )
    official.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="folder of the three released files of one size, or a vision_tower.pth of training",
    )
    official.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the stored weights (default: float32)",
    )
    _add_out(official)
    official.set_defaults(run=run_official)

    siglip2 = formats.add_parser(
        "siglip2",
        help="a SigLIP or SigLIP 2 vision tower",
        description="Converts the vision half of a SigLIP or SigLIP 2 model.",
        epilog="examples:\n"
        "  viq convert siglip2 siglip2-so400m-patch16-384/ --out tower --position-side 128\n"
        "  viq convert siglip2 open_clip_model.safetensors --attention-heads 16 --out tower",
    )
    siglip2.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="folder of transformers, or file of timm or open_clip",
    )
    siglip2.add_argument(
        "--position-side",
        type=positive,
        metavar="N",
        help="resize the position grid to N x N (default: as it is)",
    )
    siglip2.add_argument(
        "--patch-size",
        type=positive,
        metavar="N",
        help="resize the patch kernel to N x N pixels (default: as it is)",
    )
    siglip2.add_argument(
        "--attention-heads",
        type=positive,
        metavar="N",
        help="of a file of timm or open_clip of unusual width",
    )
    _add_out(siglip2)
    siglip2.set_defaults(run=run_siglip2)


def run_official(args: argparse.Namespace) -> int:
    """Converts a tokenizer."""
    _check_out(args.out)
    import torch

    from viq.convert.official import convert_official

    tokenizer = convert_official(args.path, dtype=getattr(torch, args.dtype))
    tokenizer.save_pretrained(args.out)
    levels = tokenizer.config.network.head.quantizer.levels or ()
    parts = [
        tokenizer.part(name) for name in ("encoder", "pool", "head", "embedder", "latent_head")
    ]
    print(
        f"{args.out}: tokenizer, {_count([*parts, tokenizer.vae()]):,} parameters,"
        f" levels {','.join(map(str, levels))}, fingerprint {tokenizer.fingerprint}"
    )
    return 0


def run_siglip2(args: argparse.Namespace) -> int:
    """Converts a vision tower."""
    _check_out(args.out)
    from viq.checkpoint import save_vision_tower
    from viq.convert.siglip2 import convert_siglip2

    tower = convert_siglip2(
        args.path,
        position_side=args.position_side,
        patch_size=args.patch_size,
        attention_heads=args.attention_heads,
    )
    save_vision_tower(tower, args.out)
    config = tower.encoder.config
    print(
        f"{args.out}: vision tower, {_count(tower):,} parameters,"
        f" {config.position_side} x {config.position_side} positions,"
        f" patches of {config.patch_size} x {config.patch_size} pixels"
    )
    return 0


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the new folder; must be empty"
    )


def _check_out(folder: Path) -> None:
    """Refuses a folder with anything in it, before any work is done."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("exists already; name a new folder, or an empty one", folder)


def _count(parts: "Iterable[nn.Module]") -> int:
    return sum(tensor.numel() for part in parts for tensor in part.parameters())
