"""Tasks that are drawn: pictures of text, charts and shapes, and one question about each.

Item i of a task is the same everywhere. Fonts, words, styles and wordings are those of the
validation split, which no training has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, overload

import numpy as np

from viq.data.synthetic import charts, documents, forms, lines, receipts, screens, shapes, tables
from viq.data.synthetic.canvas import Canvas, line_height, text_width
from viq.data.synthetic.colours import theme
from viq.data.synthetic.draws import between, chance, pick
from viq.data.synthetic.fonts import find_fonts
from viq.data.synthetic.kit import Family, Kit, Scene, Turn
from viq.data.synthetic.wear import worn
from viq.data.synthetic.words import Words
from viq.evaluation.task import Item, best_constant
from viq.metrics.text import anls, character_error, exact_match, relaxed_accuracy

SEED = 0
SIZE = 2000  # items of a task, where no count is asked for
WORD_SIZE = 24  # pixels, of the font
LONGEST = 40  # characters of an answer, but for those of texts that are read


@dataclass(frozen=True, kw_only=True)
class SyntheticTask:
    """See ``viq.evaluation.task.Task``.

    Attributes:
        draw: makes a picture and questions with their answers.
        takes: whether a question may be asked.
        agree: how good an answer is, and the right one.
        reads: whether the answer is what is written, so that characters can be compared.
    """

    name: str
    title: str
    metric: str
    draw: Family
    agree: Callable[[str, str], float]
    takes: Callable[[Turn], bool] = lambda turn: len(turn[1]) <= LONGEST
    reads: bool = False
    max_new_tokens: int = 32
    way: Literal["write"] = "write"
    parts: tuple[str, ...] = ()

    def items(self, count: int | None) -> Sequence[Item]:
        """The first ``count`` items; each is drawn when it is asked for."""
        return Items(SIZE if count is None else count, self.item)

    def item(self, number: int) -> Item:
        """One item."""
        rng = np.random.default_rng([SEED, *self.name.encode(), number])
        while True:
            scene = self.draw(rng, _kit())
            turns = [turn for turn in scene.turns if self.takes(turn)]
            if turns:
                break
        question, answer = pick(rng, turns)
        pictures = tuple({"type": "image"} for _ in scene.images)
        return Item(
            id=str(number),
            images=tuple(scene.images),
            content=(*pictures, {"type": "text", "text": question}),
            answers=(answer,),
        )

    def score(self, item: Item, answer: str) -> float:
        """How good an answer is, in [0, 1]."""
        return self.agree(answer, item.answers[0])

    def measures(self, item: Item, answer: str) -> Mapping[str, float]:
        """Of what is read: the characters to edit for each that is written, at most 1."""
        if not self.reads:
            return {}
        return {"character error": min(1.0, character_error(answer, item.answers[0]))}

    def chance(self, items: Sequence[Item]) -> float:
        """The score of the best constant answer among the most frequent right ones."""
        return best_constant(self.score, items)


class Items(Sequence[Item]):
    """Items that are made when they are asked for."""

    def __init__(self, length: int, make: Callable[[int], Item]) -> None:
        self._length, self._make = length, make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self._make(number) for number in range(*index.indices(self._length))]
        return self._make(range(self._length)[index])

    def __iter__(self) -> Iterator[Item]:
        return map(self._make, range(self._length))


@cache
def _kit() -> Kit:
    return Kit(split="validation", fonts=find_fonts("validation"), words=Words(split="validation"))


def _word(rng: np.random.Generator, kit: Kit) -> Scene:
    """One word of a fixed size on a plain ground."""
    kind = pick(rng, ("noun", "adjective", "verb"))
    text = kit.words.pseudo(rng) if chance(rng, 0.5) else kit.words.one(rng, kind)
    text = pick(rng, (text, text, text.capitalize(), text.upper()))
    font, colours = kit.fonts.full(rng).at(WORD_SIZE), theme(rng)
    margin = between(rng, 6, 24)
    size = text_width(text, font) + 2 * margin, line_height(font) + 2 * margin
    canvas = Canvas((max(size[0], lines.MIN_SIZE[0]), size[1]), colours.background)
    canvas.text((margin, margin), text, font, colours.ink)
    return Scene([worn(rng, canvas)], [(kit.ask(rng, lines.QUESTIONS["say"]), text)])


def _read(rng: np.random.Generator, kit: Kit) -> Scene:
    """Lines of the family words, all of which are read."""
    scene = lines.draw(rng, kit)
    return Scene(scene.images, scene.turns[:1])


def _same(answer: str, right: str) -> float:
    """1 where all characters are the same, but for the amount of white space."""
    return float(answer.split() == right.split())


def _anls(answer: str, right: str) -> float:
    return anls(answer, [right])


def _takes_all(_: Turn) -> bool:
    return True


def _is_count(turn: Turn) -> bool:
    return turn[1].isdigit()


def _is_no_count(turn: Turn) -> bool:
    return not turn[1].isdigit()


SYNTHETIC = (
    SyntheticTask(
        name="words",
        title=f"Words of {WORD_SIZE} pixels",
        metric="exact",
        draw=_word,
        agree=_same,
        takes=_takes_all,
        reads=True,
    ),
    SyntheticTask(
        name="lines",
        title="Lines of text",
        metric="exact",
        draw=_read,
        agree=_same,
        takes=_takes_all,
        reads=True,
        max_new_tokens=64,
    ),
    SyntheticTask(
        name="documents", title="Documents", metric="ANLS", draw=documents.draw, agree=_anls
    ),
    SyntheticTask(name="tables", title="Tables", metric="ANLS", draw=tables.draw, agree=_anls),
    SyntheticTask(
        name="receipts", title="Receipts, invoices", metric="ANLS", draw=receipts.draw, agree=_anls
    ),
    SyntheticTask(name="forms", title="Forms", metric="ANLS", draw=forms.draw, agree=_anls),
    SyntheticTask(
        name="screens", title="Screenshots", metric="ANLS", draw=screens.draw, agree=_anls
    ),
    SyntheticTask(
        name="charts",
        title="Charts",
        metric="relaxed accuracy",
        draw=charts.draw,
        agree=relaxed_accuracy,
    ),
    SyntheticTask(
        name="counting",
        title="Counting shapes",
        metric="exact",
        draw=shapes.draw,
        agree=exact_match,
        takes=_is_count,
        max_new_tokens=8,
    ),
    SyntheticTask(
        name="relations",
        title="Shapes: colours, places",
        metric="exact",
        draw=shapes.draw,
        agree=exact_match,
        takes=_is_no_count,
        max_new_tokens=16,
    ),
)
