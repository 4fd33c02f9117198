"""A run's state on disk: complete, atomic, and without pickles.

``checkpoints/step-0000123/`` holds

- ``weights.safetensors``: all that trains and the buffers. What is frozen is not written: a run
  reads it again from where it came from, and so it must not change.
- ``optimizer.safetensors``: AdamW's state by parameter, e.g. ``encoder.weight.exp_avg``.
- ``average.safetensors``: the moving average of the weights, where there is one.
- ``data-00000.json``, ``random-00000.json``: of each process, its lanes' place in the data, and
  the states of Python's, numpy's and torch's random generators.
- ``state.json``: the step and the rest.

It is written under a temporary name and renamed when all processes are done, so a folder with
that name is whole. Tensors are whole as well, however many processes shard them, so a run may go
on with more or fewer of them. accelerate's own ``save_state`` would write frozen parameters, and
it gives up random states that it cannot load without a word.

With DeepSpeed, weights and optimizer are in ``deepspeed/`` in its own format, which it reads with
pickle: resume such a run only where you trust the folder.
"""

import json
import logging
import os
import random
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from viq.errors import InputError
from viq.training.optim import Ema
from viq.training.processes import Processes
from viq.training.stage import Stage

log = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d+)")
_ENGINE = "deepspeed"  # in a checkpoint, the folder of what DeepSpeed writes in its own format


class Checkpoint(NamedTuple):
    """One folder's content, read and found whole."""

    folder: Path
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    average: dict[str, Tensor]
    data: dict[str, Any]  # of all lanes
    randoms: list[dict[str, Any]]  # of each process
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """How many steps were done."""
        return int(self.state["step"])

    def restore(
        self, stage: Stage, model: Any, optimizer: torch.optim.Optimizer, ema: Ema | None
    ) -> None:
        """Puts weights, optimizer and average back; the random states are for ``restore_random``.

        Raises:
            InputError: the checkpoint is of a stage with other parameters.
        """
        if (self.folder / _ENGINE).is_dir():
            model.load_checkpoint(str(self.folder), _ENGINE, load_module_strict=False)
            return
        live = carried(stage)
        self._check(live)
        with torch.no_grad():
            for name, tensor in live.items():
                tensor.copy_(_like(self.weights[name], tensor))
            if ema is not None:
                for (name, _), average in zip(_trained(stage), ema.averages, strict=True):
                    average.copy_(_like(self.average[name], average))
        states: dict[str, dict[str, Tensor]] = {}
        for key, value in self.optimizer.items():
            name, _, figure = key.rpartition(".")
            states.setdefault(name, {})[figure] = value
        inner = _inner(optimizer)
        inner.state.clear()
        for name, parameter in _trained(stage):
            if name in states:  # one that never had a gradient has no state yet
                inner.state[parameter] = {k: _like(v, parameter) for k, v in states[name].items()}

    def restore_random(self, index: int) -> None:
        """Puts the random states of process ``index`` back."""
        if index < len(self.randoms):
            set_random_states(self.randoms[index])
        else:
            log.warning("process %d was not there before, so its random state is new", index)

    def _check(self, live: Mapping[str, Tensor]) -> None:
        for verb, names in (
            ("lacks", set(live) - set(self.weights)),
            ("has, and the stage has not,", set(self.weights) - set(live)),
        ):
            if names:
                raise InputError(f"{verb} {min(names)!r} ({len(names)} such in all)", self.folder)
        for name, tensor in live.items():
            if (found := self.weights[name].shape) != tensor.shape:
                raise InputError(
                    f"{name!r} is {tuple(found)} there, but {tuple(tensor.shape)} in the stage",
                    self.folder,
                )


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self, folder: Path, processes: Processes, *, keep: int, keep_every: int | None
    ) -> None:
        """Keeps the newest ``keep``, and those whose step is a multiple of ``keep_every``."""
        self.folder = folder
        self.processes = processes
        self.keep = keep
        self.keep_every = keep_every

    def whole(self) -> list[Path]:
        """Folders of whole checkpoints, the newest first."""
        found = [p for p in self.folder.glob("step-*") if _NAME.fullmatch(p.name)]
        return sorted(found, key=_step_of, reverse=True)

    def save(
        self,
        stage: Stage,
        model: Any,
        optimizer: torch.optim.Optimizer,
        ema: Ema | None,
        data: Mapping[str, Any],
        state: Mapping[str, Any],
    ) -> Path:
        """Writes a checkpoint of step ``state["step"]``; called by all processes."""
        final = self.folder / f"step-{state['step']:07d}"
        temporary = self.folder / f".{final.name}"
        if self.processes.is_first:
            for left_over in self.folder.glob(".step-*"):  # of runs that were killed
                shutil.rmtree(left_over)
            temporary.mkdir(parents=True)
        self.processes.wait()
        files: dict[str, Mapping[str, Tensor]] = {"weights": {}, "optimizer": {}, "average": {}}
        if self.processes.has_deepspeed:
            model.save_checkpoint(str(temporary), _ENGINE, exclude_frozen_parameters=True)
        else:
            files["weights"] = carried(stage)
            files["optimizer"] = _optimizer_tensors(stage, _inner(optimizer))
            files["average"] = _average_tensors(stage, ema) if ema else {}
        for name, tensors in files.items():
            whole = {}
            for key, tensor in tensors.items():
                gathered = _gathered(tensor)  # by all processes
                if self.processes.is_first:
                    whole[key] = gathered.detach().to("cpu", copy=True).contiguous()
            if self.processes.is_first:
                try:
                    save_file(whole, temporary / f"{name}.safetensors")
                except SafetensorError as error:  # such as a full disk
                    shutil.rmtree(temporary)
                    raise InputError(f"cannot be written ({error})", temporary) from error
        number = f"{self.processes.index:05d}"
        (temporary / f"data-{number}.json").write_text(json.dumps(data))
        (temporary / f"random-{number}.json").write_text(json.dumps(random_states()))
        self.processes.wait()
        if self.processes.is_first:
            document = {**state, "processes": self.processes.count}
            (temporary / "state.json").write_text(json.dumps(document))
            for path in (p for p in temporary.rglob("*") if p.is_file()):
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
            if final.exists():  # a damaged one that was skipped
                shutil.rmtree(final)
            temporary.rename(final)
            self._rotate()
        self.processes.wait()
        return final

    def newest(self) -> Checkpoint | None:
        """The newest one that can be read; each that cannot is named in a warning."""
        for folder in self.whole():
            try:
                return _read(folder)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                reason = " ".join(str(error).split())
                log.warning("%s is damaged and is skipped: %s", folder, reason)
        return None

    def _rotate(self) -> None:
        for folder in self.whole()[self.keep :]:
            if self.keep_every and _step_of(folder) % self.keep_every == 0:
                continue
            doomed = folder.with_name(f".{folder.name}")  # never half there under its own name
            folder.rename(doomed)
            shutil.rmtree(doomed)


