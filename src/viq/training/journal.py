"""What a run tells of itself: ``log.jsonl``, TensorBoard, pictures, and W&B where asked.

Only the first process writes, but for ``errors-00000.jsonl``, in which each process names the
samples that it could not use. ``log.jsonl`` has one JSON object a line; ``step`` and ``time`` are
in all of them, and an evaluation has a line of its own.
"""

import hashlib
import json
import logging
import math
import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from viq.errors import InputError
from viq.training.stage import Evaluation

log = logging.getLogger(__name__)


class Window:
    """Sums over the steps since the last line of the log."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """``state``: of ``state_dict``, to go on with."""
        start: dict[str, Any] = {"steps": 0, "loss": 0.0, "seconds": 0.0, "waited": 0.0}
        self._state: dict[str, Any] = {**start, "sums": {}, "counts": {}, "sizes": {}}
        self._state.update(state or {})

    def add(
        self,
        sums: Mapping[str, float],
        counts: Mapping[str, float],
        sizes: Mapping[str, float],
        *,
        loss: float,
        seconds: float,
        waited: float,
    ) -> None:
        """Takes in one step's figures, of all its batches and processes together."""
        for name, values in (("sums", sums), ("counts", counts), ("sizes", sizes)):
            into = self._state[name]
            for key, value in values.items():
                into[key] = into.get(key, 0.0) + value
        for name, value in (("loss", loss), ("seconds", seconds), ("waited", waited)):
            self._state[name] += value
        self._state["steps"] += 1

    def figures(self) -> dict[str, float]:
        """``loss`` (weighed), each loss by name, rates, and the share of time spent waiting."""
        state = self._state
        figures = {"loss": state["loss"] / state["steps"]}
        for name, count in state["counts"].items():
            if count:
                figures[name] = value_of(name, state["sums"].get(name, 0.0) / count)
        seconds = max(state["seconds"], 1e-9)
        figures |= {f"{name}_per_s": size / seconds for name, size in state["sizes"].items()}
        return figures | {"wait": state["waited"] / seconds}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint, so that a resumed run logs what an uninterrupted one would."""
        return self._state


class Journal:
    """The files of one run."""

    def __init__(
        self,
        folder: Path,
        *,
        process: int = 0,
        step: int = -1,
        wandb: bool = False,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        """``step``: the last one that counts; lines after it are cut. ``run`` is for W&B.

        Raises:
            InputError: W&B is asked for but not installed.
        """
        self.folder, self.writes = folder, process == 0
        self._log = folder / "log.jsonl"
        self._errors = folder / f"errors-{process:05d}.jsonl"
        _cut(self._errors, step)
        self._board: Any = None
        self._wandb: Any = None
        if not self.writes:
            return
        _cut(self._log, step)
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
        if wandb:
            self._wandb = _wandb_run(folder, run or {})

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes one line, and the same figures to TensorBoard."""
        if not self.writes:
            return
        # JSON has no infinity: a perfect picture's PSNR is null
        plain = {k: v if math.isfinite(v) else None for k, v in figures.items()}
        _append(self._log, [{"step": step, "time": round(time.time(), 1), **plain}])
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(figures), step=step)

    def report(self, step: int, errors: list[tuple[str, str]]) -> None:
        """Writes samples that could not be used, as (id, reason), and empties the list."""
        if errors:
            _append(self._errors, [{"step": step, "id": id, "reason": why} for id, why in errors])
            errors.clear()

    def show(self, step: int, evaluation: Evaluation) -> None:
        """Writes an evaluation's line, pictures and text."""
        self.log(step, evaluation.figures)
        if not self.writes:
            return
        import numpy as np

        samples = self.folder / "samples"
        samples.mkdir(exist_ok=True)
        for name, picture in evaluation.pictures.items():
            path = samples / f"step-{step:07d}-{name}.png"
            temporary = path.with_name(f".{path.name}")
            picture.save(temporary, format="PNG")
            temporary.replace(path)
            pixels = np.asarray(picture.convert("RGB"))
            self._board.add_image(name, pixels, step, dataformats="HWC")
        if evaluation.text:
            write_atomically(samples / f"step-{step:07d}.md", evaluation.text.encode())
            self._board.add_text("samples", evaluation.text, step)

    def close(self) -> None:
        """Ends what writes on in the background."""
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def value_of(name: str, mean: float) -> float:
    """A mean as it is logged: those named ``..._psnr`` are squared errors, on [-1, 1], in dB."""
    if not name.endswith("_psnr"):
        return mean
    return math.inf if mean <= 0 else -10 * math.log10(mean / 4)


def peak_memory() -> float:
    """Of this process so far, in GiB: of the GPU where there is one, else of the host."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def write_atomically(path: Path, data: bytes) -> None:
    """Writes to a temporary name beside ``path``, then renames."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def _cut(path: Path, step: int) -> None:
    """Drops the lines after ``step``, and one that was being written when the process died."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            log.warning("%s: a line that is not whole is dropped", path)
    write_atomically(path, b"".join(kept))


def _wandb_run(folder: Path, run: Mapping[str, Any]) -> Any:
    try:
        import wandb  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise InputError("logging to W&B needs one more package: pip install wandb") from error
    return wandb.init(
        project="viq",
        name=folder.name,
        id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16],
        resume="allow",  # the same run goes on
        dir=str(folder),
        config=dict(run),
    )
