"""Tables of what models understand: scores, differences from a reference, reading, examples."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from viq.evaluation.document import Cell, Column, Table
from viq.evaluation.samples import Samples
from viq.evaluation.task import Task
from viq.evaluation.understanding.results import (
    PERCENT,
    Result,
    answered,
    average,
    blind_part,
    difference,
    percent,
    seen_part,
)
from viq.evaluation.understanding.suite import PROBE

INTERVALS = (
    "In brackets the 95 % interval over items, by the bootstrap or, where all score the same,"
    " Wilson's; one item has none. Questions are resampled, not pictures: DocVQA, InfoVQA, ChartQA"
    " and TextVQA ask several about one picture, so theirs is too narrow. Training noise is not in"
    " it, as there is one run of each model."
)
RIGHT = 1.0  # a score of so much counts as right where examples are chosen
LONGEST = 120  # characters of a text in the table of examples


def score_table(results: Sequence[Result]) -> Table:
    """Each model's score on each task, with what it is to be compared with."""
    rows: list[tuple[Cell, ...]] = []
    for suite, some in _by_suite(results):
        for task in _tasks(some):
            for one in (one for one in some if one.task == task):
                chance = None if one.chance is None else one.chance * PERCENT
                left_out = one.failed or None
                rows.append(
                    (
                        *(one.model, task, one.metric, one.score, chance, one.blind_score),
                        *(len(one.scores), left_out),
                    )
                )
        for model in _models(some):
            own = [one for one in some if one.model == model and one.scores]
            if len(own) > 1 and suite != PROBE:
                chances = [one.chance for one in own if one.chance is not None]
                chance = PERCENT * sum(chances) / len(own) if len(chances) == len(own) else None
                name, count = f"average ({suite})", sum(len(one.scores) for one in own)
                score, blind = (
                    average([one.score for one in own]),
                    average([one.blind_score for one in own]),
                )
                rows.append((model, name, f"{len(own)} tasks", score, chance, blind, count, None))
    return Table(
        title="Understanding",
        columns=(
            Column(name="Model"),
            Column(name="Task"),
            Column(name="Metric"),
            Column(name="Score", unit="%", digits=1),
            Column(name="Chance", unit="%", digits=1),
            Column(name="No image", unit="%", digits=1),
            Column(name="Items"),
            Column(name="Left out"),
        ),
        rows=tuple(rows),
        note=f"{INTERVALS} Chance is the score of the best constant answer or of a draw among the"
        " choices, whichever is higher. That answer is fitted to the very questions: of few it"
        " scores more than on others, so this chance is too high. No image is the score of the same"
        " language model on the same questions without the pictures; probes ask no question, so"
        " they have none. Probes have no average: several are about the same pictures, and their"
        " measures differ. Left out are items that could not be read; they count nowhere. A"
        " question that is too long for the language model scores 0.",
    )


def difference_table(results: Sequence[Result], reference: str) -> Table:
    """How much each model scores more, or less, than the reference on the same items."""
    rows: list[tuple[Cell, ...]] = []
    for suite, some in _by_suite(results):
        known = {one.task: one for one in some if one.model == reference}
        for model in _models(some):
            pairs = [
                (one, known[one.task], found)
                for one in some
                if one.model == model != reference and one.task in known
                if (found := difference(one, known[one.task])) is not None
            ]
            if len(pairs) > 1 and suite != PROBE:
                mean = average([found for _, _, found in pairs])
                count = sum(found.count or 0 for _, _, found in pairs)
                rows.append((model, reference, f"average ({suite})", mean, count))
            for one, _, found in pairs:
                rows.append((model, reference, one.task, found, found.count))
    return Table(
        title="Difference",
        columns=(
            Column(name="Model"),
            Column(name="Reference"),
            Column(name="Task"),
            Column(name="Difference", unit="points", digits=1),
            Column(name="Items"),
        ),
        rows=tuple(rows),
        note="The model's score minus the reference's, item by item: where 0 lies inside the"
        f" interval, the items do not show that the two differ. {INTERVALS} Probes have no average:"
        " several are about the same pictures, and their measures differ.",
    )


