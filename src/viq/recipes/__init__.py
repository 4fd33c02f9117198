"""Recipes: functions that return one whole run's config, by name and stage."""

from collections.abc import Callable
from typing import Any

from viq.recipes import debug, nano

RECIPES: dict[str, dict[str, Callable[[], Any]]] = {
    "debug": {"vae": debug.vae, "reconstruct": debug.reconstruct},
    "nano": {"vae": nano.vae, "reconstruct": nano.reconstruct},
}
