"""The only training loop.

A stage says what trains and what the losses are (``viq.training.stage``), the data gives each
process its micro-batches of a step, and the loop does the rest, in one process or many.

A run lives in one folder: ``run.json`` (what was asked for), ``log.jsonl``, ``tensorboard/``,
``samples/`` (pictures and answers), ``checkpoints/``, and at the end what the stage exports.
"""

import json
import logging
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from viq.data.loader import Step, TrainingData
from viq.errors import InputError
from viq.hardware import hardware
from viq.training.checkpoint import (
    Checkpoint,
    Checkpoints,
    random_states,
    set_random_states,
)
from viq.training.guard import Guard, StoppedError, StopWish, TrainingError
from viq.training.journal import Journal, Window, peak_memory, write_atomically
from viq.training.objective import Objective, tally
from viq.training.optim import Ema, OptimConfig, learning_rate, optimizer
from viq.training.processes import Processes
from viq.training.stage import Stage
from viq.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long, how, and what is kept."""

    steps: int | None = None  # None: as many as the data has
    optim: OptimConfig = field(default_factory=OptimConfig)
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the autocast; weights keep theirs
    accumulate: int = 1  # micro-batches a step, in each process
    checkpointing: bool = False  # activations are computed again in the backward pass
    ema: float | None = None  # decay of the average that is evaluated and exported; None: none
    log_steps: int = 10
    eval_steps: int = 500
    eval_first: bool = False  # before the first step as well
    save_steps: int | None = None  # between checkpoints; None: by time
    save_minutes: float = 10.0
    keep: int = 2  # the newest checkpoints,
    keep_every: int | None = None  # and those of steps that this divides
    diverge_ratio: float = 10.0  # a loss so many times over its running median,
    diverge_steps: int = 20  # for so many steps in a row, ends the run
    seed: int = 0
    wandb: bool = False

    def __post_init__(self) -> None:
        counts = ("steps", "accumulate", "log_steps", "eval_steps", "save_steps", "keep")
        for name in (*counts, "keep_every", "diverge_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must lie between 0 and 1.")


def train(
    stage: Stage,
    data: TrainingData,
    config: LoopConfig,
    folder: Path,
    *,
    resume: bool = False,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Trains ``stage``, exports it into ``folder``, and closes ``data``.

    With ``resume`` it goes on from the newest whole checkpoint in ``folder``. ``run`` is the
    whole run's config and inputs, for ``run.json``.

    Raises:
        InputError: there is a run in ``folder`` and ``resume`` is not asked for, or it is another.
        TrainingError: the numbers went wrong; names the last good checkpoint.
        StoppedError: after Ctrl-C or SIGTERM, when the state is saved.
    """
    try:
        check_folder(folder, resume=resume)
        count_steps(data, config)
        processes = Processes(config.dtype, config.seed)
        try:
            _Run(stage, data, config, folder, processes, run or {}, resume=resume).run()
        finally:
            processes.close()
    finally:
        data.close()