def part_tables(results: Sequence[Result]) -> list[Table]:
    """The scores of tasks that can be broken down, for each thing that they are broken down by."""
    tables = []
    for task in _tasks(results):
        some = [one for one in results if one.task == task]
        for name in dict.fromkeys(name for one in some for name in one.parts):
            parts = sorted({part for one in some for part in one.parts[name].values()})
            cells = [
                (one.model, part, percent(values), len(values))
                for part in parts
                for one in some
                if (values := [v for id, v in one.scores.items() if one.parts[name][id] == part])
            ]
            if cells:
                tables.append(_part_table(f"{task} by {name}", cells))
    return tables


def _part_table(title: str, rows: Sequence[tuple[Cell, ...]]) -> Table:
    return Table(
        title=title,
        columns=(
            Column(name="Model"),
            Column(name="Part"),
            Column(name="Score", unit="%", digits=1),
            Column(name="Questions"),
        ),
        rows=tuple(rows),
        note=INTERVALS,
    )


def reading_table(samples: Samples, models: Sequence[str], tasks: Sequence[Task]) -> Table | None:
    """The character error of texts that were read; None where no task reads."""
    rows: list[tuple[Cell, ...]] = []
    for task in tasks:
        for model in models:
            seen = _errors(samples, seen_part(model, task.name))
            if seen:
                blind = _errors(samples, blind_part(model, task.name))
                scores = [percent([*errors.values()]) for errors in (seen, blind)]
                rows.append((model, task.title, *scores, len(seen)))
    if not rows:
        return None
    return Table(
        title="Reading",
        columns=(
            Column(name="Model"),
            Column(name="Task"),
            Column(name="Character error", unit="%", digits=1),
            Column(name="No image", unit="%", digits=1),
            Column(name="Items"),
        ),
        rows=tuple(rows),
        note="Characters to edit for each that is written, of an item at most all of them.",
    )


def example_table(
    samples: Samples, models: Sequence[str], examples: Sequence[tuple[Task, str]]
) -> Table:
    """What each model answered to some questions."""
    rows: list[tuple[Cell, ...]] = []
    for task, name in examples:
        for model in models:
            record = answered(samples, seen_part(model, task.name)).get(name)
            if record is not None:
                texts = (record["question"], " / ".join(record["right"][:3]), record["answer"])
                rows.append((model, task.title, *map(short, texts), record["score"]))
    return Table(
        title="Examples",
        columns=(
            Column(name="Model"),
            Column(name="Task"),
            Column(name="Question"),
            Column(name="Right"),
            Column(name="Answer"),
            Column(name="Score"),
        ),
        rows=tuple(rows),
        note="Of each task the first question that the reference gets right, and the first that it"
        " does not.",
    )


def pick_examples(
    samples: Samples, reference: str, tasks: Sequence[Task]
) -> list[tuple[Task, list[Mapping[str, Any] | None]]]:
    """For each task the reference's first record that is right, and the first that is not."""
    found = []
    for task in tasks:
        records = [*answered(samples, seen_part(reference, task.name)).values()]
        right = next((record for record in records if record["score"] >= RIGHT), None)
        wrong = next((record for record in records if record["score"] < RIGHT), None)
        if records:
            found.append((task, [right, wrong]))
    return found


def short(text: str) -> str:
    """One line, cut where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _errors(samples: Samples, part: str) -> dict[str, float]:
    return {
        name: record["measures"]["character error"]
        for name, record in answered(samples, part).items()
        if "character error" in record.get("measures", {})
    }


def _by_suite(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    for suite in dict.fromkeys(one.suite for one in results):
        yield suite, [one for one in results if one.suite == suite]


def _tasks(results: Sequence[Result]) -> list[str]:
    return [*dict.fromkeys(one.task for one in results)]


def _models(results: Sequence[Result]) -> list[str]:
    return [*dict.fromkeys(one.model for one in results)]
