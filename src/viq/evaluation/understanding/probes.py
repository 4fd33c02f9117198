"""Probes: what a linear map reads off frozen features.

Each is fitted to some pictures and asked about others. It gives a record for every one of those,
so that sources of features can be compared on the same pictures.

Axes: B pictures, N patches of one, C width, F = 4 * C numbers of a pooled picture, T of a vector.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from viq.errors import InputError
from viq.evaluation.understanding.linear import Matrix, classify, held_out, regress
from viq.evaluation.understanding.pictures import Labelled

Record = Mapping[str, Any]
Embed = Callable[[Sequence[str]], Matrix]  # captions (B) to vectors (B, T)


class Seen(NamedTuple):
    """Pictures with their features."""

    pictures: list[Labelled]
    features: Matrix  # (B, F), or (B, N, C)

    def having(self, label: str) -> "Seen":
        """Those that have a label."""
        return self.at([i for i, one in enumerate(self.pictures) if label in one.labels])

    def at(self, places: Sequence[int]) -> "Seen":
        """Those at some places."""
        chosen = np.asarray(places, dtype=np.int64)
        return Seen([self.pictures[i] for i in places], self.features[chosen])

    def labels(self, label: str) -> list[str]:
        """The label of each."""
        return [one.labels[label] for one in self.pictures]


class Probe(Protocol):
    """One question about features."""

    @property
    def name(self) -> str:
        """Of letters, digits and hyphens."""

    @property
    def title(self) -> str:
        """For tables."""

    @property
    def metric(self) -> str:
        """What the scores are, in a word or two."""

    @property
    def pictures(self) -> str:
        """The set of pictures that it is about."""

    def records(self, train: Seen, test: Seen, embed: Embed) -> dict[str, dict[str, Any]]:
        """Of each test picture that it is about {score, answer, right}, by id.

        Raises:
            InputError: the pictures or features are none that can be probed.
        """

    def chance(self, records: Mapping[str, Record]) -> float:
        """The score in [0, 1] of the best constant answer, or of a draw among candidates."""


@dataclass(frozen=True, kw_only=True)
class LabelProbe:
    """Tells one label of a picture."""

    name: str
    title: str
    pictures: str
    label: str
    metric: str = "accuracy"

    def records(
        self,
        train: Seen,
        test: Seen,
        embed: Embed,  # noqa: ARG002
    ) -> dict[str, dict[str, Any]]:
        """See ``Probe``."""
        train, test = _both_having(self.label, train, test)
        held = held_out(len(train.pictures))
        answers = _told(train.features, train.labels(self.label), test.features, held)
        return _records(test, answers, self.label, lambda answer, right: float(answer == right))

    def chance(self, records: Mapping[str, Record]) -> float:
        """The share of the most frequent label."""
        return _most_frequent([record["right"] for record in records.values()])


@dataclass(frozen=True, kw_only=True)
class LettersProbe:
    """Tells which letter is in a patch, of that patch's features alone; scores are of pictures."""

    name: str
    title: str
    pictures: str
    metric: str = "letters right"

    def records(
        self,
        train: Seen,
        test: Seen,
        embed: Embed,  # noqa: ARG002
    ) -> dict[str, dict[str, Any]]:
        """See ``Probe``."""
        texts = train.labels("letters")
        count = len(texts[0])
        if (found := train.features.shape[1]) != count:
            raise InputError(
                f"{found} features a picture, but there are {count} letters, one in each patch of"
                " 16 x 16 pixels"
            )
        width = train.features.shape[2]
        flat, asked = train.features.reshape(-1, width), test.features.reshape(-1, width)
        letters = "".join(_told(flat, [*"".join(texts)], asked, held_out(len(texts), count)))
        answers = [letters[i : i + count] for i in range(0, len(letters), count)]
        return _records(test, answers, "letters", _share_right)

    def chance(self, records: Mapping[str, Record]) -> float:
        """The share of the most frequent letter."""
        return _most_frequent([*"".join(record["right"] for record in records.values())])


