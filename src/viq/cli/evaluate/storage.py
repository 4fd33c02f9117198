"""viq eval storage: what pictures take on disk, as codes and otherwise."""

import argparse
import sys

from viq.cli.evaluate.reconstruction import add_data, add_out, tell
from viq.cli.options import add_tokenizer, load_tokenizer


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    parser = kinds.add_parser(
        "storage",
        help="what pictures take on disk: raw, as codes, PNG, JPEG, WebP, AVIF, JPEG-XL",
        description="Measures what pictures take on disk: raw, as codes of 16 bits, in .viq and\n"
        "Parquet files, as PNG, and in lossy formats: what these make of as many bytes as the\n"
        "codes, and how many they take for the same PSNR. For each size that there is, and for\n"
        "1920 x 1280, the paper's. A stopped evaluation goes on when it is repeated.",
        epilog="examples:\n  viq eval storage --data photos/ --model nano --out results/storage",
    )
    add_data(parser)
    add_tokenizer(parser)
    add_out(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures all pictures, those that can be read."""
    from viq.cli.evaluate.output import print_document
    from viq.cli.paths import make_folder
    from viq.cli.progress import Report
    from viq.evaluation.document import Document
    from viq.evaluation.pictures import choice, open_pictures
    from viq.evaluation.provenance import Provenance
    from viq.evaluation.samples import Samples
    from viq.evaluation.storage import Storage
    from viq.evaluation.storage_tables import figures, tables
    from viq.evaluation.subjects import Model
    from viq.metrics.codecs import CODECS, why_not

    pictures = open_pictures(args.data, args.split, args.count)
    model = Model(args.model, load_tokenizer(args))
    missing = {codec.name: reason for codec in CODECS.values() if (reason := why_not(codec))}
    asked = Storage(
        pictures=pictures,
        names=choice(pictures.names, args.count),
        model=model,
        codecs=[key for key, codec in CODECS.items() if codec.name not in missing],
    )
    make_folder(args.out)
    with Samples.open(args.out, asked.asked()) as samples:
        with Report("measured", len(asked.names) + 1) as report:
            for name, errors in asked.run(samples):
                tell(report, name, errors)
            if not report.succeeded:
                report.summary()
                return report.status
            asked.run_large(samples)
            report.success()
        document = Document(
            kind="storage",
            title=f"Storage: {pictures.titled(asked.names)}",
            made=Provenance.now(["viq", *sys.argv[1:]], args.device),
            tables=tuple(tables(asked, samples)),
            figures=tuple(figures(asked, samples, args.out)),
            notes=tuple(f"Not measured: {name} ({reason})." for name, reason in missing.items()),
            data={"failed": report.failed},
        )
    document.save(args.out)
    print_document(document, args.json)
    report.summary()
    return report.status
