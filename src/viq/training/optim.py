"""The optimizer's side of a run: which parameter learns how fast, and when.

AdamW (https://arxiv.org/abs/1711.05101), for the matrices of chosen groups Muon
(https://arxiv.org/abs/2502.16982), with parameter groups named by the stage, a schedule that is a
pure function of the step, and an average of the weights.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from viq.errors import InputError
from viq.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer and its schedule: a linear warm-up, then down to a floor, or flat."""

    lr: float = 1e-3
    lr_scale: Mapping[str, float] = field(default_factory=dict)  # by group; 1 where not named
    muon: Sequence[str] = ()  # groups whose matrices Muon trains, and AdamW all else
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05  # share of all steps
    min_ratio: float = 0.1  # the floor, as a share of ``lr``
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.02
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "eps", "clip_norm"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} is {value}; it must be a positive number.")
        for name in ("warmup", "min_ratio"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must be 0 or more.")


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """The rate of step ``step``, counted from 0, before a group's scale."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    done = min(1.0, (step + 1 - warmup) / max(1, steps - warmup))
    falls = {
        "cosine": 0.5 + 0.5 * math.cos(math.pi * done),
        "linear": 1 - done,
        "constant": 1.0,
    }
    return config.lr * (config.min_ratio + (1 - config.min_ratio) * falls[config.schedule])


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay is for this parameter: matrices, but no positions and no queries.

    Norms, biases and scales have one axis. A position grid and a learned query are rows of a
    table that happen to have two, and zero means nothing special to them.
    """
    parts = name.split(".")
    is_table = any(part.startswith("position") for part in parts) or parts[-1] in (
        "latent",
        "query",
        "queries",
    )
    return parameter.ndim >= 2 and not is_table


def parameter_groups(stage: Stage, config: OptimConfig) -> list[dict[str, Any]]:
    """The stage's groups, each in two: with weight decay and without; empty ones are left out.

    Raises:
        ValueError: a parameter is in no group or in two, or a frozen one is in one.
        InputError: ``lr_scale`` names a group that the stage does not have.
    """
    names = {parameter: name for name, parameter in stage.named_parameters()}
    groups = {group: list(parameters) for group, parameters in stage.groups().items()}
    for setting in ("lr_scale", "muon"):
        if unknown := sorted(set(getattr(config, setting)) - set(groups)):
            raise InputError(
                f"{setting} names group {unknown[0]!r}, but {_kind(stage)} has:"
                f" {', '.join(sorted(groups))}"
            )
    group_of: dict[nn.Parameter, str] = {}
    for group, parameters in groups.items():
        for parameter in parameters:
            if parameter not in names:
                raise ValueError(f"group {group!r} has a parameter that is not the stage's.")
            name = names[parameter]
            if parameter in group_of:
                raise ValueError(f"{name} is in two groups, {group_of[parameter]!r} and {group!r}.")
            if not parameter.requires_grad:
                raise ValueError(f"{name} is frozen, but in group {group!r}.")
            group_of[parameter] = group
    for parameter, name in names.items():
        if parameter.requires_grad and parameter not in group_of:
            raise ValueError(f"{name} requires a gradient, but is in no group of {_kind(stage)}.")

    result = []
    for group, parameters in groups.items():
        scale = config.lr_scale.get(group, 1.0)
        kinds: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            decay = decays(names[parameter], parameter)
            muon = decay and parameter.ndim == 2 and group in config.muon
            kinds[decay, muon].append(parameter)
        for (decay, muon), members in sorted(kinds.items(), reverse=True):
            result.append(
                {
                    "params": members,
                    "name": group,
                    "lr": config.lr * scale,
                    "lr_scale": scale,
                    "weight_decay": config.weight_decay if decay else 0.0,
                    "muon": muon,
                }
            )
    return result


class MuonAdamW(torch.optim.Optimizer):
    """torch's Muon for groups that say so, its AdamW for the others, at rates of one meaning."""

    def __init__(self, groups: list[dict[str, Any]], config: OptimConfig) -> None:
        super().__init__(groups, {})
        of = {muon: [g for g in self.param_groups if g["muon"] == muon] for muon in (True, False)}
        self._both: dict[bool, torch.optim.Optimizer] = {}
        if of[True]:
            self._both[True] = torch.optim.Muon(of[True], adjust_lr_fn="match_rms_adamw")
        if of[False]:
            self._both[False] = torch.optim.AdamW(
                of[False], betas=config.betas, eps=config.eps, fused=True
            )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both, with this one's groups and state."""
        assert closure is None
        for muon, optimizer in self._both.items():
            optimizer.param_groups = [g for g in self.param_groups if g["muon"] == muon]
            optimizer.state = self.state
            optimizer.step()


def optimizer(stage: Stage, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer of all that trains in ``stage``."""
    groups = parameter_groups(stage, config)
    if config.muon:
        return MuonAdamW(groups, config)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


class Ema:
    """An exponential moving average of what trains, to be evaluated and exported in its place."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.averages: list[Tensor] = [p.detach().clone() for p in self.parameters]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after step ``step``, counted from 0.

        Early on it remembers less, or it would hold on to the random start.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [p.detach() for p in self.parameters]
        get_ema_multi_avg_fn(decay)(self.averages, current, 0)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Puts the averages where the weights are, and back at the end."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            weights = parameter.detach().clone()
            parameter.copy_(average)  # in place: sharded parameters are views of a larger buffer
            average.copy_(weights)


def _kind(stage: Stage) -> str:
    return type(stage).__name__