@dataclass(frozen=True, kw_only=True)
class RetrievalProbe:
    """Finds a picture's caption among all of them, or a caption's picture.

    Features are mapped to sentence vectors by ridge regression. Of pictures with the same caption
    only the first is asked about.
    """

    name: str
    title: str
    pictures: str
    finds: Literal["caption", "picture"]
    first: int  # right if its own is among so many

    @property
    def metric(self) -> str:
        """See ``Probe``."""
        return f"recall@{self.first}"

    def records(self, train: Seen, test: Seen, embed: Embed) -> dict[str, dict[str, Any]]:
        """See ``Probe``; ``rank`` is how many others are as near, ``answer`` the nearest."""
        train, test = _both_having("caption", train, test)
        test = test.at(firsts(test.labels("caption")))
        captions = test.labels("caption")
        targets = embed(train.labels("caption"))
        vectors = regress(train.features, targets, test.features)
        cosines = similarities(vectors, embed(captions), targets.mean(0))
        cosines = cosines if self.finds == "caption" else cosines.T
        names = captions if self.finds == "caption" else [one.id for one in test.pictures]
        return {
            one.id: {
                "score": float(rank < self.first),
                "answer": names[int(best)],
                "right": right,
                "rank": rank,
            }
            for one, rank, best, right in zip(
                test.pictures, ranks(cosines), cosines.argmax(1), names, strict=True
            )
        }

    def chance(self, records: Mapping[str, Record]) -> float:
        """That of so many draws among all."""
        return min(1.0, self.first / len(records))


_FINDS: tuple[Literal["caption", "picture"], ...] = ("caption", "picture")
_TITLES = {"caption": "Caption of a picture", "picture": "Picture of a caption"}
_ALL: tuple[Probe, ...] = (
    LabelProbe(name="probe-digits", title="Digits", pictures="digits", label="digit"),
    LabelProbe(name="probe-shape", title="Kind of shape", pictures="shapes", label="kind"),
    LabelProbe(name="probe-colour", title="Colour", pictures="shapes", label="colour"),
    LabelProbe(name="probe-count", title="Number of shapes", pictures="shapes", label="count"),
    LabelProbe(name="probe-chart", title="Kind of chart", pictures="charts", label="kind"),
    LettersProbe(name="probe-letters", title="Letter in a patch", pictures="letters"),
    LabelProbe(name="probe-kind", title="Kind of picture", pictures="captioned", label="kind"),
    *(
        RetrievalProbe(
            name=f"retrieval-{finds}-{first}",
            title=_TITLES[finds],
            pictures="captioned",
            finds=finds,
            first=first,
        )
        for finds in _FINDS
        for first in (1, 5)
    ),
)
PROBES: Mapping[str, Probe] = {probe.name: probe for probe in _ALL}


def _both_having(label: str, train: Seen, test: Seen) -> tuple[Seen, Seen]:
    train, test = train.having(label), test.having(label)
    for what, seen in (("fit on", train), ("test on", test)):
        if not seen.pictures:
            raise InputError(f"no picture to {what} has a {label}")
    return train, test


def _records(
    test: Seen, answers: Sequence[str], label: str, score: Callable[[str, str], float]
) -> dict[str, dict[str, Any]]:
    return {
        one.id: {"score": score(answer, right), "answer": answer, "right": right}
        for one, answer, right in zip(test.pictures, answers, test.labels(label), strict=True)
    }


def _told(train: Matrix, labels: Sequence[str], test: Matrix, held: NDArray[np.bool_]) -> list[str]:
    try:
        return classify(train, labels, test, held)
    except ValueError as error:
        raise InputError(str(error)) from error


def _most_frequent(labels: Sequence[str]) -> float:
    return Counter(labels).most_common(1)[0][1] / len(labels)


def _share_right(answer: str, right: str) -> float:
    return sum(a == b for a, b in zip(answer, right, strict=True)) / len(right)


def similarities(pictures: Matrix, captions: Matrix, centre: Matrix) -> Matrix:
    """Cosines (B, B) of pictures' vectors (B, T) with captions' (B, T).

    Both are seen from ``centre`` (T,), the mean of the captions that the map was fitted to: it
    draws every picture towards that, and captions near it would be the answer to all.
    """
    return _unit(pictures - centre) @ _unit(captions - centre).T


def ranks(cosines: Matrix) -> list[int]:
    """How many columns are at least as near to a row as its own, which is on the diagonal."""
    own = np.diagonal(cosines)[:, None]
    return [int(count) - 1 for count in (cosines >= own).sum(1)]


def firsts(values: Sequence[str]) -> list[int]:
    """The places where a value is for the first time."""
    places: dict[str, int] = {}
    for place, value in enumerate(values):
        places.setdefault(value, place)
    return [*places.values()]


def _unit(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = rows / np.maximum(lengths, 1e-12)
    return unit
