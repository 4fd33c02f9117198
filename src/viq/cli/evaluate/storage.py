"""viq eval storage: what pictures take on disk, as codes and otherwise."""

import argparse

from viq.cli.evaluate.models import add_data, add_model
from viq.cli.evaluate.output import add_device, add_dtype, add_out, tell
from viq.cli.options import add_max_pixels


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    parser = kinds.add_parser(
        "storage",
        help="what pictures take on disk: raw, as codes, PNG, JPEG, WebP, AVIF, JPEG-XL",
        description="Measures what pictures take on disk: raw, as codes of 16 bits, in .viq and\n"
        "Parquet files, as PNG, and in lossy formats: what these make of as many bytes as the\n"
        "codes, and how many they take for the same PSNR. For each size that there is, and for\n"
        "1920 x 1280, the paper's, which takes a minute or more. A stopped evaluation goes on\n"
        "when it is repeated.",
        epilog="examples:\n  viq eval storage --data photos/ --model nano --out results/storage",
    )
    add_data(parser)
    add_model(parser)
    add_out(parser)
    add_max_pixels(parser)
    add_device(parser)
    add_dtype(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures all pictures, those that can be read."""
    from tqdm import tqdm

    from viq.cli.evaluate.models import load_models
    from viq.cli.evaluate.output import aggregating, check_out, check_plots, write
    from viq.cli.paths import make_folder
    from viq.cli.progress import Report
    from viq.evaluation.pictures import TEXT, choice, open_pictures
    from viq.evaluation.samples import Samples
    from viq.evaluation.storage import PAPER, Storage
    from viq.evaluation.storage_tables import figures, tables
    from viq.evaluation.subjects import Model, check
    from viq.metrics.codecs import CODECS, why_not

    check_plots()
    if args.data != TEXT:
        check_out(args.out, args.data)
    pictures = open_pictures(args.data, args.split, args.count)
    ((name, tokenizer),) = load_models(
        [args.model], args.device, dtype=args.dtype, max_pixels=args.max_pixels
    ).items()
    check([name], ["original", *(codec.name for codec in CODECS.values())])
    missing = {codec.name: reason for codec in CODECS.values() if (reason := why_not(codec))}
    asked = Storage(
        pictures=pictures,
        names=choice(pictures.names, args.count),
        model=Model(name, tokenizer),
        codecs=[key for key, codec in CODECS.items() if codec.name not in missing],
        max_pixels=args.max_pixels or tokenizer.config.image.max_pixels,
    )
    make_folder(args.out)
    with Samples.open(args.out, asked.asked()) as samples:
        with Report("measured", len(asked.names)) as report:
            for name, errors in asked.run(samples):
                tell(report, name, errors)
            if not report.succeeded:
                report.summary()
                return report.status
        with tqdm(
            total=len(asked.codecs), desc=PAPER, unit="codec", leave=False, disable=None
        ) as bar:
            asked.run_large(samples, bar.update)
        with aggregating(args.out):
            found, drawn = tables(asked, samples), figures(asked, samples, args.out)
        write(
            args,
            "storage",
            f"Storage: {pictures.titled(asked.done(samples))}",
            tables=found,
            figures=drawn,
            notes=[f"Not measured: {name} ({reason})." for name, reason in missing.items()],
            data={"failed": report.failed},
        )
    report.summary()
    return report.status
