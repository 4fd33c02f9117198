"""viq extract: a data set of images to a data set of codes."""

import argparse
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viq.cli.options import add_max_pixels, add_tokenizer, check_device, positive
from viq.errors import InputError

if TYPE_CHECKING:
    from viq.extraction.job import Engine, Job
    from viq.extraction.report import Progress
    from viq.extraction.summary import Summary
    from viq.extraction.unit import Settings


LINE_SECONDS = 60  # between lines of progress, where there is no terminal for a bar


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "extract",
        help="turn a data set of images into a data set of codes",
        description="Encodes all images of a data set once. SOURCE is a folder of images, Parquet\n"
        "files, WebDataset shards, or LLaVA's JSON with image paths; a path, a pattern or an\n"
        "fsspec URL. DIR becomes a data set of Parquet files with all columns of the source but\n"
        "the pictures, and codes, grid_sizes, original_sizes and encoded_sizes of its images.\n\n"
        "Rows with an image that cannot be read go to DIR/errors.parquet, with the reason. A job\n"
        "that was interrupted goes on when it is repeated, and a finished one does nothing.",
        epilog="examples:\n"
        "  viq extract photos/ --out codes/\n"
        "  viq extract 'shards/train-*.tar' --out codes/ --device cuda --dtype bfloat16\n"
        "  viq extract llava.json --image-root images/ --out codes/ --max-pixels 590000\n"
        "  viq extract s3://bucket/table.parquet --out codes/ --workers 8 --price-per-hour 0.9\n"
        "  viq extract data/ --out /shared/codes --engine ray --ray-address auto --workers 32\n\n"
        "The exit code is 0 when all is done, 1 when some rows could not be read, 2 when the data\n"
        "set is not complete, 130 when interrupted.",
    )
    parser.add_argument("source", type=name, metavar="SOURCE", help="where the images are")
    parser.add_argument("--out", type=folder, required=True, metavar="DIR", help="where codes go")
    add_tokenizer(parser)
    add_max_pixels(parser)
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes, or with --engine ray actors (default: one a GPU or one a CPU core; with"
        " Ray as many as there is room for)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where workers run: on this machine, or on a Ray cluster, all of whose machines must"
        " see SOURCE and DIR under the same names (default: local)",
    )
    parser.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of the cluster, 'auto' on one of its machines (default: RAY_ADDRESS, or a Ray of"
        " this machine alone)",
    )
    numbers = (
        ("--batch-patches", 4096, "patches that run at once; bounds memory"),
        ("--rows-a-unit", 1000, "rows that are one unit of work and one file, where that is free"),
        ("--threads", 1, "threads of each worker's network on a CPU"),
        ("--readers", 4, "threads of each worker that decode images"),
    )
    for flag, default, what in numbers:
        parser.add_argument(
            flag, type=positive, default=default, metavar="N", help=f"{what} (default: %(default)s)"
        )
    parser.add_argument(
        "--image-root", type=name, metavar="DIR", help="where image paths of rows begin"
    )
    parser.add_argument(
        "--price-per-hour",
        type=price,
        metavar="P",
        help="of one worker, in any money: the summary then has the price of a million images",
    )
    parser.add_argument(
        "--retry-errors",
        action="store_true",
        help="do units with rows that could not be read once more",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    parser.add_argument(
        "--json", action="store_true", help="print the summary, or the plan, as JSON"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Extracts what is not there yet."""
    from viq.extraction.job import ERRORS_FILE, Job

    settings = _settings(args)
    engine = _engine(args)
    if args.dry_run:
        return _dry_run(args, settings)
    with Job(
        args.source,
        Path(args.out),
        settings,
        rows_a_unit=args.rows_a_unit,
        image_root=args.image_root,
        retry_errors=args.retry_errors,
    ) as job:
        if not job.missing:
            units = _count(job.work.source.units, "unit")
            print(f"{job.folder}: nothing to do, {units} of work done before", file=sys.stderr)
        try:
            _run(job, engine)
        except KeyboardInterrupt:
            print("what is done is kept; repeat the command to go on", file=sys.stderr)
            raise
        summary = job.finish()
    figures = summary.to_dict(args.price_per_hour)
    print(json.dumps(figures) if args.json else _text(summary, figures))
    _warn(summary, job.folder / ERRORS_FILE)
    return 1 if summary.errors else 0


def _warn(summary: "Summary", errors: Path) -> None:
    from viq.data.rows import IMAGE_COLUMNS, SINGLE_IMAGE_COLUMNS

    if summary.errors:
        rows = _count(summary.errors, "row")
        text = f"viq: error: {rows} cannot be read, see {errors}; the first: {summary.first_error}"
        print(" ".join(text.splitlines()), file=sys.stderr)
    elif not summary.images:
        print(
            "viq: warning: no row has an image; in Parquet and JSON they are looked for in columns"
            f" {', '.join(IMAGE_COLUMNS)}, in Parquet else in {', '.join(SINGLE_IMAGE_COLUMNS)}",
            file=sys.stderr,
        )


def _settings(args: argparse.Namespace) -> "Settings":
    from viq.extraction.unit import Settings

    # With Ray, GPUs may be on other machines alone.
    if args.engine == "local" or not args.device.startswith("cuda"):
        check_device(args.device)
    names = ("model", "max_pixels", "dtype", "device", "batch_patches", "threads", "readers")
    return Settings(**{name: getattr(args, name) for name in names})


def _engine(args: argparse.Namespace) -> "Engine":
    if args.engine == "ray":
        from viq.extraction.ray import RayEngine

        return RayEngine(args.workers, args.ray_address)
    if args.ray_address is not None:
        raise InputError("--ray-address is of use with --engine ray alone")
    from viq.extraction.local import LocalEngine

    return LocalEngine(args.workers)


def _run(job: "Job", engine: "Engine") -> None:
    """Does the units, with a bar of rows where their number is known, and of units elsewhere."""
    from tqdm import tqdm

    start, unit = time.monotonic(), "unit" if job.rows is None else "row"
    with (
        closing(job.run(engine)) as steps,  # before anything else is tidied up, workers end
        tqdm(
            total=job.rows or job.work.source.units,
            initial=getattr(job.before, f"{unit}s"),
            unit=unit,
            dynamic_ncols=True,
            leave=False,
            file=sys.stderr,
            disable=None,  # unless stderr is no terminal
        ) as bar,
    ):
        told = start
        for progress in steps:
            now, done = time.monotonic(), getattr(progress, f"{unit}s")
            rates = _rates(progress, job.before, now - start)
            if not bar.disable:
                bar.set_postfix_str(rates, False)
                bar.update(done - bar.n)
            elif now - told > LINE_SECONDS:
                told = now
                print(f"{done:,} of {bar.total:,} {unit}s, {rates}", file=sys.stderr, flush=True)


def _rates(progress: "Progress", before: "Progress", seconds: float) -> str:
    images = (progress.images - before.images) / max(seconds, 1e-9)
    pixels = (progress.pixels - before.pixels) / max(seconds, 1e-9)
    return f"{images:.1f} images/s, {pixels / 1e6:.2f} Mpix/s, {progress.errors} errors"


def _dry_run(args: argparse.Namespace, settings: "Settings") -> int:
    from tempfile import TemporaryDirectory

    from viq.extraction.job import count_rows, find_folder, look, plan

    folder = find_folder(Path(args.out), args.source)
    with TemporaryDirectory() as listing:
        work = plan(
            args.source,
            folder,
            settings,
            rows_a_unit=args.rows_a_unit,
            image_root=args.image_root,
            listing=Path(listing),
        )
        source, rows = work.source, count_rows(work.source)
        missing, _ = look(folder, source.units, retry_errors=args.retry_errors)
    plans: dict[str, Any] = {
        "source": args.source,
        "kind": source.kind,
        "rows": rows,
        "columns": {field.name: str(field.type) for field in source.schema},
        "units": source.units,
        "missing_units": len(missing),
        "model": args.model,
        "fingerprint": work.info.fingerprint,
        "dtype": work.settings.dtype,
        "max_pixels": work.settings.max_pixels,
        "out": args.out,
    }
    if args.json:
        print(json.dumps(plans))
        return 0
    lines = {
        "source": f"{args.source} ({source.kind})",
        "rows": "not known before they are read" if rows is None else f"{rows:,}",
        "columns": ", ".join(f"{name}: {kind}" for name, kind in plans["columns"].items()),
        "units": f"{source.units:,}, of which {len(missing):,} are to be done",
        "model": f"{args.model} ({work.info.fingerprint[:12]}), {work.settings.dtype}",
        "max_pixels": f"{work.settings.max_pixels:,}",
        "out": args.out,
    }
    print(_columns(lines))
    return 0


def _text(summary: "Summary", figures: dict[str, Any]) -> str:
    lines = {
        "rows": f"{summary.rows:,}",
        "errors": f"{summary.errors:,}",
        "images": f"{summary.images:,}, {figures['megapixels']:,.2f} megapixels",
        "codes": f"{summary.codes:,}, {summary.bytes_a_code:.3f} bytes each,"
        f" {summary.bits_per_pixel:.3f} bits per pixel",
        "on disk": f"{summary.file_bytes:,} bytes",
    }
    if summary.new_units:
        lines["this run"] = (
            f"{_count(summary.new_units, 'unit')} of {summary.units:,} in {summary.seconds:.1f} s,"
            f" {figures['images_per_second']:.1f} images/s,"
            f" {figures['megapixels_per_second']:.2f} Mpix/s"
        )
    cost = f"{summary.hours_a_million:,.2f} worker-hours"
    if "price_per_million_images" in figures:
        cost += f", {figures['price_per_million_images']:,.2f} in money"
    lines["a million images"] = cost
    return _columns(lines)


def _columns(lines: dict[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines.items())


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def name(text: str) -> str:
    if not text:  # an unset variable, not the current folder
        raise argparse.ArgumentTypeError("is empty text")
    return text


def folder(text: str) -> str:
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is a URL; codes go to a folder, which all workers can see"
        )
    return name(text)


def price(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a price")
    return value
