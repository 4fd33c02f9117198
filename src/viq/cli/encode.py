"""viq encode: images to .viq files."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from viq.cli.options import add_max_pixels, add_tokenizer, load_tokenizer, positive
from viq.cli.paths import INPUTS_HELP, PICTURES, Job, make_folder, plan
from viq.errors import ImageError, InputError

if TYPE_CHECKING:
    from viq.cli.progress import Report
    from viq.codes import Codes
    from viq.image import Prepared
    from viq.tokenizer import Tokenizer

BATCH_PATCHES = 4096


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "encode",
        help="turn images into codes",
        description="Encodes images, each to one .viq file. For each it prints the file, the\n"
        "picture's and the grid's width x height, the number of codes, their bytes and the bits\n"
        "per pixel.",
        epilog="examples:\n"
        "  viq encode photo.jpg scan.png --out codes/   # codes/photo.viq, codes/scan.viq\n"
        "  viq encode photos/ --out codes/              # photos/a/b.jpg -> codes/a/b.viq\n"
        "  viq encode 'scans/*.tif' --out codes/ --max-pixels 1000000",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=INPUTS_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where codes go")
    add_tokenizer(parser)
    add_max_pixels(parser)
    parser.add_argument(
        "--batch-patches",
        type=positive,
        default=BATCH_PATCHES,
        metavar="N",
        help="patches that run at once; bounds memory and changes no code (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Encodes all inputs, those that can be."""
    from viq.cli.progress import Report

    jobs = plan(args.inputs, args.out, ".viq", PICTURES)
    tokenizer = load_tokenizer(args)
    make_folder(args.out)
    with Report("encoded", len(jobs)) as report:
        prepared = _prepare(jobs, tokenizer, args.max_pixels, report)
        for batch in _batches(prepared, args.batch_patches):
            images = [image for _, image in batch]
            results = tokenizer.encode(images, batch_patches=args.batch_patches)
            for (job, _), codes in zip(batch, results, strict=True):
                _save(job, codes, report)
    report.summary()
    return report.status


def _prepare(
    jobs: Iterable[Job], tokenizer: "Tokenizer", max_pixels: int | None, report: "Report"
) -> "Iterator[tuple[Job, Prepared]]":
    from viq.cli.progress import hushed

    for job in jobs:
        try:
            with hushed():
                prepared = tokenizer.prepare(job.source, max_pixels=max_pixels)
        except ImageError as error:
            report.failure(job.source, error)
        else:
            yield job, prepared


def _batches(
    images: "Iterable[tuple[Job, Prepared]]", batch_patches: int
) -> "Iterator[list[tuple[Job, Prepared]]]":
    """As many images at once as have ``batch_patches`` patches together, or one."""
    batch: list[tuple[Job, Prepared]] = []
    patches = 0
    for job, image in images:
        count = image.grid_size[0] * image.grid_size[1]
        if batch and patches + count > batch_patches:
            yield batch
            batch, patches = [], 0
        batch.append((job, image))
        patches += count
    if batch:
        yield batch


def _save(job: Job, codes: "Codes", report: "Report") -> None:
    try:
        make_folder(job.target.parent)
        codes.save(job.target)
    except InputError as error:
        report.failure(job.source, error)
        return
    (height, width), (rows, columns) = codes.original_size, codes.grid_size
    report.success(
        f"{job.target}  {width}x{height}  {columns}x{rows}  {codes.values.size} codes"
        f"  {codes.nbytes} bytes  {codes.bits_per_pixel:.3f} bpp"
    )
