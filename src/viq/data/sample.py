"""One sample of any source: an id, images, and a conversation about them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from viq.chat import Message
from viq.codes import Codes
from viq.errors import InputError, ViQError
from viq.image.load import Picture

log = logging.getLogger(__name__)

T = TypeVar("T")

SampleImage = Picture | bytes | Codes
"""Bytes are an encoded file's, read when they are used; codes have been extracted before."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What every reader and generator gives; ``messages`` name as many images as there are."""

    id: str
    images: tuple[SampleImage, ...]
    messages: tuple[Message, ...]


class Source(Protocol):
    """Samples by number; nothing is decoded before it is asked for. Can be pickled."""

    name: str

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int) -> Sample:
        """One sample.

        Raises:
            InputError: it cannot be read or contradicts itself; names the sample.
        """


def usable(prepare: Callable[[Sample, int], T], samples: Sequence[Sample]) -> list[T]:
    """What ``prepare`` makes of samples to evaluate on; those that it refuses are reported.

    Raises:
        InputError: it refuses all of them.
    """
    items, error = [], None
    for number, sample in enumerate(samples):
        try:
            items.append(prepare(sample, number))
        except ViQError as refused:
            log.warning("left out of the evaluation: %s", refused)
            error = refused
    if error is not None and not items:
        raise InputError(f"no sample to evaluate on can be used; of the last one: {error}")
    return items
