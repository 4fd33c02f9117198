"""A model card as a page: YAML for the hub (https://hf.co/docs/hub/model-cards), then Markdown."""

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from viq.errors import InputError

FILE = "README.md"
NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One number of the model for the hub's ``model-index``."""

    task: str  # what the model does there: image-reconstruction ...
    data: str  # what it was measured on
    metric: str
    value: float
    unit: str = ""
    interval: tuple[float, float] | None = None  # 95 %

    @property
    def label(self) -> str:
        """The metric's name with the interval, for which the hub has no field."""
        name = self.metric + (f" ({self.unit})" if self.unit else "")
        if self.interval is None:
            return name
        low, high = (f"{end:.4g}" for end in self.interval)
        return f"{name}, 95 % interval {low} to {high}"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture in the model's folder."""

    file: str
    caption: str

    def __post_init__(self) -> None:
        if Path(self.file).is_absolute() or ".." in Path(self.file).parts:
            raise ValueError(f"picture {self.file} is not inside the model's folder.")

    def markdown(self) -> str:
        """The picture with its caption below."""
        words = " ".join(self.caption.split())
        return f"![{words.replace(']', ' ')}]({self.file.replace(' ', '%20')})\n\n*{words}*"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with Markdown and pictures below it."""

    title: str
    text: str = ""
    pictures: tuple[Picture, ...] = ()

    def markdown(self) -> str:
        """All of it."""
        shown = [picture.markdown() for picture in self.pictures]
        return "\n\n".join(part for part in (f"## {self.title}", self.text.strip(), *shown) if part)


@dataclass(frozen=True, kw_only=True)
class Card:
    """The whole page."""

    name: str
    summary: str  # Markdown: what it is, in a sentence or a few
    license: str | None = None  # as the hub names it: apache-2.0
    pipeline_tag: str | None = None  # of the hub's own list
    tags: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()  # ids on the hub
    base_model: tuple[str, ...] = ()  # likewise
    metrics: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    measured: tuple[Measured, ...] = ()

    def markdown(self) -> str:
        """The page, its YAML first."""
        data = ModelCardData(
            license=self.license,
            library_name="viq",
            pipeline_tag=self.pipeline_tag,
            tags=list(self.tags) or None,
            datasets=list(self.datasets) or None,
            base_model=list(self.base_model) or None,
            metrics=list(self.metrics) or None,
            model_name=self.name,
            eval_results=[_result(one) for one in self.measured] or None,
        )
        parts = [f"# {self.name}", self.summary.strip(), *(s.markdown() for s in self.sections)]
        return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"

    def save(self, folder: Path) -> Path:
        """Writes README.md, whole or not at all, and returns where.

        Raises:
            InputError: a picture is not in the folder.
        """
        for file in (picture.file for section in self.sections for picture in section.pictures):
            if not (folder / file).is_file():
                raise InputError("the card shows it, but there is no such file", folder / file)
        path = folder / FILE
        temporary = path.with_name(f".{uuid.uuid4().hex}.md")
        try:
            temporary.write_text(self.markdown(), "utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> str:
    """A table in Markdown, the last ``numbers`` columns at the right."""
    marks = [":--"] * (len(head) - numbers) + ["--:"] * numbers
    escaped = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, marks, *escaped))


def _result(one: Measured) -> EvalResult:
    return EvalResult(
        task_type=one.task,
        dataset_type=one.data,
        dataset_name=one.data,
        metric_type=one.metric.lower().replace(" ", "-"),
        metric_name=one.label,
        metric_value=one.value,
    )
