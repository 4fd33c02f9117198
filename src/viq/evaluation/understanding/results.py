"""What models have scored, item by item, and what follows from it: averages and differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from viq.evaluation.document import Score
from viq.evaluation.samples import Samples
from viq.evaluation.scores import mean_over_tasks, mean_score, paired_difference
from viq.evaluation.understanding.probes import PROBES
from viq.evaluation.understanding.runner import item_of
from viq.evaluation.understanding.task import Task

PERCENT = 100.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """A model's scores on one task.

    Attributes:
        model: how tables call it.
        suite: the tasks that it is averaged with.
        task: the task's title.
        metric: of what the scores are.
        scores: in [0, 1], by item.
        chance: what knows neither picture nor question scores, in [0, 1]; None: not known.
        blind: scores of the same language model without pictures; None: not asked.
        failed: how many items could not be read.
    """

    model: str
    suite: str
    task: str
    metric: str
    scores: Mapping[str, float]
    chance: float | None = None
    blind: Mapping[str, float] | None = None
    failed: int = 0

    @property
    def score(self) -> Score | None:
        """In percent; None where no item was scored."""
        return mean_score([*self.scores.values()], scale=PERCENT) if self.scores else None

    @property
    def blind_score(self) -> Score | None:
        """Without pictures, in percent."""
        return mean_score([*self.blind.values()], scale=PERCENT) if self.blind else None


def seen_part(model: str, task: str) -> str:
    """Where a model's answers are."""
    return f"{task}.{model}.seen"


def blind_part(model: str, task: str) -> str:
    """Where its answers without pictures are."""
    return f"{task}.{model}.blind"


def answered(samples: Samples, part: str) -> dict[str, Mapping[str, Any]]:
    """The records of items that could be read, in the task's order."""
    records = sorted(samples.of(part).values(), key=lambda record: record["place"])
    return {record["id"]: record for record in records if "failed" not in record}


def failures(samples: Samples, part: str) -> dict[str, str]:
    """Why items could not be read."""
    records = samples.of(part).values()
    return {record["id"]: record["failed"] for record in records if "failed" in record}


def result(samples: Samples, model: str, suite: str, task: Task, *, blind: bool) -> Result:
    """What the records of a model and task say."""
    seen = answered(samples, seen_part(model, task.name))
    without = answered(samples, blind_part(model, task.name)) if blind else {}
    return Result(
        model=model,
        suite=suite,
        task=task.title,
        metric=task.metric,
        scores={name: record["score"] for name, record in seen.items()},
        chance=task.chance([item_of(record) for record in seen.values()]) if seen else None,
        blind={name: without[name]["score"] for name in seen if name in without} or None,
        failed=len(failures(samples, seen_part(model, task.name))),
    )


def probe_result(samples: Samples, model: str, name: str) -> Result:
    """What the records of a model and probe say."""
    probe, part = PROBES[name], seen_part(model, name)
    records = answered(samples, part)
    metric = "" if probe.metric == "accuracy" else f", {probe.metric}"
    return Result(
        model=model,
        suite="probes",
        task=f"Probe: {probe.title}{metric}",
        metric=probe.metric,
        scores={name: record["score"] for name, record in records.items()},
        chance=probe.chance(records) if records else None,
        failed=len(failures(samples, part)),
    )


def average(results: Sequence[Result]) -> Score:
    """The mean of the tasks' scores, in percent."""
    return mean_over_tasks([[*one.scores.values()] for one in results], scale=PERCENT)


def blind_average(results: Sequence[Result]) -> Score | None:
    """The mean of the tasks' scores without pictures, where all have one."""
    blind = [[*one.blind.values()] for one in results if one.blind]
    return mean_over_tasks(blind, scale=PERCENT) if len(blind) == len(results) else None


def difference(one: Result, reference: Result) -> Score | None:
    """In points, over the items that both have; None where there are none."""
    pairs = _pairs(one, reference)
    if not pairs:
        return None
    return paired_difference([a for a, _ in pairs], [b for _, b in pairs], scale=PERCENT)


def average_difference(pairs: Sequence[tuple[Result, Result]]) -> Score:
    """In points, the mean of the tasks' differences."""
    differences = [[a - b for a, b in _pairs(one, reference)] for one, reference in pairs]
    return mean_over_tasks(differences, scale=PERCENT)


def _pairs(one: Result, reference: Result) -> list[tuple[float, float]]:
    both = [name for name in reference.scores if name in one.scores]
    return [(one.scores[name], reference.scores[name]) for name in both]
