"""Samples of images and text, several to a sequence (``data.batch``).

Axes: R rows of all images, T tokens of one sample, L of the whole sequence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from viq.chat import IGNORED, encode_chat, filling_id, image_tokens, truncate
from viq.codes import Codes
from viq.data.batch import Batch
from viq.data.config import PhaseConfig
from viq.data.readers import ImageReader, joined_letters, read_all
from viq.data.sample import Sample, usable
from viq.errors import InputError
from viq.model.packing import Packing


@dataclass(frozen=True, kw_only=True)
class TextItem:
    """One sample, ready to be packed; arrays, because these are cheap to send."""

    sample: str
    draw: int
    rows: NDArray[Any]  # (R, ...), of all images
    grid_sizes: tuple[tuple[int, int], ...]
    input_ids: NDArray[np.int64]  # (T,)
    labels: NDArray[np.int64]  # (T,)
    image_positions: NDArray[np.int64]
    tiles: tuple[tuple[int, int], ...] = ()  # of each picture, where rows are tiles
    letters: NDArray[np.uint8] | None = None  # (R, FRAMES), where rows are patches

    @property
    def patches(self) -> int:
        """How many patches the grids have."""
        return sum(h * w for h, w in self.grid_sizes)


class TextPacking:
    """Assembles batches: each sample goes to the first open one that has room for it.

    Where none has, the fullest is finished and another opened. A sequence has two limits, tokens
    and patches; how full it is says the one that is nearer.
    """

    def __init__(
        self, phase: PhaseConfig, tokenizer: Any, reader: ImageReader, *, open_packs: int = 4
    ) -> None:
        if open_packs < 1:
            raise ValueError(f"open_packs is {open_packs}; there must be at least one.")
        self.phase = phase
        self.tokenizer = tokenizer
        self.reader = reader
        self.open_packs = open_packs
        self._packs: list[_Pack] = []

    def prepare(self, sample: Sample, draw: int) -> TextItem:
        """Images as rows, the conversation as tokens.

        Raises:
            InputError: it cannot be read, or does not fit into an empty batch; names the sample.
        """
        phase = self.phase
        read = read_all(sample, self.reader)
        grids = tuple(grid for image in read for grid in image.grid_sizes)
        if (needed := sum(h * w for h, w in grids)) > phase.max_patches:
            raise InputError(
                f"its images have {needed} patches, but max_patches is {phase.max_patches}; raise"
                f" that, or take smaller images{_smaller(sample, phase)}",
                sample.id,
            )
        counts = [sum(image_tokens(g, phase.pool) for g in image.grid_sizes) for image in read]
        tokens = encode_chat(
            sample.messages, self.tokenizer, counts, spell=phase.spell_answers, name=sample.id
        )
        try:
            tokens = truncate(tokens, phase.seq_len)
        except InputError as error:
            raise InputError(f"{error}{_smaller(sample, phase)}", sample.id) from error
        labels = np.array(tokens.labels, np.int64)
        labels[:1] = IGNORED  # nothing in its segment comes before it and predicts it
        return TextItem(
            sample=sample.id,
            draw=draw,
            rows=np.concatenate([self.reader.no_rows(), *(image.rows for image in read)]),
            grid_sizes=grids,
            input_ids=np.array(tokens.input_ids, np.int64),
            labels=labels,
            image_positions=np.array(tokens.image_positions, np.int64),
            tiles=tuple(image.tiles for image in read if image.tiles is not None),
            letters=joined_letters(read),
        )

    def add(self, item: TextItem) -> Batch | None:
        """Packs an item; returns the batch that had to be finished for it, if any."""
        phase = self.phase
        fitting = (p for p in self._packs if p.takes(item, phase))
        if (pack := next(fitting, None)) is not None:
            pack.append(item)
            return None
        finished = None
        if len(self._packs) == self.open_packs:
            fullest = max(self._packs, key=lambda pack: pack.fullness(phase))
            self._packs.remove(fullest)
            finished = self._batch(fullest.items, phase.seq_len)
        self._packs.append(_Pack([item]))
        return finished

    def open(self) -> list[list[int]]:
        """Draw numbers of the items in each open batch."""
        return [[item.draw for item in pack.items] for pack in self._packs]

    def restore(self, items: list[list[TextItem]]) -> None:
        """Puts items back as ``open`` had told them.

        Raises:
            InputError: limits are lower now, so they do not fit.
        """
        self._packs = [_Pack(pack) for pack in items]
        for pack in self._packs:
            if (full := pack.fullness(self.phase)) > 1:
                raise InputError(
                    f"a batch that was open when the run was saved is {full:.2f} times what seq_len"
                    f" ({self.phase.seq_len}) and max_patches ({self.phase.max_patches}) allow now;"
                    " go on with those that the run began with"
                )

    def pack_one(self, samples: Sequence[Sample]) -> Batch:
        """One batch of these samples, however long, without filling: for evaluation.

        Those that cannot be used are reported and left out.

        Raises:
            InputError: none can be used.
        """
        items = usable(self.prepare, samples)
        return self._batch(items, sum(len(item.input_ids) for item in items))

    def _batch(self, items: Sequence[TextItem], length: int) -> Batch:
        lengths = [len(item.input_ids) for item in items]
        starts = [0, *accumulate(lengths)]
        filling = length - starts[-1]
        filled = np.full(filling, filling_id(self.tokenizer))
        places = [item.image_positions + start for item, start in zip(items, starts, strict=False)]
        return Batch(
            samples=tuple(item.sample for item in items),
            rows=_joined(item.rows for item in items),
            packing=Packing.of(grid for item in items for grid in item.grid_sizes),
            pool=self.phase.pool,
            input_ids=_joined([*(item.input_ids for item in items), filled]),
            labels=_joined([*(item.labels for item in items), np.full(filling, IGNORED)]),
            lengths=(*lengths, filling) if filling else tuple(lengths),
            image_positions=_joined(places),
            tiles=tuple(tiles for item in items for tiles in item.tiles),
            letters=None
            if any(item.letters is None for item in items)
            else _joined(item.letters for item in items if item.letters is not None),
        )


class _Pack:
    """An unfinished batch."""

    def __init__(self, items: list[TextItem]) -> None:
        self.items = items
        self.tokens = sum(len(item.input_ids) for item in items)
        self.patches = sum(item.patches for item in items)

    def takes(self, item: TextItem, phase: PhaseConfig) -> bool:
        return (
            self.tokens + len(item.input_ids) <= phase.seq_len
            and self.patches + item.patches <= phase.max_patches
        )

    def append(self, item: TextItem) -> None:
        self.items.append(item)
        self.tokens += len(item.input_ids)
        self.patches += item.patches

    def fullness(self, phase: PhaseConfig) -> float:
        return max(self.tokens / phase.seq_len, self.patches / phase.max_patches)


def _smaller(sample: Sample, phase: PhaseConfig) -> str:
    """How to come by smaller images, where they are codes of larger ones than the phase's area."""
    codes = (image for image in sample.images if isinstance(image, Codes))
    larger = any(prod(one.encoded_size) > phase.area for one in codes)
    return f" (viq extract --max-pixels {phase.area})" if larger else ""


def _joined(arrays: Iterable[NDArray[Any]]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(list(arrays)))
