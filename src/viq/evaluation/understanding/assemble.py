"""The document of what models understand, made of the records of their answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from viq.evaluation.document import Document, Figure, Table
from viq.evaluation.provenance import Provenance
from viq.evaluation.samples import Samples
from viq.evaluation.task import Task
from viq.evaluation.understanding.figures import difference_figure, example_figure, score_figure
from viq.evaluation.understanding.models import limit_note, model_table
from viq.evaluation.understanding.results import (
    Chances,
    Result,
    answered,
    blind_part,
    probe_result,
    result,
    seen_part,
)
from viq.evaluation.understanding.runner import PROBED
from viq.evaluation.understanding.suite import OFFLINE
from viq.evaluation.understanding.tables import (
    difference_table,
    example_table,
    part_tables,
    pick_examples,
    reading_table,
    score_table,
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was evaluated.

    Attributes:
        tasks: by suite.
        probes: by name.
        models: as tables call them.
        reference: the model that others are compared with.
        count: questions of a task at most.
        blind: whether they were asked without pictures, too.
        max_pixels: to so many pictures were scaled down; None: to the models' limits.
    """

    tasks: Mapping[str, Sequence[Task]]
    probes: Sequence[str] = ()
    models: Sequence[str]
    reference: str
    count: int
    blind: bool
    max_pixels: int | None = None

    @property
    def all_tasks(self) -> list[Task]:
        """Of all suites."""
        return [task for tasks in self.tasks.values() for task in tasks]


def results(asked: Asked, samples: Samples) -> list[Result]:
    """The scores of all models on all tasks and probes."""
    known: Chances = {}
    of_tasks = [
        result(samples, model, suite, task, count=asked.count, blind=asked.blind, known=known)
        for suite, tasks in asked.tasks.items()
        for task in tasks
        for model in asked.models
    ]
    return of_tasks + [
        probe_result(samples, model, name) for name in asked.probes for model in asked.models
    ]


def assemble(
    asked: Asked,
    samples: Samples,
    folder: Path,
    *,
    made: Provenance,
    notes: Sequence[str] = (),
) -> Document:
    """Draws the figures into ``folder`` and makes the document.

    Args:
        asked: what was evaluated.
        samples: the records.
        folder: of the document.
        made: where and when.
        notes: what was left out, and why.
    """
    scored = results(asked, samples)
    tables, figures = [score_table(scored)], [score_figure(scored, folder)]
    differences = difference_table(scored, asked.reference)
    if differences.rows:
        tables.insert(0, differences)
        figures.insert(0, difference_figure(differences, asked.models, folder))
    tables.append(model_table(samples, asked.models, asked.all_tasks))
    tables += part_tables(scored)
    found, pictures = _details(asked, samples, folder)
    return Document(
        kind="understanding",
        title="Understanding",
        made=made,
        tables=(*tables, *found),
        figures=(*figures, *pictures),
        notes=(*_protocol(asked, samples), *_too_long(asked, samples), *notes),
        data=_data(asked, scored),
    )


def _details(asked: Asked, samples: Samples, folder: Path) -> tuple[list[Table], list[Figure]]:
    """What needs the answers themselves."""
    tables = []
    if reading := reading_table(samples, asked.models, asked.all_tasks):
        tables.append(reading)
    examples = pick_examples(samples, asked.reference, asked.all_tasks)
    if not examples:
        return tables, []
    tables.append(
        example_table(
            samples,
            asked.models,
            [(task, record["id"]) for task, records in examples for record in records if record],
        )
    )
    return tables, [example_figure(examples, asked.count, asked.reference, folder)]


def _protocol(asked: Asked, samples: Samples) -> list[str]:
    notes = []
    if asked.tasks:
        notes.append(
            f"At most {asked.count:,} questions of a task, the same ones for all models. Answers"
            " are greedy and end where the model ends its turn. Where choices are ranked, the one"
            " counts whose tokens have the highest mean log-likelihood, the end of the turn"
            " included."
        )
    if OFFLINE in asked.tasks:
        notes.append(
            "Drawn pictures are of the validation split: its fonts, words, styles and wordings are"
            " in no training data that viq draws."
        )
    if asked.probes:
        notes.append(
            "Probes read a label off frozen features, as the language model gets them, by a linear"
            " map that is fitted to other pictures; they ask no language model, so none is asked"
            " without pictures either."
        )
    if asked.max_pixels is not None:
        notes.append(f"Pictures of more than {asked.max_pixels:,} pixels were scaled down.")
    elif (note := limit_note(samples, asked.models)) is not None:
        notes.append(note)
    if len(asked.models) > 1:
        notes.append(
            f"Differences are from {asked.reference}, item by item; an average weighs tasks, and"
            " takes their items to be independent."
        )
    return notes


def _too_long(asked: Asked, samples: Samples) -> list[str]:
    """Which questions were not asked, as they would not fit."""
    notes = []
    for model in asked.models:
        for task in asked.all_tasks:
            counts = [
                sum("too_long" in record for record in answered(samples, part).values())
                for part in (seen_part(model, task.name), blind_part(model, task.name))
            ]
            if any(counts):
                notes.append(
                    f"{model}, {task.title}: questions too long for the language model, which score"
                    f" 0: {counts[0]:,}; without pictures: {counts[1]:,}."
                )
    return notes


def _data(asked: Asked, scored: Sequence[Result]) -> dict[str, Any]:
    return {
        "reference": asked.reference,
        "count": asked.count,
        "scores": [
            {
                "model": one.model,
                "suite": one.suite,
                "task": one.task,
                "metric": one.metric,
                "score": None if one.score is None else asdict(one.score),
                "chance": None if one.chance is None else 100 * one.chance,
                "blind": None if one.blind_score is None else asdict(one.blind_score),
                "failed": one.failed,
            }
            for one in scored
        ],
    }


def has_scores(asked: Asked, samples: Samples) -> bool:
    """Whether any item was scored."""
    names = [*(task.name for task in asked.all_tasks), *asked.probes]
    parts = {seen_part(model, name) for model in asked.models for name in names}
    probed = {note["of"] for note in samples.of(PROBED).values()}
    return bool(parts & probed) or any(samples.of(part) for part in parts)
