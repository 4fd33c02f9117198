"""Recipes: functions that return one whole run's config, by name and stage."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from viq.recipes import debug, nano, paper
from viq.training import STAGES


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A chain of stages."""

    stages: dict[str, Callable[[], Any]]
    lm: str  # the language model, where the command names none


def _all_stages(module: ModuleType) -> dict[str, Callable[[], Any]]:
    return {name: getattr(module, name) for name in STAGES}


def _of_paper(width: int) -> Recipe:
    return Recipe(
        stages={
            "align": paper.align,
            "proximal": partial(paper.proximal, width),
            "quantize": partial(paper.quantize, width),
            "decoder": paper.decoder,
            "sft": paper.sft,
        },
        lm="Qwen/Qwen2.5-0.5B-Instruct",
    )


RECIPES = {
    "debug": Recipe(stages=_all_stages(debug), lm="tiny"),
    "nano": Recipe(stages=_all_stages(nano), lm="smollm2"),
    "nano-reading": Recipe(stages={"align": nano.read, "sft": nano.sft_reading}, lm="smollm2"),
    "nano-detail": Recipe(
        stages={"proximal": nano.proximal_detail, "quantize": nano.quantize_detail}, lm="smollm2"
    ),
    "nano-adversarial": Recipe(stages={"decoder": nano.adversarial}, lm="smollm2"),
    "nano-mixed": Recipe(stages={"sft": nano.sft_mixed}, lm="smollm2"),
    "so400m": _of_paper(1152),
    "giant": _of_paper(1536),
}
