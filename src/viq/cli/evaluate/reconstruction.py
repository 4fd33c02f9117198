"""viq eval reconstruction: what comes back of pictures, and at what rate."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from viq.cli.evaluate.models import add_data, add_models
from viq.cli.evaluate.output import add_device, add_dtype, add_out, tell
from viq.cli.options import add_max_pixels
from viq.errors import InputError

if TYPE_CHECKING:
    from viq.evaluation.reconstruction.runner import Reconstruction
    from viq.evaluation.subjects import Subject

CODEC_CHOICES = ("jpeg", "webp", "avif", "jpeg-xl")
PROTOCOL_CHOICES = ("native", "256")
RAW_BPP = 24  # of pixels as they are


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    parser = kinds.add_parser(
        "reconstruction",
        help="what comes back of pictures: PSNR, SSIM, distances, text, and the rate",
        description="Encodes and decodes pictures and measures what comes back. Models,\n"
        "folders of pictures decoded elsewhere, and codecs stand in one table, each with its bits\n"
        "per pixel. Codecs get as many bytes for each picture as the codes of the first --model\n"
        "take, or --bpp. A stopped evaluation goes on when it is repeated.",
        epilog="examples:\n"
        "  viq eval reconstruction --data photos/ --model nano --codec jpeg --out results/photos\n"
        "  viq eval reconstruction --data text --model nano --out results/text\n"
        "  viq eval reconstruction --data imagenet/ --split validation --protocol 256 \\\n"
        "      --model nano --decoded other=decoded/ --out results/imagenet",
    )
    add_data(parser)
    add_models(parser, required=False)
    parser.add_argument(
        "--decoded",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="decoded pictures, called as the originals are but for the suffix; may be repeated;"
        " rates.json in it may say how many bytes each took",
    )
    parser.add_argument(
        "--codec",
        action="append",
        default=[],
        dest="codecs",
        choices=CODEC_CHOICES,
        help="a file format to compare with; may be repeated",
    )
    parser.add_argument("--bpp", type=float, metavar="X", help="bits per pixel for the codecs")
    parser.add_argument(
        "--protocol",
        action="append",
        default=[],
        dest="protocols",
        choices=PROTOCOL_CHOICES,
        help="pictures as they are, or the central 256 x 256 of those with the shorter side scaled"
        " to 256; both by default, of text the first",
    )
    parser.add_argument("--lpips", metavar="FOLDER", help="measure LPIPS, with these weights")
    parser.add_argument("--dists", metavar="FOLDER", help="measure DISTS, with these weights")
    parser.add_argument(
        "--hed",
        choices=("256", "all", "no"),
        default="256",
        help="where to measure the distance on the edge network, which takes seconds a picture at"
        " native size (default: 256)",
    )
    parser.add_argument(
        "--inception",
        metavar="FILE",
        help="Inception's weights for rFID by torch-fidelity (default: those in torch hub's cache)",
    )
    parser.add_argument("--no-ocr", action="store_true", help="do not read the text in pictures")
    parser.add_argument(
        "--curves", action="store_true", help="plot rate against distortion, of 24 pictures"
    )
    add_out(parser)
    add_max_pixels(parser)
    add_device(parser)
    add_dtype(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures all pictures, those that can be read."""
    from viq.cli.evaluate.output import aggregating, check_out, check_plots, write
    from viq.cli.paths import make_folder
    from viq.cli.progress import Report
    from viq.evaluation.pictures import TEXT
    from viq.evaluation.reconstruction.curves import Curves
    from viq.evaluation.reconstruction.sheets import sheets
    from viq.evaluation.reconstruction.tables import tables
    from viq.evaluation.samples import Samples
    from viq.evaluation.subjects import Decoded

    if args.curves:
        check_plots()
    asked, notes = _asked(args)
    decoded = [one.folder for one in asked.subjects if isinstance(one, Decoded)]
    check_out(args.out, *([] if args.data == TEXT else [args.data]), *decoded)
    make_folder(args.out)
    status = 0
    with Samples.open(args.out, asked.asked()) as samples:
        with Report("evaluated", len(asked.names)) as report:
            for name, errors in asked.run(samples):
                tell(report, name, errors)
        if report.status == 2:
            report.summary()
            return report.status
        with aggregating(args.out):
            if not (found := tables(asked, samples)):
                raise InputError("nothing came back of any picture: no file is so small", args.out)
            figures, title = sheets(asked, samples, args.out), asked.title(samples)
        if args.curves:
            curves = Curves(asked=asked, codecs=args.codecs)
            with Report("measured the curves of", len(curves.names)) as bars:
                for name, errors in curves.run(samples):
                    tell(bars, name, errors)
            status = bars.status
            with aggregating(args.out):
                found.append(curves.table(samples))
                figures += curves.figures(samples, args.out)
    write(
        args,
        "reconstruction",
        f"Reconstruction: {title}",
        tables=found,
        figures=figures,
        notes=notes,
        data={"failed": report.failed},
    )
    report.summary()
    return max(status, report.status)


