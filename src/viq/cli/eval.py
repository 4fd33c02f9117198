"""viq eval: what a tokenizer is worth: reconstruction, storage, understanding, codes, cost."""

import argparse
from importlib import import_module

KINDS = ("reconstruction", "storage", "understanding", "codes", "cost")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command and one below it for each kind of evaluation."""
    parser = commands.add_parser(
        "eval",
        help="measure reconstruction, storage, understanding, codes or cost",
        description="Measures what a tokenizer, or a language model that reads its codes, is\n"
        "worth. Each evaluation writes a folder with result.json, result.md and pictures, and\n"
        "`viq report` makes a page of any of them. A stopped one goes on when it is repeated.",
        epilog="examples:\n"
        "  viq eval reconstruction --data photos/ --model nano --out results/reconstruction\n"
        "  viq eval understanding --model runs/sft --quick --out results/understanding\n"
        "  viq report results/ --out report.html",
    )
    kinds = parser.add_subparsers(title="evaluations", dest="kind", metavar="KIND", required=True)
    for name in KINDS:
        import_module(f"viq.cli.evaluate.{name}").add_parser(kinds)
