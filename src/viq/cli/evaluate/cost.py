"""viq eval cost: parameters, operations, tokens, time and memory by the size of a picture."""

import argparse
import sys

from viq.cli.evaluate.models import add_models
from viq.cli.evaluate.output import DTYPES, add_device, add_out
from viq.cli.options import positive

SIZES = (256, 512, 768, 1024)
MOST = 16_384  # pixels on a side


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
        type=_side,
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
    add_device(parser)
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="of torch (default: as many as it takes)"
    )
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="of each measurement (default: 5)"
    )
    add_out(parser)
    parser.set_defaults(run=run)


def _side(text: str) -> int:
    """An argparse type: the side of a picture."""
    side = positive(text)
    if side > MOST:
        raise argparse.ArgumentTypeError(f"{side} pixels are more than {MOST:,}")
    return side


def run(args: argparse.Namespace) -> int:
    """Measures what is missing, and writes the document."""
    import torch
    from tqdm import tqdm

    from viq.cli.evaluate.models import load_models, named_models
    from viq.cli.evaluate.output import aggregating, check_plots, write
    from viq.cli.paths import make_folder
    from viq.evaluation.cost import Cost
    from viq.evaluation.samples import Samples

    check_plots()
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
        with aggregating(args.out):
            found, drawn = cost.tables(samples), cost.figures(samples, args.out)
        write(
            args,
            "cost",
            "What encoding and decoding cost",
            tables=found,
            figures=drawn,
            notes=(*cost.notes(), *failures),
            data={name: dict(samples.of(name)) for name in cost.models},
            threads=cost.threads,
        )
    if not failures:
        return 0
    return 1 if len(failures) < total else 2
