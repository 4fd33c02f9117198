"""viq train: one stage of the method, by recipe, every field of which is also a flag."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

from viq.errors import InputError
from viq.training import STAGES

STOPPED = 130  # the exit code after Ctrl-C or SIGTERM


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "train",
        help="train one stage; any field of the recipe is also a flag",
        description="Trains one stage of the method:\n"
        "  vae        a small image autoencoder, whose latents are what is regressed\n"
        "  contrast   a start model from captioned pictures, where there is no pretrained one\n"
        "  align      stage 1: any resolution, by a language model's answers and the start model\n"
        "  proximal   stage 2-1: through a bottleneck on the surface of a hypercube\n"
        "  quantize   stage 2-2: rounded to codes\n"
        "  decoder    pixels from codes\n"
        "  sft        a language model that sees, from codes or with an encoder in the loop\n"
        "  reconstruct  all of the tokenizer from pixels alone, without text",
        epilog="examples:\n"
        "  viq train vae --recipe debug --out runs/vae\n"
        "  viq train align --recipe nano --data corpus/ --start runs/contrast --out runs/align\n"
        "  viq train quantize --recipe nano --start runs/proximal --out runs/quantize --dry-run\n"
        "  viq train quantize --recipe nano --start runs/proximal --out runs/quantize --resume\n"
        "  viq train align --recipe nano --help-fields     # what can be overridden\n"
        "  viq extract pictures/ --max-pixels 262144 --out codes/\n"
        "  viq train sft --recipe nano --start nano --data codes/ --out runs/sft\n"
        "  viq train sft --recipe nano --start nano --data pictures/ --vision quantized --out ...\n"
        "  accelerate launch --num-processes 8 -m viq.cli.main train align --recipe so400m ...\n\n"
        "What --data, --held-out, --teacher, --vae, --lm and --vision-model do not name is taken\n"
        "from the run that --start names. Stage sft sees with what --start names, unless\n"
        "--vision-model names another: a tokenizer (--vision codes or quantized), a tower\n"
        "(continuous) or a vision model of transformers (foreign).",
    )
    parser.add_argument("stage", choices=STAGES, help="which, as above")
    parser.add_argument("--recipe", default="nano", help="its name (default: nano)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--start", metavar="RUN", help="run of the stage before, or a saved model")
    parser.add_argument("--data", metavar="PATH", help="the data set: folder, Parquet, JSON, tar")
    parser.add_argument("--held-out", metavar="PATH", help="a data set to evaluate sft on")
    parser.add_argument("--teacher", metavar="DIR", help="frozen start model, a vision tower")
    parser.add_argument("--vae", metavar="DIR", help="autoencoder in diffusers' layout")
    parser.add_argument(
        "--lm",
        metavar="LM",
        help="language model: folder, hub id or 'smollm2'; behind a colon which layers are kept",
    )
    parser.add_argument(
        "--vision-model", metavar="MODEL", help="what sft sees with: folder, bundled name, hub id"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be trained, and stop"
    )
    parser.add_argument("--help-fields", action="store_true", help="list the recipe's fields")
    parser.set_defaults(run=run, takes_overrides=True)


def run(args: argparse.Namespace) -> int:
    """Trains, or goes on training."""
    _check_installed()
    from viq.training.guard import StoppedError
    from viq.training.launch import launch, plan, with_inputs_of_start
    from viq.training.stage import Inputs

    recipe = _recipe(args.recipe)
    config = _config(args, recipe)
    _quieten()
    names = ("data", "held_out", "start", "teacher", "vae", "lm")
    places = {name: _absolute(getattr(args, name)) for name in names}
    inputs = with_inputs_of_start(Inputs(**places, vision=_absolute(args.vision_model)))
    if inputs.lm is None:
        inputs = replace(inputs, lm=recipe.lm)
    if args.dry_run:
        print(plan(args.stage, config, inputs))
    elif args.out is None:
        raise InputError("the run's folder is missing: give --out")
    else:
        try:
            launch(args.stage, config, inputs, args.out, resume=args.resume)
        except StoppedError as stopped:  # as asked; nothing went wrong
            print(f"viq: {stopped}", file=sys.stderr)
            return STOPPED
    return 0


def _absolute(where: str | None) -> str | None:
    """A path as it is found from any folder, for ``run.json``; other names as they are."""
    return str(Path(where).resolve()) if where is not None and Path(where).exists() else where


def _check_installed() -> None:
    from importlib.util import find_spec

    for name in ("accelerate", "datasets", "peft", "tensorboard", "transformers", "tyro"):
        if find_spec(name) is None:
            raise InputError(f"training needs {name}: pip install 'viq[train]'")


def _quieten() -> None:
    """Leaves out what libraries say of themselves: of loading two files, of peft's own calls."""
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)


