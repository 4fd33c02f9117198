"""viq train: one stage of the method, by recipe, every field of which is also a flag."""

import argparse
import difflib
from pathlib import Path
from typing import Any

from viq.errors import InputError

STAGES = ("vae", "reconstruct")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "train",
        help="train one stage; any field of the recipe is also a flag",
        epilog="example: viq train reconstruct --recipe nano --data corpus/ --vae runs/vae/vae"
        " --out runs/nano --loop.optim.lr 5e-4",
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--recipe", default="nano", help="name of the recipe (nano, debug)")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of train-*.parquet, validation-*.parquet"
    )
    parser.add_argument("--vae", type=Path, help="folder of the autoencoder (stage reconstruct)")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; resumed if old")
    parser.set_defaults(run=run, takes_overrides=True)


def run(args: argparse.Namespace) -> int:
    """Trains, or goes on training."""
    import torch

    from viq.data.crops import CropBatches, centre_crops
    from viq.data.pictures import ParquetPictures, parquet_files
    from viq.external.vae import load_vae
    from viq.training.loop import train
    from viq.training.stages.reconstruct import ReconstructStage
    from viq.training.stages.vae import VaeStage

    config = _config(args)
    pictures = ParquetPictures(parquet_files(args.data, "train"))
    validation = ParquetPictures(parquet_files(args.data, "validation"))
    kinds = ("photo", "aigen", "art", "render", "screenshot")
    held_out = centre_crops(validation, kinds, 128)[:64]
    torch.manual_seed(config.loop.seed)  # before the stage draws its first weights
    stage: Any
    if args.stage == "vae":
        stage = VaeStage(config, held_out)
    else:
        if args.vae is None:
            raise InputError("stage reconstruct needs --vae, the folder of an autoencoder")
        stage = ReconstructStage(config, load_vae(args.vae), held_out)
    train(stage, CropBatches(pictures, config.crops), config.loop, args.out)
    return 0


def _config(args: argparse.Namespace) -> Any:
    """The recipe's config with the flags' fields in place."""
    from viq.recipes import RECIPES

    if args.recipe not in RECIPES:
        near = difflib.get_close_matches(args.recipe, RECIPES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise InputError(f"no recipe named {args.recipe!r}{hint} there are: {', '.join(RECIPES)}")
    try:
        import tyro
    except ModuleNotFoundError as error:
        raise InputError("training needs one more package: pip install 'viq[train]'") from error
    default = RECIPES[args.recipe][args.stage]()
    return tyro.cli(type(default), default=default, args=args.overrides, prog="viq train")
