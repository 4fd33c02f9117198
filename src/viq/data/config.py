"""What a run reads: sources and how their samples become batches."""

import math
from dataclasses import dataclass, field

from viq.data.crops import CropConfig
from viq.data.pairs import PairConfig
from viq.data.sources import SourceConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What all kinds of data have.

    Attributes:
        sources: to train on.
        validation: to evaluate on.
        workers: processes that read, beside each training process; 0 reads in that itself.
        seed: of the order of samples, and of what is random in how they are cut.
    """

    sources: tuple[SourceConfig, ...]
    validation: tuple[SourceConfig, ...] = ()
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers is {self.workers}; it must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """One phase of a curriculum.

    Attributes:
        area: pixels that an image has at the most; larger ones are scaled down. Of no meaning for
            codes, which are as large as they were extracted, and for a foreign model's tiles.
        pool: patches that one image token stands for, along each side.
        seq_len: tokens of a batch, the language model's sequence.
        max_patches: patches of a batch, the encoder's sequence.
        weights: of the sources, by name; one that is not named takes no part.
        tokens: of the language model, filling included: the phase's budget over all lanes.
        spell_answers: answers are tokenised letter by letter: for small models that learn to read.
    """

    area: int
    pool: int
    seq_len: int
    max_patches: int
    weights: dict[str, float]
    tokens: int
    spell_answers: bool = False

    def __post_init__(self) -> None:
        for name in ("area", "seq_len", "max_patches", "tokens"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a positive integer.")
        if self.pool not in (1, 2, 4):
            raise ValueError(f"pool is {self.pool!r}; it must be 1, 2 or 4.")
        _check_weights(self.weights)
        if not self.weights:
            raise ValueError("weights is empty; name at least one source.")


@dataclass(frozen=True, kw_only=True)
class TextDataConfig(DataConfig):
    """Samples packed for a language model, in phases.

    Attributes:
        phases: one after the other.
        open_packs: batches that a lane fills at the same time; more leave less unfilled.
        validation_samples: how many samples an evaluation reads.
    """

    phases: tuple[PhaseConfig, ...]
    open_packs: int = 4
    validation_samples: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.phases:
            raise ValueError("phases is empty; there must be at least one.")


@dataclass(frozen=True, kw_only=True)
class ImageDataConfig(DataConfig):
    """Crops of images, without end.

    Attributes:
        weights: of the sources, by name; one that is not named takes no part. Empty to draw from
            each source as often as it has samples.
        crops: how they are cut.
    """

    weights: dict[str, float] = field(default_factory=dict)
    crops: CropConfig = field(default_factory=CropConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_weights(self.weights)


@dataclass(frozen=True, kw_only=True)
class PairDataConfig(DataConfig):
    """Images with captions, without end.

    Attributes:
        weights: as in ``ImageDataConfig``.
        pairs: how they are made.
    """

    weights: dict[str, float] = field(default_factory=dict)
    pairs: PairConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_weights(self.weights)


def phase_steps(phase: PhaseConfig, lanes_total: int) -> int:
    """Steps in which all lanes together reach the phase's budget."""
    return math.ceil(phase.tokens / (phase.seq_len * lanes_total))


def _check_weights(weights: dict[str, float]) -> None:
    if weights and (min(weights.values()) < 0 or not any(weights.values())):
        raise ValueError(f"weights are {weights}; one must be positive, and none negative.")
