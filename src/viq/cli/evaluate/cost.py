"""viq eval cost: parameters, operations, tokens, time and memory by the size of a picture."""

import argparse
import sys
from pathlib import Path

from viq.cli.evaluate.models import add_models
from viq.cli.options import positive

SIZES = (256, 512, 768, 1024)
DTYPES = ("float32", "bfloat16", "float16")


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    parser = kinds.add_parser(
        "cost",
        help="parameters, operations, tokens, time and memory by the size of a picture",
        description="Counts parameters and operations of each part of a tokenizer, and measures\n"
        "the time and memory that encoding and decoding take, each size and dtype in a process\n"
        "of its own. Repeated, it measures only what is missing.",
        epilog="example:\n  viq eval cost --model nano --sizes 256 512 --out results/cost",
    )
    add_models(parser)
    parser.add_argument(
        "--sizes",
        type=positive,
        nargs="+",
        default=list(SIZES),
        metavar="N",
        help=f"sides of square pictures, in pixels (default: {' '.join(map(str, SIZES))})",
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        default=["float32", "bfloat16"],
        metavar="DTYPE",
        help=f"of {', '.join(DTYPES)} (default: float32 bfloat16)",
    )
    parser.add_argument("--device", default="cpu", help="for example cuda (default: cpu)")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="of torch (default: as many as it takes)"
    )
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="of each measurement (default: 5)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where the results go"
    )
    parser.add_argument("--json", action="store_true", help="print the document as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures what is missing, and writes the document."""
    from dataclasses import replace

    import torch
    from tqdm import tqdm

    from viq.cli.evaluate.models import load_models, named_models
    from viq.cli.evaluate.output import print_document
    from viq.cli.paths import make_folder
    from viq.evaluation.cost import Cost
    from viq.evaluation.document import Document
    from viq.evaluation.provenance import Provenance
    from viq.evaluation.samples import Samples

    cost = Cost(
        models=load_models(args.models, args.device),
        where=named_models(args.models),
        sizes=sorted(set(args.sizes)),
        dtypes=[dtype for dtype in DTYPES if dtype in args.dtypes],
        device=args.device,
        threads=args.threads or torch.get_num_threads(),
        repeats=args.repeats,
    )
    make_folder(args.out)
    failures = []
    with Samples.open(args.out, cost.asked()) as samples:
        total = len(cost.keys())
        with tqdm(total=total, unit="run", leave=False, file=sys.stderr, disable=None) as bar:
            for title, error in cost.run(samples):
                bar.update()
                if error is not None:
                    tqdm.write(f"viq: error: {title}: {error.reason}", file=sys.stderr)
                    failures.append(f"Not measured: {title}: {error.reason}.")
        made = Provenance.now(["viq", *sys.argv[1:]], args.device)
        document = Document(
            kind="cost",
            title="What encoding and decoding cost",
            made=replace(made, threads=cost.threads),
            tables=cost.tables(samples),
            figures=tuple(cost.figures(samples, args.out)),
            notes=(*cost.notes(), *failures),
            data={name: dict(samples.of(name)) for name in cost.models},
        )
        document.save(args.out)
    print_document(document, args.json)
    if not failures:
        return 0
    return 1 if len(failures) < total else 2
