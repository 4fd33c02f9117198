"""Synthetic samples by number: number i of a seed and split is always the same sample."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from viq.chat import Message
from viq.data.sample import Sample
from viq.data.synthetic import (
    charts,
    documents,
    forms,
    lines,
    pairs,
    passages,
    receipts,
    scraps,
    screens,
    shapes,
    tables,
)
from viq.data.synthetic.draws import between, several
from viq.data.synthetic.fonts import find_fonts
from viq.data.synthetic.kit import Family, Kit, Turn
from viq.data.synthetic.splits import SPLITS, Split
from viq.data.synthetic.words import Words
from viq.errors import InputError

FAMILIES: dict[str, Family] = {
    "words": lines.draw,
    "passages": passages.draw,
    "documents": documents.draw,
    "tables": tables.draw,
    "receipts": receipts.draw,
    "forms": forms.draw,
    "charts": charts.draw,
    "shapes": shapes.draw,
    "screens": screens.draw,
    "pairs": pairs.draw,
    "scraps": scraps.draw,
}
TASKS = tuple(FAMILIES)

SHARES = {"pairs": 0.3, "scraps": 0.3}  # of samples, where the others have 1
MAX_TURNS = 4


class SyntheticSource:
    """Endless pictures of text, as many of them as one likes to call all.

    Args:
        tasks: names of ``TASKS``; all of them if there are none.
        split: fonts, words, styles and wordings of the two splits differ.
        seed: another seed gives other samples.
        size: how many samples there are.
        name: what the source is called in a mixture.
        fonts: a folder of fonts to use beside matplotlib's.

    Raises:
        InputError: there is no such task or split, or there are no fonts.
    """

    def __init__(
        self,
        tasks: tuple[str, ...] = (),
        split: Split = "train",
        seed: int = 0,
        size: int = 1_000_000,
        name: str = "synthetic",
        fonts: Path | None = None,
    ) -> None:
        for task in tasks:
            if task not in TASKS:
                near = get_close_matches(task, TASKS, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ";"
                raise InputError(f"no synthetic task {task!r}{hint} there are: {', '.join(TASKS)}")
        if split not in SPLITS:
            raise InputError(f"no split {split!r}; there are: {', '.join(SPLITS)}")
        if size < 1 or seed < 0:
            raise InputError(f"size is {size} and seed {seed}; at least 1 and 0 are needed")
        self.name = name
        self.split = split
        self.seed = seed
        self.size = size
        self.tasks = tasks or TASKS
        shares = np.array([SHARES.get(task, 1.0) for task in self.tasks])
        self._bounds = np.cumsum(shares / shares.sum())
        self._kit = Kit(split=split, fonts=find_fonts(split, fonts), words=Words(split=split))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.size:
            raise IndexError(f"no sample {index}; there are {self.size:,}")
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        place = int(np.searchsorted(self._bounds, rng.random(), side="right"))
        task = self.tasks[min(place, len(self.tasks) - 1)]
        images, turns = FAMILIES[task](rng, self._kit)
        turns = several(rng, turns, between(rng, 1, MAX_TURNS))
        return Sample(
            id=f"{self.name}/{task}/{self.split}/{index}",
            images=tuple(images),
            messages=_messages(len(images), turns),
        )


def _messages(images: int, turns: Sequence[Turn]) -> tuple[Message, ...]:
    """A conversation that begins with the images."""
    messages: list[Message] = []
    for question, answer in turns:
        content = [{"type": "text", "text": question}]
        if not messages:
            content = [{"type": "image"}] * images + content
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return tuple(messages)
