"""What models have scored, item by item, and what follows from it: averages and differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from viq.evaluation.document import Score
from viq.evaluation.samples import Samples
from viq.evaluation.scores import SHARE, mean_over_tasks, mean_score, paired_difference
from viq.evaluation.task import Task
from viq.evaluation.understanding.probes import PROBES
from viq.evaluation.understanding.runner import PROBED, item_of
from viq.evaluation.understanding.suite import PROBE

PERCENT = 100.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """A model's scores on one task.

    Attributes:
        model: how tables call it.
        suite: the tasks that it stands with.
        task: the task's title.
        metric: of what the scores are.
        scores: in [0, 1], by item.
        chance: what knows neither picture nor question scores, in [0, 1]; None: not known.
        blind: scores of the same language model without pictures; None: not asked.
        failed: how many items could not be read.
        parts: what the score is broken down by, and the part that each item is of.
    """

    model: str
    suite: str
    task: str
    metric: str
    scores: Mapping[str, float]
    chance: float | None = None
    blind: Mapping[str, float] | None = None
    failed: int = 0
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def score(self) -> Score | None:
        """In percent; None where no item was scored."""
        return percent([*self.scores.values()])

    @property
    def blind_score(self) -> Score | None:
        """Without pictures, in percent."""
        return percent([*(self.blind or {}).values()])


def percent(values: Sequence[float]) -> Score | None:
    """The mean of shares; None where there are none."""
    return mean_score(values, scale=PERCENT, span=SHARE) if values else None


def seen_part(model: str, task: str) -> str:
    """Where a model's answers are."""
    return f"{task}.{model}.seen"


def blind_part(model: str, task: str) -> str:
    """Where its answers without pictures are."""
    return f"{task}.{model}.blind"


def answered(samples: Samples, part: str) -> dict[str, Mapping[str, Any]]:
    """The records of items that could be read, in the task's order."""
    records = sorted(samples.of(part).values(), key=lambda record: record["place"])
    return {record["id"]: record for record in records}


Chances = dict[tuple[str, ...], float]  # by a task's name and its items


def result(
    samples: Samples, model: str, suite: str, task: Task, *, count: int, blind: bool, known: Chances
) -> Result:
    """What the records of a model and task say.

    Args:
        samples: the records.
        model: as tables call it.
        suite: of the task.
        task: of which.
        count: as many questions were asked.
        blind: whether also without pictures.
        known: chances; they take long, and are the same for all models.
    """
    seen = answered(samples, seen_part(model, task.name))
    without = answered(samples, blind_part(model, task.name)) if blind else {}
    key = (task.name, *seen)
    if seen and key not in known:
        known[key] = task.chance([item_of(record) for record in seen.values()])
    return Result(
        model=model,
        suite=suite,
        task=task.title,
        metric=task.metric,
        scores={name: record["score"] for name, record in seen.items()},
        chance=known.get(key),
        blind={name: without[name]["score"] for name in seen if name in without} or None,
        failed=len(task.items(count)) - len(seen),
        parts={
            name: {id: record["facts"][name] for id, record in seen.items()} for name in task.parts
        },
    )


def probe_result(samples: Samples, model: str, name: str) -> Result:
    """What the records of a model and probe say."""
    probe, part = PROBES[name], seen_part(model, name)
    notes = [note for note in samples.of(PROBED).values() if note.get("of") == part]
    records = answered(samples, notes[-1]["id"]) if notes else {}
    metric = "" if probe.metric == "accuracy" else f", {probe.metric}"
    return Result(
        model=model,
        suite=PROBE,
        task=f"Probe: {probe.title}{metric}",
        metric=probe.metric,
        scores={name: record["score"] for name, record in records.items()},
        chance=probe.chance(records) if records else None,
        failed=notes[-1]["failed"] if notes else 0,
    )


def average(scores: Sequence[Score | None]) -> Score | None:
    """The mean of the tasks' scores; None where one has none."""
    known = [score for score in scores if score is not None]
    return mean_over_tasks(known) if known and len(known) == len(scores) else None


def difference(one: Result, reference: Result) -> Score | None:
    """In points, over the items that both have; None where there are none."""
    both = [name for name in reference.scores if name in one.scores]
    if not both:
        return None
    pair = [one.scores[name] for name in both], [reference.scores[name] for name in both]
    return paired_difference(*pair, scale=PERCENT, span=SHARE)
