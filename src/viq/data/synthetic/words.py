"""Texts of all kinds, composed of one split's words, of numbers, and of words that do not exist."""

import re
from dataclasses import dataclass

import numpy as np

from viq.data.synthetic.draws import between, chance, pick, several
from viq.data.synthetic.splits import Split, part, split_of
from viq.data.synthetic.vocabulary import CODE_LETTERS, MONTHS, SYLLABLES, VOCABULARY

_ALL = frozenset(word.lower() for words in VOCABULARY.values() for word in words)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Texts of one split."""

    split: Split

    def some(self, kind: str) -> tuple[str, ...]:
        """The words of a kind: a key of ``VOCABULARY``."""
        return part(VOCABULARY[kind], self.split, 2)

    def one(self, rng: np.random.Generator, kind: str) -> str:
        """A word of a kind."""
        return pick(rng, self.some(kind))

    def different(self, rng: np.random.Generator, kind: str, count: int) -> list[str]:
        """So many words of a kind, no two alike; fewer where there are no more."""
        return several(rng, self.some(kind), count)

    def person(self, rng: np.random.Generator) -> str:
        """A first and a last name."""
        return f"{self.one(rng, 'first')} {self.one(rng, 'last')}"

    def title(self, rng: np.random.Generator) -> str:
        """Two to five words that could stand above a text."""
        patterns = (
            ("the", "adjective", "noun"),
            ("adjective", "noun"),
            ("noun", "and", "noun"),
            ("the", "noun", "of", "city"),
            ("a", "noun", "in", "the", "noun"),
            ("first", "and", "the", "noun"),
            ("the", "adjective", "noun", "in", "city"),
        )
        text = self._filled(rng, pick(rng, patterns))
        small = ("a", "and", "in", "of", "the")
        if chance(rng, 0.5):
            text = " ".join(w if w in small else w[0].upper() + w[1:] for w in text.split())
        return text[0].upper() + text[1:]

    def sentence(self, rng: np.random.Generator) -> str:
        """Five to fourteen words and a full stop."""
        patterns = (
            ("the", "adjective", "noun", "verb", "the", "noun"),
            ("the", "noun", "near", "the", "noun", "verb", "a", "adjective", "noun"),
            ("first", "adverb", "verb", "the", "noun", "in", "city"),
            ("adverb,", "the", "noun", "verb", "the", "adjective", "noun"),
            ("in", "city,", "the", "noun", "verb", "every", "noun"),
            ("first", "and", "last", "met", "at", "the", "noun"),
            ("no", "noun", "verb", "a", "adjective", "and", "adjective", "noun"),
            ("when", "the", "noun", "verb", "the", "noun,", "first", "verb", "a", "noun"),
            ("the", "noun", "was", "adjective", "but", "the", "noun", "was", "adverb", "adjective"),
            ("there", "were", "NUMBER", "adjective", "people", "on", "the", "noun"),
        )
        text = self._filled(rng, pick(rng, patterns))
        return text[0].upper() + text[1:] + "."

    def paragraph(self, rng: np.random.Generator, sentences: int) -> str:
        """So many sentences."""
        return " ".join(self.sentence(rng) for _ in range(sentences))

    def _filled(self, rng: np.random.Generator, pattern: tuple[str, ...]) -> str:
        words: list[str] = []
        for place in pattern:
            kind = place.rstrip(",")
            word = self.one(rng, kind) if kind in VOCABULARY else kind
            word = str(between(rng, 2, 99)) if word == "NUMBER" else word
            if words and words[-1] == "a" and word[0] in "aeiou":
                words[-1] = "an"
            words.append(word + place[len(kind) :])
        return " ".join(words)

    def pseudo(self, rng: np.random.Generator) -> str:
        """A word that there is not, of two to four syllables."""
        while True:
            word = "".join(pick(rng, SYLLABLES) for _ in range(between(rng, 2, 4)))
            if split_of(word) == self.split and word not in _ALL:
                return word

    def email(self, rng: np.random.Generator) -> str:
        """An address that leads nowhere."""
        user = self.one(rng, pick(rng, ("first", "last", "noun"))).lower()
        user += pick(rng, ("", "", ".", "_")) + str(between(rng, 1, 99)) * int(chance(rng, 0.5))
        return f"{user.rstrip('._')}@{self.pseudo(rng)}.{pick(rng, ('com', 'org', 'net', 'eu'))}"

    def street(self, rng: np.random.Generator) -> str:
        """A house's number and street."""
        road = pick(rng, ("Street", "Road", "Lane", "Avenue"))
        return f"{between(rng, 1, 199)} {self.one(rng, 'noun').capitalize()} {road}"


def number(rng: np.random.Generator, digits: int) -> str:
    """A number of so many digits; four and more are sometimes grouped by commas."""
    value = between(rng, 10 ** (digits - 1), 10**digits - 1)
    return f"{value:,}" if digits > 3 and chance(rng, 0.4) else str(value)


def price(rng: np.random.Generator, currency: str, low: int = 50, high: int = 9999) -> str:
    """An amount between so many cents."""
    return money(between(rng, low, high), currency)


def money(cents: int, currency: str) -> str:
    """Cents as an amount."""
    return f"{currency}{cents // 100}.{cents % 100:02d}"


def date(rng: np.random.Generator) -> str:
    """A day, in one of the usual notations."""
    day, month, year = between(rng, 1, 28), between(rng, 1, 12), between(rng, 1950, 2035)
    name = MONTHS[month - 1]
    return pick(
        rng,
        (
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
            f"{day} {name[:3]} {year}",
            f"{year}-{month:02d}-{day:02d}",
            f"{day:02d}/{month:02d}/{year}",
            f"{day:02d}.{month:02d}.{year}",
        ),
    )


def time(rng: np.random.Generator) -> str:
    """A time of day."""
    return f"{between(rng, 0, 23):02d}:{between(rng, 0, 59):02d}"


def code(rng: np.random.Generator) -> str:
    """A serial number or the like, such as A7-204; runs of letters are one or two long."""
    pattern = pick(rng, ("A9-999", "AA-9999", "99A-99", "A999A", "AA99 AA9", "999-99-A", "A-99999"))
    draws = {"A": CODE_LETTERS, "9": "0123456789"}
    return re.sub("[A9]", lambda match: pick(rng, draws[match.group()]), pattern)


def phone(rng: np.random.Generator) -> str:
    """A telephone number."""
    area, front, back = between(rng, 200, 989), between(rng, 200, 989), between(rng, 0, 9999)
    form = pick(rng, ("{}-{}-{:04d}", "({}) {}-{:04d}", "{} {} {:04d}", "+{} {} {:04d}"))
    return form.format(area, front, back)
