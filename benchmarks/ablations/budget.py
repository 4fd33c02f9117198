"""What all rows have in common: a fixed number of steps on small pictures, as flags of viq train.

A budget is of data, not of time: every row of a seed reads the same samples in the same order.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rows import Row, Stage

from viq.errors import InputError
from viq.evaluation.understanding.pictures import LETTERS_SIDE
from viq.recipes import RECIPES

TASKS = ("words", "scraps", "shapes", "charts")  # what else is drawn needs larger pictures
NEVER = 10**9  # steps


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much is trained.

    The default takes about 8 CPU minutes on one thread in bfloat16, with a language model of six
    layers (--lm smollm2:0,1,2,10,20,29).
    """

    recipe: str = "nano"
    steps: int = 120  # of both stages together
    proximal_steps: int = 40  # of these
    side: int = 160  # pixels; a picture has at most its square
    seq_len: int = 512  # tokens of a step
    max_patches: int = 1024  # of a step

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise InputError(f"no recipe named {self.recipe!r}; there are: {', '.join(RECIPES)}")
        if self.side < LETTERS_SIDE:
            raise InputError(f"side is {self.side}; letters are probed at {LETTERS_SIDE} pixels")
        if not 0 < self.proximal_steps < self.steps:
            raise InputError(
                f"of {self.steps} steps {self.proximal_steps} are stage proximal's; both stages"
                " need some"
            )

    def steps_of(self, row: Row, stage: Stage) -> int:
        """Of one of a row's stages; a row without stage proximal has all steps in the other."""
        if "proximal" not in row.stages:
            return self.steps
        return self.proximal_steps if stage == "proximal" else self.steps - self.proximal_steps

    def flags(self, row: Row, stage: Stage, seed: int) -> list[str]:
        """What follows `viq train STAGE --recipe RECIPE`, but for the row's own changes.

        Raises:
            InputError: there are fewer steps than the recipe has phases.
        """
        data = RECIPES[self.recipe].stages[stage]().data
        steps, phases = self.steps_of(row, stage), len(data.phases)
        if steps < phases:
            raise InputError(f"{steps} steps of stage {stage} are too few for {phases} phases")
        flags: dict[str, Any] = {
            "data.seed": seed,
            "data.workers": 0,  # one process, whose CPU time is all there is
            "data.validation-samples": 16,
            "loop.seed": seed,
            "loop.log-steps": 10,
            "loop.eval-steps": NEVER,  # but for the end
            "loop.save-minutes": 2,
            "loop.keep": 1,
        }
        for number in range(phases):
            share = steps // phases + (number < steps % phases)
            flags |= {
                f"data.phases.{number}.area": self.side**2,
                f"data.phases.{number}.seq-len": self.seq_len,
                f"data.phases.{number}.max-patches": self.max_patches,
                f"data.phases.{number}.tokens": share * self.seq_len,
            }
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        for part, sources in (("sources", data.sources), ("validation", data.validation)):
            for number, source in enumerate(sources):
                fits = source.tasks and set(source.tasks) <= set(TASKS)
                if source.kind == "synthetic" and not fits:
                    words += [f"--data.{part}.{number}.tasks", *TASKS]
        return words

    def settings(self, start: Path, vae: Path) -> dict[str, Any]:
        """What two runs must have in common to stand in one table.

        Raises:
            InputError: a file of the start or the autoencoder is not there.
        """
        stages = RECIPES[self.recipe].stages
        recipe = {name: asdict(stages[name]()) for name in ("proximal", "quantize")}
        return {
            **asdict(self),
            "recipe_digest": _digest(json.dumps(recipe, sort_keys=True, default=str).encode()),
            "start_digest": _digest(*_weights(start / "tower"), *_weights(start / "mllm")),
            "vae_digest": _digest(*_weights(vae)),
        }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What differs between two settings, in words; nothing where they are the same."""
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {one.get(name)} and {other.get(name)}" for name in names)


def _weights(folder: Path) -> list[bytes]:
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise InputError("no *.safetensors here", folder)
    return [file.read_bytes() for file in files]


def _digest(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:16]
