"""viq eval reconstruction: what comes back of pictures, and at what rate."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from viq.cli.options import add_max_pixels, check_device, positive
from viq.errors import InputError, ModelError

if TYPE_CHECKING:
    from viq.cli.progress import Report
    from viq.evaluation.measures import Distance, Measures
    from viq.evaluation.reconstruction import Reconstruction
    from viq.evaluation.subjects import Subject

CODEC_CHOICES = ("jpeg", "webp", "avif", "jpeg-xl")
PROTOCOL_CHOICES = ("native", "256")
T = TypeVar("T")

DTYPES = ("float32", "bfloat16", "float16")


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
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        dest="models",
        metavar="M",
        help="bundled name, folder or Hugging Face id; may be repeated",
    )
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
    parser.set_defaults(run=run)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds --data, --split and --count."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="folder of pictures, Parquet file or folder of such, or text: lines that are drawn",
    )
    parser.add_argument("--split", help="of a folder (default of Parquet files: validation)")
    parser.add_argument(
        "--count", type=positive, metavar="N", help="N of the pictures, spread over all"
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds --out and --json."""
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where the results go"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device and --dtype."""
    parser.add_argument("--device", default="cpu", help="for example cuda (default: cpu)")
    parser.add_argument(
        "--dtype", default="float32", choices=DTYPES, help="of the models (default: float32)"
    )


def run(args: argparse.Namespace) -> int:
    """Measures all pictures, those that can be read."""
    from viq.cli.evaluate.output import print_document
    from viq.cli.paths import make_folder
    from viq.cli.progress import Report
    from viq.evaluation.curves import Curves
    from viq.evaluation.document import Document
    from viq.evaluation.provenance import Provenance
    from viq.evaluation.reconstruction_tables import tables
    from viq.evaluation.samples import Samples
    from viq.evaluation.sheets import sheets

    check_device(args.device)
    asked, notes = _asked(args)
    make_folder(args.out)
    status = 0
    with Samples.open(args.out, asked.asked()) as samples:
        with Report("evaluated", len(asked.names)) as report:
            for name, errors in asked.run(samples):
                tell(report, name, errors)
        if report.status == 2:
            report.summary()
            return report.status
        found, figures = tables(asked, samples), sheets(asked, samples, args.out)
        if args.curves:
            curves = Curves(asked=asked, codecs=args.codecs)
            with Report("measured the curves of", len(curves.names)) as bars:
                for name, errors in curves.run(samples):
                    tell(bars, name, errors)
            status = bars.status
            found.append(curves.table(samples))
            figures += curves.figures(samples, args.out)
    document = Document(
        kind="reconstruction",
        title=f"Reconstruction: {asked.title}",
        made=Provenance.now(["viq", *sys.argv[1:]], args.device),
        tables=tuple(found),
        figures=tuple(figures),
        notes=tuple(notes),
        data={"failed": report.failed},
    )
    document.save(args.out)
    print_document(document, args.json)
    report.summary()
    return max(status, report.status)


def tell(report: "Report", name: str, errors: Sequence[InputError]) -> None:
    """Counts a picture, as failed if anything went wrong with it."""
    if not errors:
        report.success()
    elif len(errors) == 1:
        report.failure(name, errors[0])
    else:
        report.failure(name, InputError("; ".join(map(str, errors)), name))


def _asked(args: argparse.Namespace) -> "tuple[Reconstruction, list[str]]":
    """What is to be evaluated, and notes on it.

    Raises:
        InputError: the options do not fit together, or something they name is not there.
    """
    from viq.evaluation.pictures import TEXT, choice, open_pictures
    from viq.evaluation.reconstruction import PROTOCOLS, Reconstruction
    from viq.evaluation.subjects import Model, check

    text = args.data == TEXT
    if text and "256" in args.protocols:
        raise InputError("lines of text would be cut off; they have native size only", "256")
    pictures = open_pictures(args.data, args.split, args.count)
    wanted = args.protocols or (["native"] if text else PROTOCOLS)
    subjects = _subjects(args)
    check([subject.name for subject in subjects])
    measures, notes = _measures(args)
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
    from viq.evaluation.subjects import Codec, Decoded, Model
    from viq.tokenizer import load

    models = [Model(m, load(m, device=args.device, dtype=args.dtype)) for m in args.models]
    folders = []
    for text in args.decoded:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise InputError("give NAME=FOLDER, such as vqgan=decoded/", f"--decoded {text}")
        folders.append(Decoded(name, Path(folder)))
    if args.bpp is not None and not (args.bpp > 0 and args.codecs):
        raise InputError("is for a --codec, and positive", f"--bpp {args.bpp:g}")
    if args.codecs and args.bpp is None and not models:
        raise InputError("codecs get the bytes that a model takes: give --model, or --bpp")
    beside = None if args.bpp is not None else models[0].name if models else None
    codecs = [Codec(codec, bpp=args.bpp, beside=beside) for codec in args.codecs]
    if not (subjects := [*models, *folders, *codecs]):
        raise InputError("there is nothing to evaluate: give --model, --decoded or --codec")
    return subjects


def _measures(args: argparse.Namespace) -> "tuple[Measures, list[str]]":
    """The measures that can be had, and notes on those that cannot."""
    from viq.evaluation.measures import EFFICIENTNET, INCEPTION, Measures, SetDistance
    from viq.external.features import load_features, pooled_features
    from viq.external.fidelity import load_fidelity
    from viq.external.ocr import load_ocr
    from viq.external.perceptual import HED, load_dists, load_perceptual
    from viq.image import to_pixels
    from viq.metrics.frechet import frechet_distance

    notes: list[str] = []

    def optional(what: str, load: Callable[[], T]) -> T | None:
        try:
            return load()
        except ModelError as error:
            notes.append(f"Not measured: {what} ({error}).")
            return None

    distances: dict[str, Distance] = {}
    names = {}
    if args.lpips:
        distances["lpips"], names["lpips"] = load_perceptual(args.lpips).to(args.device), args.lpips
    if args.dists:
        distances["dists"], names["dists"] = load_dists(args.dists).to(args.device), args.dists
    if args.hed != "no" and (hed := optional("hed distance", lambda: load_perceptual(HED))):
        distances[HED], names[HED] = hed.to(args.device), HED
        notes.append(
            "The hed distance is LPIPS's without its heads, on a VGG16 that was tuned to find"
            " edges: it is not LPIPS."
            + (" It is measured at 256 × 256 only (--hed all: everywhere)." * (args.hed == "256"))
        )
    sets = {}
    if features := optional("Fréchet distance", lambda: load_features(EFFICIENTNET)):
        network = features.to(args.device)
        sets[EFFICIENTNET] = SetDistance(
            lambda image: pooled_features(network, [to_pixels(image).to(args.device)]),
            frechet_distance,
        )
    if fidelity := optional("rFID", lambda: load_fidelity(args.inception, args.device)):
        sets[INCEPTION] = SetDistance(lambda image: fidelity.features([image]), fidelity.distance)
    ocr = None if args.no_ocr else optional("OCR character error", load_ocr)
    measures = Measures(
        distances=distances,
        distance_names=names,
        only_square=[HED] if args.hed == "256" else [],
        sets=sets,
        read=None if ocr is None else lambda image: "\n".join(ocr([image])[0]),
        device=args.device,
    )
    return measures, notes