def _recipe(name: str) -> Any:
    from viq.recipes import RECIPES

    if name not in RECIPES:
        raise InputError(f"no recipe named {name!r}{_hint(name, RECIPES)}")
    return RECIPES[name]


def _config(args: argparse.Namespace, recipe: Any) -> Any:
    """The recipe's config with the flags' fields in place."""
    import tyro

    if args.stage not in recipe.stages:
        there = ", ".join(recipe.stages)
        raise InputError(f"recipe {args.recipe} has no stage {args.stage}; there are: {there}")
    default, overrides = _without(recipe.stages[args.stage](), args.overrides)
    said = StringIO()
    try:
        with redirect_stderr(sys.stderr if args.help_fields else said):
            return tyro.cli(
                type(default),
                default=default,
                args=["--help"] if args.help_fields else overrides,
                prog="viq train",
                config=(tyro.conf.AvoidSubcommands,),  # what may be None has plain flags, too
            )
    except SystemExit as exit:
        if not exit.code:
            raise
        known = [f"--{name.replace('_', '-')}" for name in vars(args)]
        raise InputError(f"{_in_one_line(said.getvalue(), known)} (see --help-fields)") from exit


def _without(config: Any, overrides: list[str]) -> tuple[Any, list[str]]:
    """The config without the parts that ``--PART none`` leaves out, and all other overrides."""
    rest = list(overrides)
    for name in (f.name for f in fields(config) if str(f.type).endswith("| None")):
        flag = f"--{name.replace('_', '-')}"
        for at in range(len(rest) - 1):
            if rest[at] == flag and rest[at + 1].lower() == "none":
                try:
                    config = replace(config, **{name: None})
                except ValueError as error:  # its other fields need it
                    raise InputError(f"{flag} none: {error}") from error
                del rest[at : at + 2]
                break
    return config, rest


def _in_one_line(box: str, known: Iterable[str]) -> str:
    """tyro's message without its frame and title, and the nearest flag that it suggests."""
    rows = [line.strip("\u2502| ") for line in box.splitlines()]
    is_rule = [row[:1] in ("\u256d", "\u2570") or not re.search(r"\w", row) for row in rows]
    blocks: list[list[str]] = [[]]
    for row, rule in zip(rows, is_rule, strict=True):
        if not rule:
            blocks[-1].append(row)
        elif blocks[-1]:
            blocks.append([])
    if "\u256d" not in box:  # in plain letters the title is a row, not part of the frame
        del blocks[0]
    message = " ".join(blocks[0]).rstrip(".")
    message = re.sub(r"^Error parsing \w+Config: ", "", message)  # which no flag is called
    if "Unrecognized options" in message:
        message = message.replace("Unrecognized options", "unknown arguments")
        meant = [row.split()[0] for block in blocks[1:] for row in block if row.startswith("--")]
        wrong = next((word.strip(",") for word in message.split() if word.startswith("--")), "")
        meant = meant or difflib.get_close_matches(wrong, list(known), n=1)
        message += f"; did you mean {meant[0]}?" if meant else ""
    return message


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return (f"; did you mean {near[0]!r}?" if near else ";") + f" there are: {', '.join(known)}"
