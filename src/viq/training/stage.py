"""What one stage of the method brings to the loop.

A stage is a module that turns a batch into losses. Which of its parameters train is their
``requires_grad``; frozen networks that can be read again from where they came from are held in
``Frozen``, so that checkpoints do not carry them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor, nn

from viq.data.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Where a run gets from what is not trained in it; saved in ``run.json``."""

    data: str | None = None  # a data set, for sources whose path is "DATA"
    held_out: str | None = None  # another, for validation sources whose path is "HELD_OUT"
    start: str | None = None  # the run folder of the stage before, or a saved model
    teacher: str | None = None  # a vision tower: the frozen start model
    vae: str | None = None  # an autoencoder in diffusers' layout
    lm: str | None = None  # a causal language model: a folder, hub id, or "smollm2"
    vision: str | None = None  # what sft sees images with, where that is not the start


class Losses(NamedTuple):
    """One micro-batch's losses as sums, so that they average over all of a step's batches.

    The loop divides by the counts of all micro-batches and processes together, weighs and adds.
    A name without a weight is only logged. A name that ends in ``_psnr`` is logged in dB of the
    mean squared error (on the scale of [-1, 1]) that its sum and count give.
    """

    sums: dict[str, Tensor]  # scalars


class Evaluation(NamedTuple):
    """What a stage says of itself every so often."""

    figures: dict[str, float]
    pictures: dict[str, Image.Image]  # by name, e.g. originals beside reconstructions
    text: str = ""  # Markdown, e.g. the text model's answers beside the right ones


class Frozen:
    """Keeps a module out of a stage's parameters, checkpoints and train mode; ``()`` gives it."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module.eval().requires_grad_(False)

    def __call__(self) -> Any:
        return self._module


class Stage(nn.Module, ABC):
    """Base of all stages."""

    weights: Mapping[str, float]  # of the losses that are minimised, by name

    def begin(self, samples: Sequence[Sample]) -> None:
        """Before the first step of a new run: what starts from data.

        All processes get the same samples, so that all begin alike.
        """

    @abstractmethod
    def counts(self, batch: Any) -> dict[str, float]:
        """What each loss's sum runs over in this batch (tokens, images ...), before any forward."""

    @abstractmethod
    def forward(self, batch: Any) -> Losses:
        """The losses of one micro-batch."""

    @abstractmethod
    def groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Trained parameters by group ("new", "carried", "lm" ...), each with its own rate.

        All that require a gradient are in exactly one group; the loop checks it.
        """

    @abstractmethod
    def size(self, batch: Any) -> dict[str, float]:
        """How much a micro-batch holds, for rates: "images", and "tokens" where there is text."""

    def observe(self, batch: Any) -> dict[str, float]:  # noqa: ARG002
        """Figures beyond the losses, without gradients, every ``log_steps``: code usage ..."""
        return {}

    @abstractmethod
    def evaluate(self) -> Evaluation:
        """Quality on held-out data; in eval mode, without gradients."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Writes what the stage is for, for the next stage or for users."""

    def frozen(self) -> dict[str, nn.Module]:
        """Frozen networks by name, for ``--dry-run`` and to move them to the device."""
        return {k: v() for k, v in vars(self).items() if isinstance(v, Frozen)}
