"""viq eval understanding: what language models understand of pictures that they see as codes."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from viq.cli.evaluate.models import named_models
from viq.cli.evaluate.output import (
    DTYPES,
    add_device,
    add_out,
    aggregating,
    check_plots,
    print_document,
)
from viq.cli.options import check_device, positive
from viq.errors import InputError

if TYPE_CHECKING:
    from viq.evaluation.samples import Samples
    from viq.evaluation.understanding.assemble import Asked
    from viq.evaluation.understanding.probing import Probing
    from viq.mllm import MultimodalModel

QUICK, FULL = 200, 2000  # questions of a task
DEFAULT_TASKS = ("offline", "probes")


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the evaluation."""
    parser = kinds.add_parser(
        "understanding",
        help="what language models understand of pictures: tasks, benchmarks, probes",
        description="Asks language models that read codes, or features, questions about pictures,\n"
        "with and without the pictures, and says how far each is from the first: the cost of\n"
        "quantisation is a difference on the same questions. A stopped evaluation goes on when\n"
        "it is repeated.",
        epilog="examples:\n"
        "  viq eval understanding --model runs/sft --out results/sft\n"
        "  viq eval understanding --model features=runs/sft-continuous --model codes=runs/sft \\\n"
        "      --pictures corpus/ --full --out results/claim\n"
        "  viq eval understanding --model runs/sft --tasks docvqa chartqa --data benchmarks/ \\\n"
        "      --out results/benchmarks",
    )
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        dest="models",
        metavar="MODEL",
        help="run's folder with mllm/ in it, saved model, bundled name or Hugging Face id, or"
        " NAME=MODEL to give its rows a name; may be repeated",
    )
    parser.add_argument(
        "--reference",
        metavar="NAME",
        help="the model that the others are compared with (default: the first)",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="names of tasks, or offline, probes, benchmarks (default: the first two, and the last"
        " with --data)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="holds a folder for each benchmark's data set"
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="train*.parquet and validation*.parquet with image, caption and kind, to be named"
        " and found",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        dest="count",
        action="store_const",
        const=QUICK,
        help=f"{QUICK} questions of a task, and probes of fewer pictures (default)",
    )
    size.add_argument(
        "--full",
        dest="count",
        action="store_const",
        const=FULL,
        help=f"{FULL:,} questions of a task",
    )
    size.add_argument(
        "--count", type=positive, metavar="N", help="so many questions of a task at most"
    )
    parser.add_argument(
        "--batch", type=positive, default=16, metavar="N", help="questions at once (default: 16)"
    )
    parser.add_argument(
        "--no-blind", action="store_true", help="do not ask the same without pictures"
    )
    parser.add_argument(
        "--lm", metavar="LM", help="where their language model is now, if not where it was"
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="scale larger pictures down to N pixels (default: the least of the models' limits)",
    )
    add_device(parser)
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="bfloat16",
        help="of the language model's weights (default: bfloat16); codes are always of float32",
    )
    add_out(parser)
    parser.set_defaults(run=run, count=QUICK)


def run(args: argparse.Namespace) -> int:
    """Asks all models, and writes what came of it."""
    from viq.cli.language import check_installed, quiet

    check_installed("this evaluation")
    from viq.cli.paths import make_folder
    from viq.evaluation.provenance import Provenance
    from viq.evaluation.samples import Samples
    from viq.evaluation.understanding.assemble import Asked, assemble, has_scores
    from viq.evaluation.understanding.probing import Probing
    from viq.evaluation.understanding.suite import choose

    check_plots()
    check_device(args.device)
    models = named_models(args.models)
    reference = args.reference or next(iter(models))
    if reference not in models:
        raise InputError(
            f"is no --model; there are: {', '.join(models)}", f"--reference {reference}"
        )
    wanted = args.tasks or [*DEFAULT_TASKS, *(["benchmarks"] if args.data else [])]
    probing = Probing(
        args.out / "features", "quick" if args.count <= QUICK else "full", args.pictures
    )
    chosen = choose(wanted, data=args.data, pictures=args.pictures, missing=probing.missing)
    asked = Asked(
        tasks=chosen.tasks,
        probes=chosen.probes,
        models=[*models],
        reference=reference,
        count=args.count,
        blind=not args.no_blind,
        max_pixels=args.max_pixels,
    )
    make_folder(args.out)
    failed: dict[str, str] = {}
    with Samples.open(args.out, _settings(args, asked)) as samples:
        with quiet():
            if len(models) > 1:  # whatever is wrong with one comes out before hours go by
                for name, where in models.items():
                    _load(args, samples, name, where)
            for name, where in models.items():
                failed |= _evaluate(args, asked, probing, samples, name, where)
        for name, reason in failed.items():
            print(f"viq: error: {name}: {reason}", file=sys.stderr)
        with aggregating(args.out):
            if not has_scores(asked, samples):
                return 2
            document = assemble(
                asked,
                samples,
                args.out,
                made=Provenance.now(["viq", *sys.argv[1:]], args.device),
                notes=chosen.notes,
            )
    document.save(args.out)
    print_document(document, args.json)
    return 1 if failed else 0


