"""Recipes: functions that return one whole run's config, by name and stage."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from viq.recipes import debug, giant, nano, so400m


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A chain of stages."""

    stages: dict[str, Callable[[], Any]]
    lm: str  # the language model, where the command names none


RECIPES = {
    "debug": Recipe(
        stages={
            "vae": debug.vae,
            "contrast": debug.contrast,
            "align": debug.align,
            "proximal": debug.proximal,
            "quantize": debug.quantize,
            "decoder": debug.decoder,
            "reconstruct": debug.reconstruct,
        },
        lm="tiny",
    ),
    "nano": Recipe(
        stages={
            "vae": nano.vae,
            "contrast": nano.contrast,
            "align": nano.align,
            "proximal": nano.proximal,
            "quantize": nano.quantize,
            "decoder": nano.decoder,
            "reconstruct": nano.reconstruct,
        },
        lm="smollm2",
    ),
    "so400m": Recipe(
        stages={
            "align": so400m.align,
            "proximal": so400m.proximal,
            "quantize": so400m.quantize,
            "decoder": so400m.decoder,
        },
        lm="Qwen/Qwen2.5-0.5B-Instruct",
    ),
    "giant": Recipe(
        stages={
            "align": giant.align,
            "proximal": giant.proximal,
            "quantize": giant.quantize,
            "decoder": giant.decoder,
        },
        lm="Qwen/Qwen2.5-0.5B-Instruct",
    ),
}
