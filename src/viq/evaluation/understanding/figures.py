"""Figures of what models understand: scores and differences with intervals, and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viq.data.images import as_picture
from viq.errors import InputError
from viq.evaluation.document import Figure, Score, Table
from viq.evaluation.files import whole_file
from viq.evaluation.plots import PALE, Series, new_figure, save_figure, series
from viq.evaluation.task import Item, Task
from viq.evaluation.understanding.results import PERCENT, Result
from viq.evaluation.understanding.tables import RIGHT, short
from viq.image import load_image
from viq.image.sheet import Cell, Row, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELL = 300  # pixels, of a column of examples
ROW = 42  # pixels of a task, with one model; each more takes a third of that
SPREAD = 0.6  # of a task's place, for its models


def score_figure(results: Sequence[Result], folder: Path) -> Figure:
    """Each task's scores, with chance and what the language models score without pictures."""
    models = [*dict.fromkeys(one.model for one in results)]
    tasks = [*dict.fromkeys(one.task for one in results)]
    figure, (axis,) = new_figure(height=_height(len(tasks), len(models)))
    for one in results:
        number = models.index(one.model)
        place, style = tasks.index(one.task) + _shift(number, len(models)), series(number)
        if one.score is not None:
            _dot(axis, one.score, place, style)
        if one.blind_score is not None:
            axis.plot(one.blind_score.value, place, ls="", markerfacecolor="white", **style)
        if one.chance is not None:
            axis.plot(
                [one.chance * PERCENT] * 2, [place - 0.12, place + 0.12], color=PALE, linewidth=3
            )
    for number, model in enumerate(models):
        axis.plot([], [], linestyle="", label=model, **series(number))
    axis.plot([], [], "o", color="black", markerfacecolor="white", label="no image")
    axis.plot([], [], color=PALE, linewidth=3, label="chance")
    _rows(axis, tasks)
    axis.set(xlabel="score (%)")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    save_figure(figure, folder / "scores.png")
    return Figure(
        file="scores.png",
        title="Scores by task, with 95 % intervals.",
        caption=f"scores of {', '.join(models)} on {len(tasks)} tasks, beside chance and what the"
        " language models score without pictures",
    )


def difference_figure(table: Table, models: Sequence[str], folder: Path) -> Figure:
    """The rows of a table of differences; of all ``models``, so that each keeps its colour."""
    known, models = models, [*dict.fromkeys(str(row[0]) for row in table.rows)]
    tasks = [*dict.fromkeys(str(row[2]) for row in table.rows)]
    reference = str(table.rows[0][1])
    figure, (axis,) = new_figure(height=_height(len(tasks), len(models)))
    axis.axvline(0, color=PALE, linewidth=2)
    for model, _, task, found, _ in table.rows:
        place = tasks.index(str(task)) + _shift(models.index(str(model)), len(models))
        if isinstance(found, Score):
            _dot(axis, found, place, series(known.index(str(model))))
    for model in models:
        axis.plot([], [], linestyle="", label=model, **series(known.index(model)))
    _rows(axis, tasks)
    axis.set(xlabel=f"difference from {reference} (points)")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    save_figure(figure, folder / "differences.png")
    return Figure(
        file="differences.png",
        title=f"Differences from {reference} on the same items, with 95 % intervals.",
        caption=f"how much {', '.join(models)} score more or less than {reference}, by task",
    )


def example_figure(
    examples: Sequence[tuple[Task, Sequence[Mapping[str, Any] | None]]],
    count: int | None,
    reference: str,
    folder: Path,
) -> Figure:
    """A picture that the reference was asked about and was right, and one where it was not."""
    rows = []
    for task, records in examples:
        items = task.items(count)
        rows.append(Row(task.title, [_cell(items, record) for record in records]))
    with whole_file(folder / "examples.png") as temporary:
        sheet(("right", "not right"), rows, cell_side=CELL).save(temporary)
    return Figure(
        file="examples.png",
        title=f"Pictures with answers of {reference}.",
        caption="for each task a picture with an answer that is right, and one that is not",
    )


def _cell(items: Sequence[Item], record: Mapping[str, Any] | None) -> Cell:
    if record is None:
        return Cell(None, "")
    images = items[record["place"]].images
    text = f"{short(record['question'])} {short(record['answer'])!r}"
    if record["score"] < RIGHT:
        text += f", not {short(record['right'][0])!r}"
    if not images:
        return Cell(None, text)
    try:
        return Cell(load_image(as_picture(images[0], record["id"])), text)
    except InputError as error:
        return Cell(None, str(error))


def _dot(axis: "Axes", score: Score, place: float, style: Series) -> None:
    """A value with its interval."""
    if score.low is not None and score.high is not None:
        axis.plot([score.low, score.high], [place, place], color=style["color"], linewidth=2)
    axis.plot(score.value, place, linestyle="", **style)


def _shift(number: int, models: int) -> float:
    """Where a model lies beside the middle of a task's place."""
    return SPREAD * ((number + 0.5) / models - 0.5)


def _height(tasks: int, models: int) -> int:
    return 130 + tasks * (ROW + (models - 1) * ROW // 3)


def _rows(axis: "Axes", tasks: Sequence[str]) -> None:
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set_ylim(len(tasks) - 0.5, -0.5)
