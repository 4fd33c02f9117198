"""What a task is: items with pictures, a question and right answers, and how an answer counts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from viq.image import Picture

CANDIDATES = 50  # constant answers that are tried: the most frequent right ones


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question.

    Attributes:
        id: its name, of no other item of the task.
        images: pictures in order: paths, encoded bytes, PIL images or arrays.
        content: of the user's message, as chat templates take it: {"type": "image"} for each
            picture, in its place, and {"type": "text", "text": ...}.
        answers: those that are right; what the task's score makes of several is the task's.
        choices: of a task whose choices are ranked, all of them, the right one among them.
        facts: more that the score or its break-down wants, as JSON takes it.
    """

    id: str
    images: tuple[Picture | bytes, ...]
    content: tuple[Mapping[str, Any], ...]
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """Items, in a fixed order: the first N of them are the same items in every run."""

    @property
    def name(self) -> str:
        """Of letters, digits and hyphens: "docvqa"."""

    @property
    def title(self) -> str:
        """As tables have it: "DocVQA (ANLS)"."""

    @property
    def metric(self) -> str:
        """What ``score`` is, in a word or two: "ANLS"."""

    @property
    def way(self) -> Literal["write", "rank"]:
        """The model writes an answer, or the likeliest choice counts."""

    @property
    def max_new_tokens(self) -> int:
        """Of a written answer."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The items' facts that the score is broken down by."""

    def items(self, count: int | None) -> Sequence[Item]:
        """The first ``count`` items, or all; pictures may be read when an item is."""

    def score(self, item: Item, answer: str) -> float:
        """How good an answer is, in [0, 1]."""

    def chance(self, items: Sequence[Item]) -> float:
        """The score in [0, 1] of an answer that knows neither picture nor question."""


def best_constant(score: Callable[[Item, str], float], items: Sequence[Item]) -> float:
    """The mean score of that answer, of the most frequent right ones, which has the highest.

    Raises:
        ValueError: there are no items.
    """
    if not items:
        raise ValueError("there are no items, so no answer is the best.")
    frequent = Counter(answer for item in items for answer in item.answers)
    return max(
        sum(score(item, answer) for item in items) / len(items)
        for answer, _ in frequent.most_common(CANDIDATES)
    )