def check_folder(folder: Path, *, resume: bool) -> None:
    """Lets a run's folder be written to only once, but for ``resume``.

    Raises:
        InputError: there is a run already, or all its checkpoints are damaged.
    """
    if not resume and ((folder / "log.jsonl").exists() or has_checkpoint(folder)):
        raise InputError("there is a run here; --resume goes on, or give another --out", folder)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run in ``folder`` has saved its state."""
    return any((folder / "checkpoints").glob("step-*"))


def count_steps(data: TrainingData, config: LoopConfig) -> int:
    """How many steps a run takes.

    Raises:
        InputError: nothing says it, or there is less data than asked for.
    """
    if data.steps is None:
        if config.steps is None:
            raise InputError("the data has no end, so the run needs a number of steps")
        return config.steps
    if config.steps is not None and config.steps > data.steps:
        raise InputError(f"{config.steps} steps are asked for, but the data has {data.steps}")
    return data.steps if config.steps is None else config.steps


class _Run:
    """One call of ``train``."""

    def __init__(
        self,
        stage: Stage,
        data: TrainingData,
        config: LoopConfig,
        folder: Path,
        processes: Processes,
        about: Mapping[str, Any],
        *,
        resume: bool,
    ) -> None:
        self.stage, self.data, self.config, self.folder = stage, data, config, folder
        self.processes = processes
        self.data_config = about.get("config", {}).get("data", {})
        self.steps = count_steps(data, config)
        if config.checkpointing:
            _enable_checkpointing(stage)
        for network in stage.frozen().values():
            network.to(processes.device)
        if config.optim.muon and (processes.has_deepspeed or processes.are_alike):
            raise InputError("Muon needs whole matrices, so it goes with one process or DDP alone")
        # Parameters are moved and sharded in their places, so the stage itself stays at hand.
        objective = Objective(stage)
        self.model, self.optimizer = processes.prepare(
            objective, optimizer(stage, config.optim), config.optim.clip_norm
        )
        self.ema: Ema | None = None
        if config.ema is not None:
            if processes.has_deepspeed:
                raise InputError("a moving average (ema) does not go with DeepSpeed; FSDP has it")
            self.ema = Ema([p for p in stage.parameters() if p.requires_grad], config.ema)

        self.checkpoints = Checkpoints(
            folder / "checkpoints", processes, keep=config.keep, keep_every=config.keep_every
        )
        self.step = 0
        self.saved: Path | None = None  # the last good checkpoint
        self.saved_at = time.monotonic()
        self.is_stopping = self.wants_save = False
        self.wish = StopWish()
        found = self.checkpoints.newest() if resume else None
        state = self._go_on_from(found) if found else {}
        if resume and not found:
            if has_checkpoint(folder):
                raise InputError("no checkpoint here can be read; give another --out", folder)
            log.warning("%s: no checkpoint to go on from, so the run begins anew", folder)
        self.window = Window(state.get("window"))
        self.guard = Guard(config.diverge_ratio, config.diverge_steps, state.get("losses", ()))

        processes.wait()  # all have seen whether there was a run before
        if processes.is_first and self.step < self.steps:  # else nothing is trained any more
            folder.mkdir(parents=True, exist_ok=True)
            document = {
                **(about or {"loop": asdict(config)}),
                "processes": processes.count,
                "hardware": hardware(processes.device),
                "versions": _versions(),
            }
            write_atomically(folder / "run.json", json.dumps(document, indent=2).encode())
        self.journal = Journal(
            folder,
            process=processes.index,
            step=self.step if found else -1,
            wandb=config.wandb,
            run=about,
        )
        if found:  # last of all, for what came before may have drawn numbers
            found.restore_random(processes.index)

    def run(self) -> None:
        """All steps that are left, and the export."""
        self.stage.train()
        try:
            with self.wish.listening(), self._progress() as progress:
                if self.config.eval_first and self.step == 0:
                    self._evaluate()
                for data in self._steps_left():
                    self._train_on(data, progress)
                    if self._every(self.config.eval_steps):
                        self._evaluate()
                    self._save_if_due()
                    if self.is_stopping and self.step < self.steps:
                        raise StoppedError(self._farewell())
            self._export()
        except TrainingError as error:
            where = f"the last good checkpoint is {self.saved}" if self.saved else "none was saved"
            raise TrainingError(f"{error}; {where}") from error
        finally:
            self.journal.report(self.step, self.data.errors)
            self.journal.close()

    def _steps_left(self) -> Iterator[Step]:
        if self.step == self.steps:
            return
        for data in self.data:
            if (found := len(data.batches)) != self.config.accumulate:
                raise ValueError(
                    f"the data gives {found} batches a step, but accumulate is"
                    f" {self.config.accumulate}."
                )
            yield data
            if self.step == self.steps:
                return
        raise InputError(f"the data ended after {self.step} of {self.steps} steps", self.folder)

    def _train_on(self, data: Step, progress: "tqdm[Any]") -> None:
        """One optimizer step."""
        start = time.monotonic()
        config, processes = self.config, self.processes
        held = tally(self.stage, data.batches, processes)  # before they are on the device
        batches = [processes.send(batch) for batch in data.batches]
        factors = held.factors(self.stage.weights, processes.count)
        rate = learning_rate(self.step, self.steps, config.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]

        parts: dict[str, Any] = dict.fromkeys(held.counts, 0.0)
        for index, batch in enumerate(batches):
            is_last = index + 1 == len(batches)
            with nullcontext() if is_last else processes.accumulating(self.model):
                with processes.autocast():
                    total, sums = self.model(batch, factors)
                processes.backward(total, is_last=is_last)
            for name, value in sums.items():
                if name not in parts:
                    raise ValueError(f"the stage gives loss {name!r}, but does not count it.")
                parts[name] = parts[name] + value.double()
        norm = processes.clip(self.model)

        # The read from the device that a step cannot do without: what is not finite must not get
        # into weights.
        wishes = [float(self.wish.is_set), float(processes.is_first and self._is_time_to_save())]
        *values, stop, save, errors = processes.add_up([*parts.values(), *wishes, data.errors])
        summed = dict(zip(parts, values, strict=True))
        losses = {k: v / held.counts[k] for k, v in summed.items() if held.counts[k]}
        loss = sum(w * losses[k] for k, w in self.stage.weights.items() if k in losses)
        self.guard.check(self.step + 1, losses, loss, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.step)

        self.step += 1
        self.journal.report(self.step, self.data.errors)
        self.is_stopping = stop > 0
        self.wants_save |= save > 0
        seconds = time.monotonic() - start + data.waited
        self.window.add(
            summed, held.counts, held.sizes, loss=loss, seconds=seconds, waited=data.waited
        )
        progress.update()
        if self.step == 1 or self._every(config.log_steps):
            rates = {f"lr/{g['name']}": g["lr"] for g in self.optimizer.param_groups}
            figures = {"grad_norm": norm, **rates, "phase": data.phase, "errors": errors}
            self._log(figures, batches[-1], progress)

    def _log(self, figures: Mapping[str, float], batch: Any, progress: "tqdm[Any]") -> None:
        with self._looking():
            observed = self.stage.observe(batch)
        means = self.window.figures()
        self.journal.log(self.step, {**means, **figures, **observed, "memory_gib": peak_memory()})
        shown = {"loss": means["loss"], **{k: means[k] for k in self.stage.weights if k in means}}
        progress.set_postfix({k: f"{v:.4g}" for k, v in shown.items()})
        self.window = Window()

    def _evaluate(self) -> None:
        with self._averaged(), self._looking():
            evaluation = self.stage.evaluate()
        self.journal.show(self.step, evaluation)

    def _export(self) -> None:
        self.stage.eval()
        with self._averaged(), self.processes.plain(self.model), torch.no_grad():
            if self.processes.is_first:
                self.stage.export(self.folder)
        self.processes.wait()

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """In eval mode, without gradients, and with no effect on what is drawn later."""
        before = random_states()
        self.stage.eval()
        with self.processes.gathered(self.model), torch.no_grad(), self.processes.autocast():
            yield
        self.stage.train()
        set_random_states(before)

    def _averaged(self) -> AbstractContextManager[None]:
        """The moving average in the weights' place, where there is one."""
        return self.ema.swapped() if self.ema is not None else nullcontext()

    def _is_time_to_save(self) -> bool:
        if self.config.save_steps is not None:
            return self._every(self.config.save_steps, step=self.step + 1)
        return time.monotonic() - self.saved_at >= self.config.save_minutes * 60

    def _save_if_due(self) -> None:
        """Not while the loss is odd: the run may be lost already."""
        is_due = (self.wants_save or self.is_stopping) and self.guard.is_calm
        if not is_due and self.step < self.steps:
            return
        if not self.guard.is_calm:
            log.warning("%s: the last loss was far above the usual", self.folder)
        state = {
            "step": self.step,
            "identity": self._identity(),
            "window": self.window.state_dict(),
            "losses": list(self.guard.recent),
        }
        self.saved = self.checkpoints.save(
            self.stage, self.model, self.optimizer, self.ema, self.data.state_dict(), state
        )
        self.wants_save, self.saved_at = False, time.monotonic()

    def _go_on_from(self, found: Checkpoint) -> dict[str, Any]:
        """Puts everything but random states back; returns what the checkpoint says besides."""
        then = found.state["identity"]
        for name, now in self._identity().items():
            if (before := then.get(name)) != now:
                raise InputError(
                    f"the run was made with {name} {before!r}, but this is {now!r}; it cannot go on"
                    " so",
                    found.folder,
                )
        if found.step > self.steps:
            raise InputError(
                f"is at step {found.step}, past the {self.steps} asked for", found.folder
            )
        found.restore(self.stage, self.model, self.optimizer, self.ema)
        self.data.load_state_dict(found.data)
        self.step, self.saved = found.step, found.folder
        log.info("going on from %s", found.folder)
        return found.state

    def _identity(self) -> dict[str, Any]:
        """What must not change between a run and its continuation."""
        return {
            "stage": type(self.stage).__name__,
            "lanes": self.config.accumulate * self.processes.count,
            "ema": self.config.ema is not None,
            **_settings(self.data_config, "data"),
        }

    def _every(self, steps: int, step: int | None = None) -> bool:
        """Whether it is time for what is done every so many steps, and after the last."""
        step = self.step if step is None else step
        return step % steps == 0 or step == self.steps

    def _farewell(self) -> str:
        if self.saved is None:
            return f"{self.folder}: stopped at step {self.step}, before there was anything to save"
        return (
            f"{self.folder}: stopped at step {self.step}; --resume goes on from {self.saved.name}"
        )

    def _progress(self) -> "tqdm[Any]":
        return tqdm(
            total=self.steps,
            initial=self.step,
            unit="step",
            dynamic_ncols=True,
            disable=not self.processes.is_first,
        )


def _settings(config: Any, name: str) -> dict[str, Any]:
    """What decides which samples a step has, by full name; how long a run is may change."""
    if name.rpartition(".")[2] in ("workers", "validation", "validation_samples", "tokens"):
        return {}
    if isinstance(config, Mapping):
        pairs = [(str(key), value) for key, value in config.items()]
    elif isinstance(config, (list, tuple)):
        pairs = [(str(number), value) for number, value in enumerate(config)]
    else:
        return {name: config}
    return {k: v for key, value in pairs for k, v in _settings(value, f"{name}.{key}").items()}


def _enable_checkpointing(stage: Stage) -> None:
    enable = getattr(stage, "gradient_checkpointing", None)
    if enable is None:
        raise InputError(
            f"{type(stage).__name__} cannot compute its activations again; leave checkpointing off"
        )
    enable()


def _versions() -> dict[str, str]:
    return {
        "viq": __version__,
        "torch": torch.__version__,
        "accelerate": version("accelerate"),
        "python": platform.python_version(),
    }
