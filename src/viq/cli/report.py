"""viq report: a page, or Markdown, of any number of evaluations side by side."""

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from viq.cli.paths import make_folder, refuse_inputs, whole_file
from viq.errors import InputError

if TYPE_CHECKING:
    from viq.cli.progress import Report
    from viq.evaluation.document import Document
    from viq.evaluation.report.collect import Section
    from viq.evaluation.report.pictures import Packed

TITLE = "Evaluation"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report",
        help="make one page of evaluations, side by side",
        description="Takes all evaluations in folders, hidden ones apart, and writes an HTML page\n"
        "with all that it needs. Tables with the same title and columns become one; pictures of\n"
        "the same title stand side by side.",
        epilog="examples:\n"
        "  viq report results/ --out report.html\n"
        "  viq report results/nano results/large --out report.html --title 'nano and large'\n"
        "  viq report results/ --out report.html --markdown docs/RESULTS.md   # and docs/RESULTS/",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="of evaluations")
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="where the page goes")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE.md",
        help="where the report goes as Markdown; its pictures go to a folder of that name",
    )
    parser.add_argument("--title", default=TITLE, help="of the report (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the report of all evaluations that can be read."""
    from viq.cli.progress import Report
    from viq.evaluation.document import FILE
    from viq.evaluation.report.collect import collect, files_of, find_documents
    from viq.evaluation.report.markdown import picture_names

    _check(args)
    folders = find_documents(args.folders)
    documents, failures = _load(folders)
    sections = collect(documents)
    names = picture_names(sections)
    targets = [path for path in (args.out, args.markdown) if path is not None]
    if args.markdown is not None:
        targets += [_folder(args.markdown) / name for name in names.values()]
    inputs = [file for folder, document in documents for file in files_of(folder, document)]
    refuse_inputs(targets, [*inputs, *(folder / FILE for folder in folders)])
    for path in targets:
        if (path.parent / FILE).exists():
            raise InputError("is in an evaluation's folder; write the report elsewhere", path)
    with Report("read", len(folders) + len(names)) as report:
        for folder, error in failures:
            report.failure(folder, error)
        for _ in documents:
            report.success()
        if documents:
            shown, copies = _pack(names, args, report)
            if args.out is not None:
                _write_page(args, sections, shown)
            if args.markdown is not None:
                _write_markdown(args, sections, names, copies)
    report.summary()
    return report.status


def _check(args: argparse.Namespace) -> None:
    if args.out is None and args.markdown is None:
        raise InputError(
            "there is nothing to write: give --out FILE.html, --markdown FILE.md, or both"
        )
    for name, path, suffix in (("--out", args.out, ".html"), ("--markdown", args.markdown, ".md")):
        if path is not None and path.suffix.lower() != suffix:
            raise InputError(f"the name after {name} must end in {suffix}", path)


def _load(
    folders: Iterable[Path],
) -> "tuple[list[tuple[Path, Document]], list[tuple[Path, InputError]]]":
    """The documents that can be read, and why the others cannot."""
    from viq.evaluation.report.collect import load_document

    documents, failures = [], []
    for folder in folders:
        try:
            documents.append((folder, load_document(folder)))
        except InputError as error:
            failures.append((folder, error))
    return documents, failures


def _pack(
    files: Iterable[Path], args: argparse.Namespace, report: "Report"
) -> "tuple[dict[Path, Packed], dict[Path, Packed]]":
    """The pictures that can be read, for the page and for the folder beside the Markdown."""
    from viq.evaluation.report.pictures import for_folder, for_page

    shown: dict[Path, Packed] = {}
    copies: dict[Path, Packed] = {}
    for path in files:
        try:
            if args.out is not None:
                shown[path] = for_page(path)
            if args.markdown is not None:
                copies[path] = for_folder(path)
        except InputError as error:
            report.failure(path, error)
        else:
            report.success()
    return shown, copies


def _write_page(
    args: argparse.Namespace, sections: "Sequence[Section]", pictures: "dict[Path, Packed]"
) -> None:
    from viq.evaluation.files import encoded
    from viq.evaluation.report.page import page

    make_folder(args.out.parent)
    content = encoded(page(args.title, sections, pictures, _made(args)))
    with whole_file(args.out) as temporary:
        temporary.write_bytes(content)
    print(f"{args.out}: {_count(sections, len(pictures))}, {len(content):,} bytes")


def _write_markdown(
    args: argparse.Namespace,
    sections: "Sequence[Section]",
    names: dict[Path, str],
    pictures: "dict[Path, Packed]",
) -> None:
    from viq.evaluation.files import encoded
    from viq.evaluation.report.markdown import markdown

    folder = _folder(args.markdown)
    make_folder(folder if pictures else args.markdown.parent)
    for path, picture in pictures.items():
        with whole_file(folder / names[path]) as temporary:
            temporary.write_bytes(picture.data)
    addresses = {path: f"{folder.name}/{names[path]}" for path in pictures}
    content = encoded(markdown(args.title, sections, addresses, _made(args)))
    with whole_file(args.markdown) as temporary:
        temporary.write_bytes(content)
    print(f"{args.markdown}: {_count(sections, len(pictures))}, {len(content):,} bytes")
    ours = {names[path] for path in pictures}
    if others := sorted({file.name for file in folder.glob("*.png")} - ours):
        print(f"{folder}: of another report: {', '.join(others)}", file=sys.stderr)


def _folder(markdown: Path) -> Path:
    return markdown.with_suffix("")


def _made(args: argparse.Namespace) -> str:
    """The command that makes the report again."""
    from viq.evaluation.markup import code

    command = ["viq", "report", *map(str, args.folders)]
    command += ["--out", str(args.out)] if args.out is not None else []
    command += ["--markdown", str(args.markdown)] if args.markdown is not None else []
    command += ["--title", args.title] if args.title != TITLE else []
    return f"Made by {code(shlex.join(command))}."


def _count(sections: "Sequence[Section]", pictures: int) -> str:
    def many(number: int, name: str) -> str:
        return f"{number} {name}{'' if number == 1 else 's'}"

    evaluations = sum(len(section.sources) for section in sections)
    tables = sum(len(section.tables) for section in sections)
    return (
        f"{many(evaluations, 'evaluation')}, {many(tables, 'table')}, {many(pictures, 'picture')}"
    )
