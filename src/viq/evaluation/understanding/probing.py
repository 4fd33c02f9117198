"""Probes one source of features after another on the same pictures.

No language model is needed, so that continuous features, proximal features and codes can be
compared before one is trained on them. Making features is what takes long: they are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from viq.errors import InputError, ModelError
from viq.evaluation.understanding import captioned, digits, linear, pictures
from viq.evaluation.understanding.linear import Matrix
from viq.evaluation.understanding.pictures import Labelled, Sets, Size
from viq.evaluation.understanding.pooled import Features, Pooled, Pooling, pooled
from viq.evaluation.understanding.probes import PROBES, RetrievalProbe, Seen
from viq.external.sentence import SentenceEncoder, load_sentence_encoder, text_folder

_CAPTIONS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures that several probes are about."""

    side: int  # pixels
    pooling: Pooling
    draw: Callable[[Size], Sets]


class Probing:
    """Records of every probe, for any number of sources of features.

    Args:
        folder: where features are kept.
        size: how many pictures.
        captioned_pictures: a folder with ``train*.parquet`` and ``validation*.parquet``.
        sentence: the sentence encoder of captions, see ``load_sentence_encoder``.
    """

    def __init__(
        self,
        folder: Path,
        size: Size,
        captioned_pictures: Path | None = None,
        sentence: str = "minilm",
    ) -> None:
        self.folder, self.size, self.sentence = folder, size, sentence
        self.sets = dict(SETS)
        if captioned_pictures is not None:
            self.sets["captioned"] = PictureSet(
                side=captioned.SIDE,
                pooling="quarters",
                draw=partial(captioned.captioned, captioned_pictures),
            )
        self._drawn: dict[str, Sets] = {}
        self._vectors: dict[str, Matrix] = {}
        self._encoder: SentenceEncoder | None = None

    def missing(self, name: str) -> str | None:
        """Why a probe cannot be run here; None: it can.

        Raises:
            ValueError: there is no such probe.
        """
        probe = _probe(name)
        if not linear.can_fit():
            return f"fitting needs a package: {linear.MISSING}"
        if probe.pictures == "digits" and not digits.has_digits():
            return f"reading digits {digits.MISSING}"
        if probe.pictures not in self.sets:
            return "it needs --pictures, a folder of captioned ones"
        if isinstance(probe, RetrievalProbe):
            try:
                text_folder(self.sentence)
            except ModelError as error:
                return str(error)
        return None

    def look(self, name: str, subject: str, look: Features) -> dict[str, str]:
        """Makes the features that a probe needs, and says why pictures could not be read, by id.

        Args:
            name: of ``PROBES``.
            subject: the source's name; its features are kept under it, so it must stay the same
                source as long as ``folder`` is there.
            look: makes them.

        Raises:
            InputError: pictures or kept features are damaged.
            ValueError: there is no such probe, or features are not of a square grid.
        """
        about = _probe(name).pictures
        return {
            id: reason
            for part in ("train", "test")
            for id, reason in self._pooled(about, part, subject, look).failed.items()
        }

    def records(self, name: str, subject: str, look: Features) -> dict[str, dict[str, Any]]:
        """What a probe finds of one source of features: {place, score, answer, right} by picture.

        Pictures that cannot be read are not among them. Arguments as of ``look``.

        Raises:
            InputError: as of ``look``, or there are none to fit on or to test on.
            ValueError: as of ``look``.
        """
        probe = _probe(name)
        train, test = (
            self._seen(probe.pictures, part, subject, look) for part in ("train", "test")
        )
        if not train.pictures or not test.pictures:
            raise InputError(f"no picture of {probe.pictures} can be read to fit on, or to test on")
        found = probe.records(train, test, self._embed)
        return {id: {"place": i, **record} for i, (id, record) in enumerate(found.items())}

    def _pictures(self, name: str, part: str) -> list[Labelled]:
        if name not in self._drawn:
            self._drawn[name] = self.sets[name].draw(self.size)
        some: list[Labelled] = getattr(self._drawn[name], part)
        return some

    def _pooled(self, name: str, part: str, subject: str, look: Features) -> Pooled:
        return pooled(
            self._pictures(name, part),
            look,
            self.folder / _safe(subject) / f"{name}-{part}",
            side=self.sets[name].side,
            pooling=self.sets[name].pooling,
            what=f"{subject}: {name}",
        )

    def _seen(self, name: str, part: str, subject: str, look: Features) -> Seen:
        found = self._pooled(name, part, subject, look).features
        shown = [one for one in self._pictures(name, part) if one.id in found]
        rows = [found[one.id] for one in shown]
        return Seen(shown, torch.stack(rows).numpy() if rows else np.zeros(0, np.float32))

    def _embed(self, captions: Sequence[str]) -> Matrix:
        """Vectors (B, T) of captions, each made once, beside others of its length."""
        new = sorted({*captions} - {*self._vectors}, key=lambda one: (len(one), one))
        if new:
            encoder = self._encoder = self._encoder or load_sentence_encoder(self.sentence)
            with tqdm(total=len(new), unit="caption", disable=None, leave=False) as bar:
                for start in range(0, len(new), _CAPTIONS_AT_ONCE):
                    some = new[start : start + _CAPTIONS_AT_ONCE]
                    with torch.no_grad():
                        rows = encoder(some).numpy()
                    self._vectors.update(zip(some, rows, strict=True))
                    bar.update(len(some))
        return np.stack([self._vectors[one] for one in captions])


SETS: Mapping[str, PictureSet] = {
    "digits": PictureSet(side=pictures.DIGIT_SIDE, pooling="quarters", draw=pictures.digits),
    "shapes": PictureSet(side=pictures.SHAPES_SIDE, pooling="quarters", draw=pictures.shapes),
    "charts": PictureSet(side=pictures.CHART_SIDE, pooling="quarters", draw=pictures.chart_kinds),
    "letters": PictureSet(side=pictures.LETTERS_SIDE, pooling="patches", draw=pictures.letters),
}


def _probe(name: str) -> Any:
    if name not in PROBES:
        raise ValueError(f"no probe {name!r}; there are: {', '.join(PROBES)}.")
    return PROBES[name]


def _safe(subject: str) -> str:
    """A folder's name, of no other subject."""
    safe = "".join(c if c.isalnum() or c in "-_.=" else "_" for c in subject)
    return safe if safe == subject else f"{safe}-{blake2b(subject.encode()).hexdigest()[:8]}"