def _settings(args: argparse.Namespace, asked: "Asked") -> dict[str, object]:
    """What decides the answers, beside the models; of these, samples have the fingerprints."""
    from viq.evaluation.benchmarks import BenchmarkTask
    from viq.evaluation.understanding.captioned import identity

    benchmarks = [task for task in asked.all_tasks if isinstance(task, BenchmarkTask)]
    return {
        "models": asked.models,
        "tasks": [*(task.name for task in asked.all_tasks), *asked.probes],
        "data": {task.name: dict(task.identity()) for task in benchmarks},
        "pictures": None if args.pictures is None else identity(args.pictures),
        "count": asked.count,
        "blind": asked.blind,
        "batch": args.batch,
        "max_pixels": args.max_pixels,
        "dtype": args.dtype,
        "device": args.device,
    }


def _load(args: argparse.Namespace, samples: "Samples", name: str, where: str) -> "MultimodalModel":
    """A model in float32, if it is what it was."""
    from viq.cli.language import load_language_model
    from viq.evaluation.understanding.models import check_same, describe

    # Adapters are added to the weights before these become another dtype.
    model = load_language_model(where, lm=args.lm, dtype="float32", device=args.device)
    check_same(samples, name, describe(model), where)
    return model


def _evaluate(
    args: argparse.Namespace,
    asked: "Asked",
    probing: "Probing",
    samples: "Samples",
    name: str,
    where: str,
) -> dict[str, str]:
    """Asks one model everything that it has not answered yet; returns what could not be read."""
    import torch
    from tqdm import tqdm

    from viq.cli.progress import hushed
    from viq.evaluation.understanding.answerer import Answerer, fix_adapters
    from viq.evaluation.understanding.models import common_limit
    from viq.evaluation.understanding.results import blind_part, seen_part
    from viq.evaluation.understanding.runner import ask, probe

    failed: dict[str, str] = {}
    model = _load(args, samples, name, where)
    max_pixels = args.max_pixels or common_limit(samples, asked.models)
    fix_adapters(model, getattr(torch, args.dtype))
    for task in asked.all_tasks:
        for sees in (True, False) if asked.blind else (True,):
            answerer = Answerer(model, max_pixels=max_pixels, sees=sees)
            part = (seen_part if sees else blind_part)(name, task.name)
            with (
                tqdm(
                    total=len(task.items(asked.count)),
                    desc=f"{name}: {task.name}{'' if sees else ', no image'}",
                    unit="question",
                    dynamic_ncols=True,
                    leave=False,
                    disable=None,
                ) as bar,
                hushed(),
            ):
                found = ask(
                    task,
                    asked.count,
                    answerer,
                    samples,
                    part,
                    batch=args.batch,
                    progress=bar.update,
                )
            failed |= {f"{name}: {task.name}: {item}": why for item, why in found.items()}
    for probed in asked.probes:
        found = probe(
            probing,
            probed,
            f"{[*asked.models].index(name)}-{name}",
            partial(model.features, max_pixels=max_pixels),
            samples,
            seen_part(name, probed),
        )
        failed |= {f"{name}: {probed}: {item}": why for item, why in found.items()}
    return failed
