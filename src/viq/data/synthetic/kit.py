"""What every family draws with: the fonts, words, styles and questions of one split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from viq.data.synthetic.draws import pick
from viq.data.synthetic.fonts import Fonts
from viq.data.synthetic.splits import Split, part
from viq.data.synthetic.words import Words

S = TypeVar("S")
Turn = tuple[str, str]  # a question and its answer


class Scene(NamedTuple):
    """Pictures, and all that can be asked about them: nothing else is right than the answer."""

    images: list[Image.Image]
    turns: list[Turn]


@dataclass(frozen=True, kw_only=True)
class Kit:
    """The means of one split."""

    split: Split
    fonts: Fonts
    words: Words

    def style(self, rng: np.random.Generator, styles: Mapping[str, S]) -> S:
        """One of a family's styles."""
        return styles[pick(rng, part(tuple(styles), self.split))]

    def ask(self, rng: np.random.Generator, phrases: tuple[str, ...], **values: object) -> str:
        """A question in one of several wordings, its places filled."""
        return pick(rng, part(phrases, self.split)).format(**values)


Family = Callable[[np.random.Generator, Kit], Scene]


def ordinal(number: int) -> str:
    """1 as "first" and so on, up to twelve."""
    names = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
    return names.split()[number - 1]
