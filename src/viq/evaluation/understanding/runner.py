"""Asks a model all questions of a task, goes on where it was stopped, and keeps each answer.

Questions are taken in windows, in order. The batches of a window depend on its questions alone, so
that a run which was stopped gives the same numbers as one that was not: in another batch the noise
of floating-point sums could turn an answer. What was finished is not asked again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from viq.errors import InputError
from viq.evaluation.samples import Samples
from viq.evaluation.task import Item, Task
from viq.evaluation.understanding.answerer import Answerer, Question
from viq.evaluation.understanding.pooled import Features
from viq.evaluation.understanding.probing import Probing

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
) -> dict[str, str]:
    """Asks the first ``count`` questions of a task, or all.

    A question that is too long for the language model scores 0. An item that cannot be read gets
    no record, and is tried again the next time.

    Args:
        task: of which.
        count: how many.
        answerer: the model.
        samples: get a record of each: {place, question, right, facts, answer, score}; with
            pictures also {pictures, picture_tokens}, of ranked choices {choices, likelihoods}, and
            where that is so {too_long}.
        part: of the samples.
        batch: questions at once.
        progress: is told how many more questions are finished.

    Returns:
        Why items could not be read, by their names.
    """
    items = task.items(count)
    done = {record["place"] for record in samples.of(part).values()}
    failed: dict[str, str] = {}
    for start in range(0, len(items), WINDOW):
        places = range(start, min(start + WINDOW, len(items)))
        finished = len(done.intersection(places))
        progress(finished)
        if finished < len(places):
            failed |= _ask_window(task, items, places, answerer, samples, part, batch, progress)
    return failed


def probe(
    probing: Probing, name: str, subject: str, look: Features, samples: Samples, part: str
) -> dict[str, str]:
    """Keeps the records of a probe, unless they are there.

    Pictures that cannot be read are tried again the next time. If there are fewer of them then, all
    is fitted anew, and the records go to a part of their own.

    Args:
        probing: runs it.
        name: of the probe.
        subject: the name under which features are kept.
        look: makes features.
        samples: get the records, and ``PROBED`` a note that all of them are there.
        part: of the samples, if all pictures can be read.

    Returns:
        Why pictures could not be read, by their names.
    """
    if part in samples.of(PROBED):
        return {}
    failed = probing.look(name, subject, look)
    actual = f"{part}.without-{len(failed)}" if failed else part
    if actual not in samples.of(PROBED):
        records, done = probing.records(name, subject, look), samples.of(actual)
        samples.add(actual, {id: record for id, record in records.items() if id not in done})
        samples.add(PROBED, {actual: {"of": part, "failed": len(failed)}})
    return failed


def _ask_window(
    task: Task,
    items: Sequence[Item],
    places: range,
    answerer: Answerer,
    samples: Samples,
    part: str,
    batch: int,
    progress: Callable[[int], object],
) -> dict[str, str]:
    done = samples.of(part)
    readable: list[Asked] = []
    failed: dict[str, str] = {}
    for place in places:
        name = f"item {place}"
        try:
            item = items[place]
            name = item.id
            asked = Asked(place, item, answerer.read(item, task.max_new_tokens))
        except InputError as error:
            failed[name] = error.reason
            progress(1)
            continue
        if asked.question.too_long is None:
            readable.append(asked)
        elif name not in done:
            samples.add(part, {name: _too_long(task, asked)})
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
    return failed


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
    record, item, text = _begun(asked), asked.item, answer
    if task.way == "rank":
        record["likelihoods"] = answer
        text = item.choices[max(range(len(answer)), key=answer.__getitem__)]
    return record | {"answer": text, "score": task.score(item, text)} | _measures(task, item, text)


def _too_long(task: Task, asked: Asked) -> Record:
    """Of a question that is not asked: no answer, which is not right."""
    record = _begun(asked) | {"too_long": asked.question.too_long, "answer": "", "score": 0.0}
    return record | _measures(task, asked.item, "")


def _begun(asked: Asked) -> dict[str, Any]:
    """What is known before there is an answer."""
    item, question = asked.item, asked.question
    record: dict[str, Any] = {
        "place": asked.place,
        "question": question_text(item),
        "right": list(item.answers),
        "facts": dict(item.facts),
    }
    if item.choices:
        record["choices"] = list(item.choices)
    if question.pictures:
        record |= {"pictures": question.pictures, "picture_tokens": question.picture_tokens}
    return record


def _measures(task: Task, item: Item, text: str) -> dict[str, Any]:
    return {"measures": dict(task.measures(item, text))} if isinstance(task, Measured) else {}


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
