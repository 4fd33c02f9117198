"""MMMU (https://arxiv.org/abs/2311.16502), as lmms-eval 0.7.3 asks chat models and scores them."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from viq.errors import InputError
from viq.evaluation.benchmarks.benchmark import Benchmark
from viq.evaluation.benchmarks.choices import lettered
from viq.evaluation.benchmarks.rows import Row
from viq.evaluation.task import Item
from viq.metrics.choices import mmmu_choice, mmmu_open_score

_CHOOSE = "Answer with the option's letter from the given choices directly."
_BRIEFLY = "Answer the question using a single word or phrase."
_IMAGES = tuple(f"image_{number}" for number in range(1, 8))


def _mmmu(row: Row) -> Item:
    id = row.text("id")
    closed = row.text("question_type") == "multiple-choice"
    options = _options(row) if closed else ()
    asked = f"{row.text('question')}\n"
    asked += f"{lettered(options)}\n\n{_CHOOSE}" if closed else f"\n{_BRIEFLY}"
    names = sorted(set(re.findall(r"<(image \d+)>", asked)))
    if unknown := [name for name in names if name.replace(" ", "_") not in _IMAGES]:
        raise InputError(f"its question is of {unknown[0]}, which there is not", row.where)
    subject = re.fullmatch(r"[^_]+_(.+)_\d+", id)
    if subject is None:
        raise InputError(f"its id is {id!r}, not like validation_Art_1", row.where)
    return Item(
        id=id,
        images=tuple(row.picture(name.replace(" ", "_")) for name in names),
        content=tuple(_interleaved(re.split(r"<image(?: [1-7])?>", asked), len(names))),
        answers=(row.text("answer"),),
        facts={"subject": subject[1], "options": list(options) if closed else None},
    )


def _interleaved(texts: Sequence[str], images: int) -> Iterator[Mapping[str, Any]]:
    """Pictures between the texts, in the order of their numbers, as lmms-eval has them.

    Where a picture is named twice there are more gaps than pictures: texts in between are left out,
    there as here. Pictures are in the order of their numbers, whatever their places.
    """
    before = [text.strip() for text in texts[: min(images, len(texts) - 1)]]
    for text, _ in zip_longest(before, range(images), fillvalue=""):
        if text:
            yield {"type": "text", "text": text}
        yield {"type": "image"}
    yield {"type": "text", "text": texts[-1].strip()}


def _options(row: Row) -> tuple[str, ...]:
    """The options, which the data hold as the source of a Python list."""
    source = row.text("options")
    try:
        options = ast.literal_eval(source)
    except (ValueError, SyntaxError):
        options = None
    if not isinstance(options, list) or not options:
        raise InputError(f"its options are {source[:60]!r}, not a list", row.where)
    return tuple(str(option) for option in options)


def _score(item: Item, answer: str) -> float:
    """Where no letter is found lmms-eval draws one; here that counts as what a draw is worth."""
    options = item.facts["options"]
    if options is None:
        return mmmu_open_score(answer, item.answers[0])
    letter = mmmu_choice(answer, options)
    return 1 / len(options) if letter is None else float(letter == item.answers[0])


def _guess(item: Item) -> float:
    options = item.facts["options"]
    return 1 / len(options) if options else 0.0


MMMU = Benchmark(
    name="mmmu",
    title="MMMU (accuracy)",
    metric="accuracy",
    repository="lmms-lab-encoder/MMMU",
    split="validation",
    columns=("id", "question", "options", "answer", "question_type", *_IMAGES),
    id="id",
    read=_mmmu,
    score=_score,
    max_new_tokens=128,
    parts=("subject",),
    guess=_guess,
)
