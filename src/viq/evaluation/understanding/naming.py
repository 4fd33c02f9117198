"""Tasks of choice: which caption a picture has, of five of its kind, and which digit it shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from viq.data.synthetic.draws import several
from viq.errors import InputError
from viq.evaluation.task import Item
from viq.evaluation.understanding.captioned import ROWS, held_out, name_of
from viq.evaluation.understanding.digits import read_digits
from viq.evaluation.understanding.pictures import Labelled
from viq.evaluation.understanding.synthetic import Items
from viq.image import Picture

SEED = 0
CHOICES = 5
KINDS = ("emoji", "flag", "clipart", "cutout", "render")  # of things that have a name
LONGEST = 60  # characters of a name
DIGIT_SIDE = 64  # pixels
DIGITS = tuple("0123456789")
HELD_OUT = 1000  # of the digits, which probes do not fit on


@dataclass(frozen=True)
class Shown:
    """A picture with the choices."""

    id: str
    picture: Picture | bytes
    right: str
    choices: tuple[str, ...]
    facts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RankedTask:
    """See ``viq.evaluation.task.Task``."""

    name: str
    title: str
    question: str
    shown: Sequence[Shown]
    metric: str = "accuracy"
    max_new_tokens: int = 0
    way: Literal["rank"] = "rank"
    parts: tuple[str, ...] = ()

    def items(self, count: int | None) -> Sequence[Item]:
        """The first ``count`` items, or all."""
        total = len(self.shown)
        return Items(total if count is None else min(count, total), self._item)

    def _item(self, number: int) -> Item:
        one = self.shown[number]
        return Item(
            id=one.id,
            images=(one.picture,),
            content=({"type": "image"}, {"type": "text", "text": self.question}),
            answers=(one.right,),
            choices=one.choices,
            facts=one.facts,
        )

    def score(self, item: Item, answer: str) -> float:
        """1 for the right choice."""
        return float(answer == item.answers[0])

    def chance(self, items: Sequence[Item]) -> float:
        """That of a draw."""
        if not items:
            raise ValueError("there are no items to draw for.")
        return sum(1 / len(item.choices) for item in items) / len(items)


def naming(folder: Path) -> RankedTask:
    """The held-out pictures of a folder, whose captions name what they show.

    Raises:
        InputError: there are no such pictures, or of no kind enough with different names.
    """
    named = [(one, _name(one)) for one in held_out(folder, ROWS["full"][1])]
    kinds = {one.labels["kind"] for one, _ in named if "kind" in one.labels}
    taken = [
        (one, name)
        for one, name in named
        if name and (not kinds or one.labels.get("kind") in KINDS)
    ]
    names: dict[str, list[str]] = {}
    for one, name in taken:
        known = names.setdefault(one.labels.get("kind", ""), [])
        if name.lower() not in map(str.lower, known):
            known.append(name)
    shown = []
    for place in np.random.default_rng(SEED).permutation(len(taken)):
        one, name = taken[place]
        kind = one.labels.get("kind", "")
        others = [other for other in names[kind] if other.lower() != name.lower()]
        if len(others) < CHOICES - 1:
            continue
        rng = np.random.default_rng([SEED, int(place)])
        choices = several(rng, [name, *several(rng, others, CHOICES - 1)], CHOICES)
        shown.append(Shown(one.id, one.picture, name, tuple(choices), {"kind": kind}))
    if not shown:
        raise InputError(
            f"has no validation pictures to name: of a kind ({', '.join(KINDS)}) there must be"
            f" {CHOICES} with different captions that are no train pictures'",
            folder,
        )
    return RankedTask(
        name="naming",
        title="Naming pictures",
        question="Name what is shown.",
        shown=shown,
    )


def _name(one: Labelled) -> str:
    """The name in a caption; nothing if that is long."""
    name = name_of(one.labels.get("caption", ""))
    return name if len(name) <= LONGEST else ""


def digits() -> RankedTask:
    """Handwritten digits that no probe is fitted on.

    Raises:
        InputError: the package that has them is not installed.
    """
    shown = [
        Shown(str(one.number), one.picture(DIGIT_SIDE), one.label, DIGITS, {})
        for one in read_digits()[-HELD_OUT:]
    ]
    return RankedTask(
        name="digits",
        title="Handwritten digits",
        question="Which digit is it?",
        shown=shown,
    )
