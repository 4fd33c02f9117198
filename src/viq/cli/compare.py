"""viq compare: originals beside what codes, JPEG and WebP keep of them in as many bytes."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from viq.cli.options import add_max_pixels, add_tokenizer, load_tokenizer
from viq.cli.paths import INPUTS_HELP, PICTURES, find, make_folder, refuse_inputs, whole_file
from viq.errors import ImageError, InputError

if TYPE_CHECKING:
    from PIL import Image

    from viq.image.sheet import Row
    from viq.tokenizer import Tokenizer

CELL_SIDE = 320  # pixels
MOST_ROWS = 40  # of the sheet; the table has all
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
METHODS = ("viq", "jpeg", "webp")


class Result(NamedTuple):
    """What one method makes of one image."""

    method: str
    bytes: int
    bpp: float  # bits per pixel of the original
    psnr: float  # dB; infinite where nothing is lost
    ssim: float
    reduction: int = 1  # sides were divided by this before encoding


class Comparison(NamedTuple):
    """One image by all methods; without those that have no file so small."""

    path: Path
    size: tuple[int, int]  # (H, W)
    results: list[Result]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "compare",
        help="put originals beside decoded codes, JPEG and WebP of as many bytes",
        description="Encodes and decodes images, and makes a JPEG and a WebP of each with at most\n"
        "as many bytes as its codes. Those are given every chance: of all qualities and, with the\n"
        "picture scaled down to 1/2, 1/3 ... and up again, of all sizes the best is taken. Prints\n"
        "a table and writes a sheet of pictures.",
        epilog="examples:\n"
        "  viq compare photo.jpg --out sheet.png\n"
        "  viq compare photos/ --out sheet.png --json > results.json",
    )
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help=INPUTS_HELP)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.png", help="where the sheet goes"
    )
    parser.add_argument("--json", action="store_true", help="print JSON; sizes: [height, width]")
    add_tokenizer(parser)
    add_max_pixels(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compares all images, those that can be read."""
    from viq.cli.progress import Report
    from viq.image.sheet import sheet

    if args.out.suffix.lower() not in SUFFIXES:
        raise InputError(f"the sheet's name must end in {', '.join(SUFFIXES)}", args.out)
    paths = [found.path for found in find(args.inputs, PICTURES)]
    refuse_inputs([args.out], paths)
    tokenizer = load_tokenizer(args)
    make_folder(args.out.parent)
    comparisons: list[Comparison] = []
    rows: list[Row] = []
    with Report("compared", len(paths)) as report:
        for path in paths:
            try:
                comparison, row = compare(path, tokenizer, max_pixels=args.max_pixels)
            except ImageError as error:
                report.failure(path, error)
                continue
            comparisons.append(comparison)
            rows += [row] if len(rows) < MOST_ROWS else []
            report.success()
    if comparisons:
        print(_as_json(comparisons) if args.json else _as_table(comparisons))
        with whole_file(args.out) as temporary:
            sheet(["original", *METHODS], rows, cell_side=CELL_SIDE).save(temporary)
    elif args.json:
        print(_as_json(comparisons))
    report.summary()
    return report.status


def compare(
    path: Path, tokenizer: "Tokenizer", *, max_pixels: int | None = None
) -> "tuple[Comparison, Row]":
    """One image by all methods, as numbers and as a row of the sheet.

    Raises:
        ImageError: the image cannot be read or encoded.
    """
    from viq.cli.progress import hushed
    from viq.image import load_image
    from viq.image.sheet import Cell, Row, shrink
    from viq.metrics.codecs import CODECS, at_bytes

    with hushed():
        original = load_image(path)
    codes = tokenizer.encode(tokenizer.prepare(original, max_pixels=max_pixels))
    pictures: list[tuple[str, int, int, Image.Image]] = [
        ("viq", codes.nbytes, 1, tokenizer.decode(codes))
    ]
    pictures += [
        (method, found.num_bytes, found.reduction, found.image)
        for method in METHODS[1:]
        if (found := at_bytes(original, CODECS[method], codes.nbytes)) is not None
    ]
    results = [measure(original, image, name, size, by) for name, size, by, image in pictures]
    cells = {
        result.method: Cell(shrink(image, CELL_SIDE), _caption(result))
        for result, (*_, image) in zip(results, pictures, strict=True)
    }
    none = Cell(None, f"no file has {codes.nbytes:,} bytes or less")
    shown = [Cell(shrink(original, CELL_SIDE), f"{original.width} x {original.height}")]
    shown += [cells.get(method, none) for method in METHODS]
    return Comparison(path, codes.original_size, results), Row(path.name, shown)


def measure(
    original: "Image.Image", image: "Image.Image", method: str, num_bytes: int, reduction: int = 1
) -> Result:
    """How close an image comes to the original, and at what cost."""
    import numpy as np

    from viq.metrics.quality import psnr, ssim
    from viq.metrics.rate import bits_per_pixel

    first, second = np.asarray(original), np.asarray(image)
    return Result(
        method=method,
        bytes=num_bytes,
        bpp=bits_per_pixel(num_bytes, (original.height, original.width)),
        psnr=psnr(first, second),
        ssim=ssim(first, second),
        reduction=reduction,
    )


def _caption(result: Result) -> str:
    reduced = f", at 1/{result.reduction} size" if result.reduction > 1 else ""
    return f"{result.bytes:,} bytes, {result.bpp:.3f} bpp, {result.psnr:.1f} dB{reduced}"


def means(comparisons: Sequence[Comparison]) -> dict[str, dict[str, float]]:
    """For each method the number of its images and the means over them."""
    found = {}
    for method in METHODS:
        results = [r for one in comparisons for r in one.results if r.method == method]
        if results:
            found[method] = {"images": len(results)} | {
                name: fmean(getattr(result, name) for result in results)
                for name in ("bytes", "bpp", "psnr", "ssim")
            }
    return found


def _as_table(comparisons: Sequence[Comparison]) -> str:
    from viq.cli.progress import table

    def numbers(of: dict[str, Any]) -> list[str]:
        return [f"{of['bytes']:,.0f}", f"{of['bpp']:.3f}", f"{of['psnr']:.2f}", f"{of['ssim']:.4f}"]

    rows = []
    for path, (height, width), results in comparisons:
        found = {result.method: result for result in results}
        for method in METHODS:
            row = [str(path), f"{width}x{height}", method]
            if (result := found.get(method)) is None:
                rows.append([*row, "-", "-", "-", "-", "none so small"])
            else:
                by = result.reduction
                note = f"at 1/{by} size" if by > 1 else ""
                rows.append([*row, *numbers(result._asdict()), note])
    for method, mean in means(comparisons).items():
        rows.append([f"mean of {mean['images']}", "", method, *numbers(mean), ""])
    return table(["image", "size", "method", "bytes", "bpp", "PSNR", "SSIM", "note"], rows)


def _as_json(comparisons: Sequence[Comparison]) -> str:
    def finite(of: dict[str, Any]) -> dict[str, Any]:
        # JSON has no infinity, the PSNR of an image that lost nothing.
        return {key: None if value == math.inf else value for key, value in of.items()}

    images = [
        {
            "path": str(path),
            "size": size,
            "results": [finite(result._asdict()) for result in results],
        }
        for path, size, results in comparisons
    ]
    mean = {method: finite(values) for method, values in means(comparisons).items()}
    return json.dumps({"images": images, "mean": mean}, indent=2)
