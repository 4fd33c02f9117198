"""The card of a model: what its folder says, what people say of it, and what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from viq.card.architecture import read_model
from viq.card.counts import Counts
from viq.card.page import NOT_MEASURED, Card, Measured, Picture, Section
from viq.card.runs import Run, runs_markdown
from viq.card.usage import usage_markdown

PAPER = "https://arxiv.org/abs/2606.27313"
_SUMMARY = (
    "An image tokenizer of the method [ViQ: Text-Aligned Visual Quantized Representations at Any"
    f" Resolution]({PAPER})."
)
_CITATION = f"The method is that of the paper [arXiv 2606.27313]({PAPER})."


@dataclass(frozen=True, kw_only=True)
class About:
    """What no file of a model says. All texts are Markdown; empty ones are left out."""

    name: str
    where: str  # how it is loaded: a bundled name, folder or hub id
    summary: str = _SUMMARY
    license: str | None = "apache-2.0"
    tags: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()  # ids on the hub
    base_model: tuple[str, ...] = ()  # likewise
    install: str = ""
    data: str = ""  # what else it was trained on, above the counts
    recipe: str = ""  # above the table of runs
    scores: str = ""  # above the tables
    limits: tuple[str, ...] = ()
    failures: str = ""
    citation: str = _CITATION
    pictures: tuple[Picture, ...] = ()  # what it makes of pictures, at the top
    failed: tuple[Picture, ...] = ()  # what it makes badly


def model_card(
    folder: Path,
    about: About,
    *,
    data: Sequence[Counts] = (),
    runs: Sequence[Run] = (),
    scores: Sequence[Section] = (),
    measured: Sequence[Measured] = (),
) -> Card:
    """Puts a card together; what is not known is left out, and scores are said to be missing.

    Args:
        folder: of the model, read for architecture and sizes.
        about: what people say.
        data: counts of what it was trained on.
        runs: that trained it, in order.
        scores: of its evaluations, each with title and tables (``viq.evaluation.card``).
        measured: the same numbers for the hub.

    Raises:
        ModelError: the folder is no model.
    """
    model = read_model(folder)
    counted = [about.data, *(one.markdown() for one in data)]
    trained = [about.recipe, runs_markdown(runs) if runs else ""]
    tables = [about.scores, *(f"### {one.title}\n\n{one.text}" for one in scores)]
    shown = tuple(picture for one in scores for picture in one.pictures)
    sections = [
        Section(title="What it makes", pictures=about.pictures),
        Section(title="Use", text=usage_markdown(model, about.where, install=about.install)),
        Section(title="Architecture and sizes", text=model.markdown()),
        Section(title="Data", text=_joined(counted)),
        Section(title="Training", text=_joined(trained)),
        Section(
            title="Scores",
            text=_joined(tables) if scores else _joined([about.scores, f"N{NOT_MEASURED[1:]}."]),
            pictures=shown,
        ),
        Section(title="Limits", text="\n".join(f"- {limit}" for limit in about.limits)),
        Section(title="Failures", text=about.failures, pictures=about.failed),
        Section(title="Licence and citation", text=_joined([_licence(about), about.citation])),
    ]
    asks = model.mllm is not None
    kinds = ("image-tokenizer",) if model.tokenizer is not None else ()
    return Card(
        name=about.name,
        summary=about.summary,
        license=about.license,
        pipeline_tag="image-text-to-text" if asks else "image-feature-extraction",
        tags=tuple(dict.fromkeys(("viq", *kinds, *about.tags))),
        datasets=about.datasets,
        base_model=about.base_model,
        metrics=tuple(dict.fromkeys(one.metric for one in measured)),
        sections=tuple(s for s in sections if s.text or s.pictures),
        measured=tuple(measured),
    )


def _licence(about: About) -> str:
    return f"Licence of the weights: {about.license or 'not stated'}."


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())
