"""viq eval codes: how codes use their codebook, how stable they are, what neighbours decode to."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from viq.cli.evaluate.models import add_data, add_models
from viq.cli.evaluate.output import add_device, add_out, aggregating, check_out, check_plots, write
from viq.cli.options import add_max_pixels, positive
from viq.errors import InputError

if TYPE_CHECKING:
    from viq.store import CodeDataset
    from viq.tokenizer import Tokenizer

STABILITY = 32
TITLE = "Codes"


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    parser = kinds.add_parser(
        "codes",
        help="usage of the codebook, stability, equality, and what neighbouring codes decode to",
        description="Counts how codes use their codebook and its digits, how many stay what they\n"
        "are when a picture changes a little, and whether a picture gets the same codes however\n"
        "it is encoded; draws what neighbouring codes decode to. Of a code data set, usage is\n"
        "counted without a model. A stopped evaluation goes on when it is repeated.",
        epilog="examples:\n"
        "  viq eval codes --data photos/ --model nano --out results/codes\n"
        "  viq eval codes --data codes/ --out results/codes-of-data   # a code data set",
    )
    add_data(parser, ", or a code data set, of which --count takes the first")
    add_models(parser, required=False)
    parser.add_argument(
        "--stability",
        type=positive,
        default=STABILITY,
        metavar="N",
        help="so many of the pictures are changed and encoded again, some 15 times each"
        f" (default: {STABILITY})",
    )
    add_max_pixels(parser)
    add_device(parser)
    add_out(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Does what is missing, and writes the document."""
    from viq.cli.evaluate.models import load_models
    from viq.cli.paths import make_folder
    from viq.evaluation.pictures import TEXT
    from viq.evaluation.subjects import Model
    from viq.store import is_code_dataset

    check_plots()
    if args.data != TEXT:
        check_out(args.out, args.data)
    is_codes = is_code_dataset(Path(args.data))
    if not is_codes and not args.models:
        raise InputError("pictures need a tokenizer: add --model", f"--data {args.data}")
    models = load_models(args.models, args.device, max_pixels=args.max_pixels)
    for name, tokenizer in models.items():
        Model(name, tokenizer)  # refuses one that has no codes
    make_folder(args.out)
    failed, done = (_of_codes if is_codes else _of_pictures)(args, models)
    if not failed:
        return 0
    return 1 if failed < done else 2


def _of_pictures(args: argparse.Namespace, models: "dict[str, Tokenizer]") -> tuple[int, int]:
    """Writes the document; how many pictures failed, and how many there are."""
    from tqdm import tqdm

    from viq.cli.evaluate.models import named_models
    from viq.evaluation.codes.runner import CodeEvaluation, found_neighbours, found_usage
    from viq.evaluation.pictures import choice, open_pictures, unread
    from viq.evaluation.samples import Samples

    pictures = open_pictures(args.data, args.split, args.count)
    asked = CodeEvaluation(
        models=models,
        where=named_models(args.models),
        pictures=pictures,
        names=choice(pictures.names, args.count),
        stability=args.stability,
        max_pixels=args.max_pixels,
        device=args.device,
    )
    failures: dict[str, str] = {}
    with Samples.open(args.out, asked.asked()) as samples:
        with tqdm(
            total=asked.steps(), unit="step", leave=False, file=sys.stderr, disable=None
        ) as bar:
            for title, errors in asked.run(samples, args.out):
                bar.set_postfix_str(title)
                bar.update()
                for error in errors:
                    if title not in failures:  # another model finds the same
                        tqdm.write(f"viq: error: {error}", file=sys.stderr)
                    failures[title] = str(error)
        with aggregating(args.out):
            usages = asked.usages(samples)
            if not usages:
                raise InputError("no picture could be encoded", args.data)
            tables, figures = found_usage(usages, args.out)
            measured = asked.tables(samples)
            near, sheets, notes = found_neighbours(samples, args.out, models)
            drawn = asked.figures(samples, measured, args.out)
        done = [name for name in asked.names if name not in failures]
        left_out = unread(asked.names, done)
        write(
            args,
            "codes",
            TITLE,
            tables=(*tables, *measured, *near),
            figures=(*figures, *drawn, *sheets),
            notes=(
                f"{pictures.titled(done)}; stability is measured on"
                f" {len(set(asked.changed) & set(done)):,} of them.{left_out}",
                *asked.notes(),
                *notes,
            ),
            data={"fingerprints": {name: one.fingerprint for name, one in models.items()}},
        )
    return len(failures), len(asked.names)


def _of_codes(args: argparse.Namespace, models: "dict[str, Tokenizer]") -> tuple[int, int]:
    """The same of a code data set."""
    from tqdm import tqdm

    from viq.evaluation.codes import neighbours
    from viq.evaluation.codes.runner import (
        dataset_identity,
        dataset_usage,
        draw_neighbours,
        found_neighbours,
        found_usage,
        identity,
    )
    from viq.evaluation.samples import Samples
    from viq.store import CodeDataset

    if args.split is not None:
        raise InputError("a code data set is read whole; leave --split out", args.data)
    dataset = CodeDataset(args.data)
    _check_fingerprints(dataset, models)
    total = min(len(dataset), args.count or sys.maxsize)
    with tqdm(total=total, unit="image", leave=False, file=sys.stderr, disable=None) as bar:
        usage = dataset_usage(dataset, args.count, bar.update)
    if not usage.pictures:
        raise InputError("has no images", args.data)
    fingerprint = dataset.info.fingerprint
    names = list(models) or [f"codes of {fingerprint[:12]}"]
    tables, figures = found_usage(dict.fromkeys(names, usage), args.out)
    first = next(codes for row in dataset.images() for codes in row)
    asked = {
        "evaluation": "codes",
        "data": dataset_identity(dataset),
        "models": {name: identity(name, tokenizer) for name, tokenizer in models.items()},
    }
    with Samples.open(args.out, asked) as samples:
        for place, (name, tokenizer) in enumerate(models.items()):
            draw_neighbours(samples, args.out, place, name, tokenizer, first)
        with aggregating(args.out):
            near, sheets, notes = found_neighbours(samples, args.out, models)
    figures.append(neighbours.code_map(first, None, args.out / "map-0.png", names[0]))
    number = f"{usage.pictures:,} images"
    if not models:
        notes.append("No model was given, so nothing is said of what codes decode to.")
    write(
        args,
        "codes",
        TITLE,
        tables=(*tables, *near),
        figures=(*figures, *sheets),
        notes=(
            f"A code data set: {Path(args.data).resolve().name}, {number}, tokenizer"
            f" {fingerprint[:12]}. It has no pictures to change or to encode again, so stability"
            " and equality were not measured.",
            *notes,
        ),
        data={"fingerprints": dict.fromkeys(names, fingerprint)},
    )
    return 0, usage.pictures


def _check_fingerprints(dataset: "CodeDataset", models: "dict[str, Tokenizer]") -> None:
    """Sees to it that the codes are these models'."""
    from viq.errors import FingerprintError

    for tokenizer in models.values():
        if tokenizer.fingerprint != dataset.info.fingerprint:
            raise FingerprintError(
                tokenizer.fingerprint, dataset.info.fingerprint, dataset.files[0]
            )
