"""Asks a model all questions of a task, goes on where it was stopped, and keeps each answer.

Questions are taken in windows, in order. The batches of a window depend on its questions alone, so
that a run which was stopped gives the same numbers as one that was not: in another batch the noise
of floating-point sums could turn an answer. What was finished is not asked again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from viq.errors import InputError
from viq.evaluation.samples import Samples
from viq.evaluation.understanding.answerer import Answerer, Question
from viq.evaluation.understanding.pooled import Features
from viq.evaluation.understanding.probing import Probing
from viq.evaluation.understanding.task import Item, Task

WINDOW = 64  # questions
CHOICES = 4  # as many count in a batch as a question does

PROBED = "probed"  # the part that says which probes are finished

Record = Mapping[str, Any]


class Asked(NamedTuple):
    """An item with its number in the task and the model's inputs."""

    place: int
    item: Item
    question: Question


@runtime_checkable
class Measured(Protocol):
    """A task with more measures of an answer than its score."""

    def measures(self, item: Item, answer: str) -> Mapping[str, float]:
        """By name."""


def ask(
    task: Task,
    count: int | None,
    answerer: Answerer,
    samples: Samples,
    part: str,
    *,
    batch: int,
    progress: Callable[[int], object],
) -> None:
    """Asks the first ``count`` questions of a task, or all.

    Args:
        task: of which.
        count: how many.
        answerer: the model.
        samples: get a record of each: {place, question, right, facts, answer, score}, of ranked
            choices {choices, likelihoods}, too; of an item that cannot be read {place, failed}.
        part: of the samples.
        batch: questions at once.
        progress: is told how many more questions are finished.
    """
    items = task.items(count)
    done = samples.of(part)
    for start in range(0, len(items), WINDOW):
        end = min(start + WINDOW, len(items))
        if end <= len(done):  # windows are finished in order
            progress(end - start)
            continue
        before = max(0, len(done) - start)
        progress(before)
        _ask_window(task, items, range(start, end), answerer, samples, part, batch, progress)


def probe(
    probing: Probing, name: str, subject: str, look: Features, samples: Samples, part: str
) -> None:
    """Keeps the records of a probe, unless they are there.

    Args:
        probing: runs it.
        name: of the probe.
        subject: the name under which features are kept.
        look: makes features.
        samples: get the records, and ``PROBED`` a note that all of them are there.
        part: of the samples.
    """
    if part in samples.of(PROBED):
        return
    records = probing.records(name, subject, look)
    done = samples.of(part)
    samples.add(part, {id: record for id, record in records.items() if id not in done})
    samples.add(PROBED, {part: {}})


def _ask_window(
    task: Task,
    items: Sequence[Item],
    places: range,
    answerer: Answerer,
    samples: Samples,
    part: str,
    batch: int,
    progress: Callable[[int], object],
) -> None:
    done = samples.of(part)
    readable: list[Asked] = []
    for place in places:
        name = f"item {place}"
        try:
            item = items[place]
            name = item.id
            question = answerer.read(item, task.max_new_tokens)
            readable.append(Asked(place, item, question))
        except InputError as error:
            if name not in done:
                samples.add(part, {name: {"place": place, "failed": error.reason}})
                progress(1)
    for some in _batches(readable, batch):
        if all(asked.item.id in done for asked in some):
            continue
        answers = _answers(task, answerer, [asked.question for asked in some])
        records = {
            asked.item.id: _record(task, asked, answer)
            for asked, answer in zip(some, answers, strict=True)
            if asked.item.id not in done
        }
        samples.add(part, records)
        progress(len(records))


def _batches(readable: Sequence[Asked], size: int) -> Iterator[list[Asked]]:
    """Of like lengths; questions that are the same are in one batch, where they count once."""
    groups: dict[Any, list[Asked]] = {}
    for asked in readable:
        key = asked.question.same_as
        groups.setdefault(asked.place if key is None else key, []).append(asked)
    batch: list[Asked] = []
    rows = 0
    for group in sorted(groups.values(), key=lambda group: -group[0].question.length):
        needed = max(1, len(group[0].question.choices) // CHOICES)
        if batch and rows + needed > size:
            yield batch
            batch, rows = [], 0
        batch, rows = batch + group, rows + needed
    if batch:
        yield batch


def _answers(task: Task, answerer: Answerer, questions: Sequence[Question]) -> list[Any]:
    """A text for each question, or the likelihoods of its choices; the same ones asked once."""
    keys = [place if q.same_as is None else q.same_as for place, q in enumerate(questions)]
    different = dict(zip(keys, questions, strict=True))
    found: Sequence[Any]
    if task.way == "rank":
        found = answerer.rank(list(different.values()))
    else:
        found = answerer.write(list(different.values()), task.max_new_tokens)
    answers = dict(zip(different, found, strict=True))
    return [answers[key] for key in keys]


def _record(task: Task, asked: Asked, answer: Any) -> Record:
    item = asked.item
    record: dict[str, Any] = {
        "place": asked.place,
        "question": question_text(item),
        "right": list(item.answers),
        "facts": dict(item.facts),
    }
    text = answer
    if task.way == "rank":
        record |= {"choices": list(item.choices), "likelihoods": answer}
        text = item.choices[max(range(len(answer)), key=answer.__getitem__)]
    record |= {"answer": text, "score": task.score(item, text)}
    if isinstance(task, Measured):
        record["measures"] = dict(task.measures(item, text))
    return record


def question_text(item: Item) -> str:
    """The question's text alone."""
    return "\n".join(part["text"] for part in item.content if part["type"] == "text")


def item_of(record: Record) -> Item:
    """The item of a record, but for its pictures: what a task's chance is asked of."""
    return Item(
        id=record["id"],
        images=(),
        content=({"type": "text", "text": record["question"]},),
        answers=tuple(record["right"]),
        choices=tuple(record.get("choices", ())),
        facts=record["facts"],
    )
