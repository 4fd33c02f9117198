"""What all evaluations share: where they write, where they run, and what they say on stdout."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viq.errors import InputError

if TYPE_CHECKING:
    from viq.cli.progress import Report
    from viq.evaluation.document import Document, Figure, Table

DTYPES = ("float32", "bfloat16", "float16")


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds --out and --json."""
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where the results go"
    )
    parser.add_argument("--json", action="store_true", help="print the document as JSON")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device."""
    parser.add_argument("--device", default="cpu", help="for example cuda (default: cpu)")


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds --dtype."""
    parser.add_argument(
        "--dtype", default="float32", choices=DTYPES, help="of the models (default: float32)"
    )


def check_out(out: Path, *read: str | Path) -> None:
    """Refuses to write where pictures are read, for what is written would be read the next time.

    Raises:
        InputError: ``out`` is one of these folders, or in one.
    """
    for folder in map(Path, read):
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"is in {folder}, which is read; give another folder", f"--out {out}")


def check_plots() -> None:
    """Sees to it that plots can be drawn, before anything is measured.

    Raises:
        InputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError('plots need matplotlib: pip install "viq[eval]"')


@contextmanager
def aggregating(folder: Path) -> Iterator[None]:
    """Where an evaluation makes tables of its samples, which somebody may have edited.

    Raises:
        InputError: a sample lacks something, or has something else in its place.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(
            "samples of this evaluation are damaged; remove the folder, or give another --out",
            folder,
        ) from error


def tell(report: "Report", name: str, errors: Sequence[InputError]) -> None:
    """Counts a picture, as failed if anything went wrong with it."""
    if not errors:
        report.success()
    elif len(errors) == 1:
        report.failure(name, errors[0])
    else:
        report.failure(name, InputError("; ".join(map(str, errors)), name))


def write(
    args: argparse.Namespace,
    kind: str,
    title: str,
    *,
    tables: "Sequence[Table]",
    figures: "Sequence[Figure]",
    notes: Sequence[str],
    data: Mapping[str, Any],
    threads: int | None = None,
) -> None:
    """Writes the document to --out and prints it; ``threads`` where they are not this process's."""
    from dataclasses import replace

    from viq.evaluation.document import Document
    from viq.evaluation.provenance import Provenance

    made = Provenance.now(["viq", *sys.argv[1:]], args.device)
    document = Document(
        kind=kind,
        title=title,
        made=made if threads is None else replace(made, threads=threads),
        tables=tuple(tables),
        figures=tuple(figures),
        notes=tuple(notes),
        data=dict(data),
    )
    document.save(args.out)
    print_document(document, args.json)


def print_document(document: "Document", as_json: bool) -> None:
    """Prints the tables with their notes, in columns; or the whole document as JSON."""
    if as_json:
        from dataclasses import asdict

        print(json.dumps(asdict(document), indent=2, ensure_ascii=False))
        return
    print("\n\n".join([*map(table_text, document.tables), *document.notes]))


def table_text(table: "Table") -> str:
    """A table for a terminal: its title, aligned columns, and its note."""
    from viq.cli.progress import table as lay_out
    from viq.evaluation.document import cell_text

    head = [column.name + (f" ({column.unit})" if column.unit else "") for column in table.columns]
    rows = [
        [
            " ".join(cell_text(cell, column).split())
            for cell, column in zip(row, table.columns, strict=True)
        ]
        for row in table.rows
    ]
    return "\n".join([table.title, "", lay_out(head, rows), *([table.note] if table.note else [])])