def carried(stage: Stage) -> dict[str, Tensor]:
    """What a checkpoint holds of a stage: trained parameters, each once, and buffers."""
    parameters = {name for name, _ in stage.named_parameters(remove_duplicate=False)}
    buffers = {k: v for k, v in stage.state_dict().items() if k not in parameters}
    return {**dict(_trained(stage)), **buffers}


def random_states() -> dict[str, Any]:
    """The states of all random generators, as JSON can hold them."""
    numpy_kind, numpy_keys, *numpy_rest = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": [numpy_kind, np.asarray(numpy_keys).tolist(), *numpy_rest],
        "torch": torch.get_rng_state().tolist(),
        "cuda": torch.cuda.get_rng_state().tolist() if torch.cuda.is_available() else None,
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Undoes ``random_states``."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(states["numpy"]))  # noqa: NPY002
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(states["cuda"], dtype=torch.uint8))


def _read(folder: Path) -> Checkpoint:
    """All of a checkpoint, so that what is damaged is known before anything is restored."""
    state = json.loads((folder / "state.json").read_text())
    data: dict[str, Any] = {}
    randoms = []
    for index in range(state["processes"]):
        data |= json.loads((folder / f"data-{index:05d}.json").read_text())  # lanes by number
        randoms.append(json.loads((folder / f"random-{index:05d}.json").read_text()))
    return Checkpoint(
        folder=folder,
        weights=load_file(folder / "weights.safetensors"),
        optimizer=load_file(folder / "optimizer.safetensors"),
        average=load_file(folder / "average.safetensors"),
        data=data,
        randoms=randoms,
        state=state,
    )


def _trained(stage: Stage) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in stage.named_parameters() if p.requires_grad)


def _optimizer_tensors(stage: Stage, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}.{figure}": value
        for name, parameter in _trained(stage)
        for figure, value in optimizer.state.get(parameter, {}).items()
    }


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer within accelerate's wrapper."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def _average_tensors(stage: Stage, ema: Ema) -> dict[str, Tensor]:
    averages: Sequence[Tensor] = ema.averages
    return {name: a for (name, _), a in zip(_trained(stage), averages, strict=True)}


def _gathered(tensor: Tensor) -> Tensor:
    """With the shards of other processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(value: Tensor, model: Tensor) -> Tensor:
    """``value`` laid out, placed and sharded as ``model`` is."""
    if value.ndim == 0:
        return value.to(model.device)
    if isinstance(model, DTensor):
        device = model.device_mesh.device_type
        return distribute_tensor(
            value.to(device), model.device_mesh, model.placements, src_data_rank=None
        )
    return torch.empty_like(model, dtype=value.dtype, requires_grad=False).copy_(value)


def _step_of(folder: Path) -> int:
    match = _NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1])