def _asked(args: argparse.Namespace) -> "tuple[Reconstruction, list[str]]":
    """What is to be evaluated, and notes on it.

    Raises:
        InputError: the options do not fit together, or something they name is not there.
    """
    from viq.evaluation.pictures import TEXT, choice, open_pictures
    from viq.evaluation.reconstruction.measures import load_measures
    from viq.evaluation.reconstruction.runner import ORIGINAL, PROTOCOLS, Reconstruction
    from viq.evaluation.subjects import Decoded, Model, check
    from viq.metrics.codecs import CODECS

    text = args.data == TEXT
    if text and "256" in args.protocols:
        raise InputError("lines of text would be cut off; they have native size only", "256")
    pictures = open_pictures(args.data, args.split, args.count)
    wanted = args.protocols or (["native"] if text else PROTOCOLS)
    subjects = _subjects(args)
    # Curves are called by their codec.
    curves = [CODECS[codec].name for codec in args.codecs] if args.curves else []
    check([subject.name for subject in subjects], [ORIGINAL, *curves])
    for subject in subjects:
        if isinstance(subject, Decoded):
            subject.check(pictures.names)
    measures, notes = load_measures(
        lpips=args.lpips,
        dists=args.dists,
        hed=args.hed,
        inception=args.inception,
        ocr=not args.no_ocr,
        device=args.device,
    )
    limits = [one.tokenizer.config.image.max_pixels for one in subjects if isinstance(one, Model)]
    limit = args.max_pixels or min(limits, default=2048**2)
    notes.insert(
        0,
        "Native size: pictures as they are, those of more than"
        f" {limit:,} pixels scaled down to so many first. 256 × 256: the shorter side scaled to"
        " 256 pixels (bicubic), then the central square.",
    )
    asked = Reconstruction(
        pictures=pictures,
        names=choice(pictures.names, args.count),
        subjects=subjects,
        measures=measures,
        protocols=[protocol for protocol in PROTOCOLS if protocol in wanted],
        max_pixels=limit,
    )
    return asked, notes


def _subjects(args: argparse.Namespace) -> "list[Subject]":
    from viq.cli.evaluate.models import load_models
    from viq.evaluation.subjects import Codec, Decoded, Model

    loaded = load_models(args.models, args.device, dtype=args.dtype, max_pixels=args.max_pixels)
    models = [Model(name, tokenizer) for name, tokenizer in loaded.items()]
    folders = []
    for text in args.decoded:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise InputError("give NAME=FOLDER, such as vqgan=decoded/", f"--decoded {text}")
        folders.append(Decoded(name, Path(folder)))
    if args.bpp is not None and not (0 < args.bpp <= RAW_BPP and args.codecs):
        raise InputError(
            f"is for a --codec, more than 0 and at most {RAW_BPP}", f"--bpp {args.bpp:g}"
        )
    if args.codecs and args.bpp is None and not models:
        raise InputError("codecs get the bytes that a model takes: give --model, or --bpp")
    beside = None if args.bpp is not None else models[0].name if models else None
    codecs = [Codec(codec, bpp=args.bpp, beside=beside) for codec in args.codecs]
    if not (subjects := [*models, *folders, *codecs]):
        raise InputError("there is nothing to evaluate: give --model, --decoded or --codec")
    return subjects
