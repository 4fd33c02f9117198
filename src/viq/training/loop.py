"""The only training loop: steps, schedule, log, checkpoints, resume.

A stage says what is trained and what the loss is; the loop does the rest. A run lives in one
folder: ``run.json`` (its config), ``log.jsonl`` (a line every few steps), ``checkpoint.pt`` (to
resume from), and what the stage exports at the end. All are written to a temporary name first.
"""

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from viq.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, with a warm-up, a plateau and a last stretch in which the rate falls to zero."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.02
    warmup_steps: int = 100
    decay_fraction: float = 0.4  # of all steps, at the end
    clip_norm: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long, and what is kept."""

    steps: int
    optim: OptimConfig = field(default_factory=OptimConfig)
    dtype: str = "bfloat16"  # of the autocast; "float32" for none
    log_steps: int = 10
    eval_steps: int = 500
    save_minutes: float = 5.0
    workers: int = 1  # processes that read data
    seed: int = 0


class Stage(Protocol):
    """What one stage of the method brings to the loop."""

    module: nn.Module  # all that trains, and all that a checkpoint holds

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        """Scalars; their sum is minimised. Names that start with ``_`` are only logged."""

    def evaluate(self) -> dict[str, float]:
        """Quality on held-out data."""

    def export(self, folder: Path) -> None:
        """Writes what the stage is for, for the next stage or for users."""


class _From(Sampler[int]):
    """Batch numbers from ``start`` up to ``stop``."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start


def train(stage: Stage, batches: Dataset[Tensor], config: LoopConfig, folder: Path) -> None:
    """Trains ``stage`` and exports it into ``folder``; goes on from a checkpoint found there."""
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = _optimizer(stage.module, config.optim)
    step = _resume(folder / "checkpoint.pt", stage.module, optimizer)
    if step > config.steps:
        raise InputError(f"is at step {step}, past the {config.steps} asked for", folder)
    write_atomically(folder / "run.json", json.dumps(asdict(config), indent=2).encode())
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=_From(step, config.steps),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
    )
    autocast = torch.autocast(
        next(stage.module.parameters()).device.type,
        dtype=torch.bfloat16,
        enabled=config.dtype == "bfloat16",
    )
    stage.module.train()
    saved = time.monotonic()
    with tqdm(total=config.steps, initial=step, unit="step", dynamic_ncols=True) as progress:
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config.steps, config.optim)
            with autocast:
                losses = stage.losses(batch)
            total = torch.stack([v for k, v in losses.items() if not k.startswith("_")]).sum()
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            norm = nn.utils.clip_grad_norm_(stage.module.parameters(), config.optim.clip_norm)
            if not torch.isfinite(norm):
                raise FloatingPointError(f"the gradient is not finite at step {step}.")
            optimizer.step()
            step += 1
            progress.update()
            if step % config.log_steps == 0 or step == config.steps:
                figures = {k.lstrip("_"): v.item() for k, v in losses.items()}
                progress.set_postfix({k: f"{v:.4g}" for k, v in figures.items()})
                _log(folder, step, {**figures, "grad_norm": norm.item()})
            if step % config.eval_steps == 0 or step == config.steps:
                _log(folder, step, evaluate(stage, autocast))
            if time.monotonic() - saved > config.save_minutes * 60 or step == config.steps:
                _save(folder / "checkpoint.pt", stage.module, optimizer, step)
                saved = time.monotonic()
    stage.module.eval()
    stage.export(folder)


def evaluate(stage: Stage, autocast: torch.autocast) -> dict[str, float]:
    """The stage's own evaluation, in eval mode and without gradients."""
    stage.module.eval()
    with torch.no_grad(), autocast:
        figures = stage.evaluate()
    stage.module.train()
    return figures


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Linear up, flat, then a half cosine down to zero."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    left = (steps - step) / max(1.0, steps * config.decay_fraction)
    return config.lr * warm * (1.0 if left >= 1 else 0.5 - 0.5 * math.cos(math.pi * left))


def write_atomically(path: Path, data: bytes) -> None:
    """Writes to a temporary name beside ``path``, then renames."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Matrices decay; norms, biases, positions and scales do not."""
    parameters = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    decay = [p for n, p in parameters if p.ndim >= 2 and "positions" not in n]
    others = [p for n, p in parameters if p.ndim < 2 or "positions" in n]
    groups: list[dict[str, Any]] = [
        {"params": decay, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def _save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "step": step,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(state, temporary)
    temporary.replace(path)


def _resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    log.info("resuming %s at step %d", path.parent, state["step"])
    return int(state["step"])


def _log(folder: Path, step: int, figures: dict[str, float]) -> None:
    line = json.dumps({"step": step, "time": round(time.time(), 1), **figures})
    with (folder / "log.jsonl").open("a") as file:
        file.write(line + "\n")
