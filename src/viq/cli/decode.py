"""viq decode: .viq files to images."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viq.cli.options import add_tokenizer, load_tokenizer
from viq.cli.paths import CODES, INPUTS_HELP, Job, make_folder, plan, whole_file
from viq.errors import FingerprintError, InputError, ModelError

if TYPE_CHECKING:
    from viq.cli.progress import Report
    from viq.tokenizer import Tokenizer

FORMATS: dict[str, dict[str, Any]] = {"png": {}, "jpg": {"quality": 95}, "webp": {"quality": 95}}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "decode",
        help="turn codes into images",
        description="Decodes .viq files, each to one picture of the original's size. For each it\n"
        "prints the picture's file and its width x height.",
        epilog="examples:\n"
        "  viq decode codes/photo.viq --out decoded/        # decoded/photo.png\n"
        "  viq decode codes/ --out decoded/ --format webp   # codes/a/b.viq -> decoded/a/b.webp",
    )
    parser.add_argument("inputs", nargs="+", metavar="CODES", help=INPUTS_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where images go")
    parser.add_argument(
        "--format", choices=FORMATS, default="png", help="png is the default and loses nothing"
    )
    add_tokenizer(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decodes all inputs, those that can be."""
    from viq.cli.progress import Report

    jobs = plan(args.inputs, args.out, f".{args.format}", CODES)
    tokenizer = load_tokenizer(args)
    make_folder(args.out)
    with Report("decoded", len(jobs)) as report:
        for job in jobs:
            _decode(job, tokenizer, FORMATS[args.format], report)
    report.summary()
    return report.status


def _decode(job: Job, tokenizer: "Tokenizer", options: dict[str, Any], report: "Report") -> None:
    from viq.codes import Codes

    try:
        codes = Codes.load(job.source)
        image = tokenizer.decode(codes)
        make_folder(job.target.parent)
        with whole_file(job.target) as temporary:
            image.save(temporary, **options)
    except FingerprintError as error:  # the tokenizer knows the codes, not their file
        report.failure(job.source, FingerprintError(error.expected, error.found, job.source))
    except ModelError:  # which no other file can mend
        raise
    except InputError as error:
        report.failure(job.source, error)
    else:
        report.success(f"{job.target}  {image.width}x{image.height}")
