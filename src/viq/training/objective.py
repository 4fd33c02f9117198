"""From a stage's sums to one number: losses weighed, and divided by what the whole step counts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from viq.errors import InputError
from viq.training.processes import Processes
from viq.training.stage import Stage


class Objective(nn.Module):
    """The stage and the weighing of its losses in one forward; this is what is wrapped.

    Every parameter gets a gradient in every micro-batch, if only zeros: what averages gradients
    over processes waits for all of them, and a batch of text alone does not use the vision side.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, batch: Any, factors: Mapping[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
        """The total of one micro-batch, and each loss's sum without gradient."""
        sums: dict[str, Tensor] = self.stage(batch).sums
        trained = [
            p for p in self.parameters() if p.requires_grad and p.numel() and not _is_sharded(p)
        ]
        total = torch.zeros((), device=trained[0].device if trained else None)
        for name, factor in factors.items():
            if name in sums:
                total = total + factor * sums[name].float()
        total = _Touch.apply(total, *trained)  # type: ignore[no-untyped-call]
        return total, {name: value.detach() for name, value in sums.items()}


class _Touch(torch.autograd.Function):
    """The first argument as it is; all others get a gradient of zeros."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, *parameters: Tensor) -> Tensor:
        ctx.like = [(p.shape, p.dtype, p.device) for p in parameters]
        return total.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        zeros = (torch.zeros((), dtype=d, device=w).expand(s) for s, d, w in ctx.like)
        return grad, *zeros


def _is_sharded(parameter: nn.Parameter) -> bool:
    """Whether this is a part that FSDP did not gather for this forward; it sees to it itself."""
    return isinstance(parameter, DTensor)


class Tally(NamedTuple):
    """What one step holds, in all its micro-batches and processes together."""

    counts: dict[str, float]  # what each loss's sum runs over
    sizes: dict[str, float]  # images, tokens

    def factors(self, weights: Mapping[str, float], processes: int) -> dict[str, float]:
        """What sums are multiplied by before they are added; a loss without a count has none.

        DDP takes the mean of gradients over processes; times their number it is their sum.
        """
        return {k: w * processes / self.counts[k] for k, w in weights.items() if self.counts[k]}


def tally(stage: Stage, batches: Sequence[Any], processes: Processes) -> Tally:
    """Asks the stage, before any forward, and adds up over all processes; called by all of them.

    Raises:
        InputError: processes must be alike, and this one lacks what another has.
        ValueError: the stage weighs what it does not count, or counts by other names now.
    """
    counts = [stage.counts(batch) for batch in batches]
    sizes = [stage.size(batch) for batch in batches]
    for one, name in ((row, name) for row in counts for name in {**stage.weights, **counts[0]}):
        if name not in one:
            raise ValueError(
                f"{type(stage).__name__} does not count {name!r} in every batch (0 where there is"
                " nothing)."
            )
    totals = processes.add_up(
        [sum(row[name] for row in rows) for rows in (counts, sizes) for name in rows[0]]
        + [float(all(row[name] for row in counts)) for name in counts[0]]
    )
    split, rest = len(counts[0]), len(counts[0]) + len(sizes[0])
    if processes.are_alike:
        for name, total, full in zip(counts[0], totals, totals[rest:], strict=False):
            if total and full < processes.count:  # said by all processes, or some would wait
                raise InputError(
                    f"a batch of one process has nothing for loss {name!r}, and others have; with"
                    " FSDP and ZeRO 2 every batch needs some, with DDP and ZeRO 1 not"
                )
    return Tally(
        dict(zip(counts[0], totals[:split], strict=True)),
        dict(zip(sizes[0], totals[split:rest], strict=True)),
    )
