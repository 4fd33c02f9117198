"""What a run would do, for ``--dry-run``: read off the real stage and its first step of data."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from viq.data.loader import TrainingData
from viq.training.loop import LoopConfig, count_steps
from viq.training.optim import decays, parameter_groups
from viq.training.stage import Stage

_GIB = 2**30


def describe(stage: Stage, data: TrainingData, config: LoopConfig) -> str:
    """Parts, groups, losses, what a step holds and an estimate of memory, as a text.

    Reads one step of ``data``.
    """
    batches = next(iter(data)).batches
    sections = (
        f"{type(stage).__name__}: {count_steps(data, config):,} steps,"
        f" {config.accumulate} x {config.dtype} a process",
        _parts(stage),
        _groups(stage, config),
        _table(("loss", "weight"), [(k, f"{v:g}") for k, v in stage.weights.items()]),
        _first_step(stage, batches),
        _memory(stage, batches[0], config),
    )
    return "\n\n".join(sections)


def activation_bytes(stage: nn.Module, batch: Any, config: LoopConfig) -> float:
    """A rough estimate of what one micro-batch keeps for its backward pass.

    Every linear map keeps its input and its output for each row of the longest sequence in the
    batch, and every convolution its output for each fourth pixel, for most run at a fraction
    of the full size. Attention's own memory does not grow faster, nor do norms keep more than
    what is counted. With checkpointing a tenth of it is left. Right to a factor of two or so.
    """
    tensors = [value for value in vars(batch).values() if isinstance(value, Tensor)]
    rows = max((t.shape[0] for t in tensors), default=0)
    pixels = max((math.prod(t.shape) / 3 for t in tensors if t.ndim == 4), default=0.0)
    patches = pixels / 256
    kept = 0.0
    for module in stage.modules():
        if isinstance(module, nn.Linear):
            kept += (module.in_features + module.out_features) * max(rows, patches)
        elif isinstance(module, nn.Conv2d):
            kept += module.out_channels * max(pixels / 4, rows)
    width = 2 if config.dtype == "bfloat16" else 4
    return kept * width * (0.1 if config.checkpointing else 1.0)


def _parts(stage: Stage) -> str:
    """Parameters by the stage's own attributes; those in ``Frozen`` are never in a checkpoint."""
    rows = []
    for name, module in stage.named_children():
        trained, frozen = _split(module.parameters())
        rows.append((name, trained, frozen))
    for name, parameter in stage.named_parameters(recurse=False):
        rows.append((name, *_split([parameter])))
    for name, module in stage.frozen().items():
        rows.append((f"{name} (as it is)", *_split(module.parameters())))
    rows.append(("all", sum(r[1] for r in rows), sum(r[2] for r in rows)))
    return _table(("part", "trained", "frozen"), [(n, f"{t:,}", f"{f:,}") for n, t, f in rows])


def _groups(stage: Stage, config: LoopConfig) -> str:
    rows = []
    names = {p: n for n, p in stage.named_parameters()}
    for group in parameter_groups(stage, config.optim):
        members = group["params"]
        kind = "matrices" if decays(names[members[0]], members[0]) else "norms, biases, tables"
        if group["muon"]:
            kind += ", by Muon"
        count = sum(p.numel() for p in members)
        decay = f"{group['weight_decay']:g}"
        rows.append((group["name"], kind, f"{count:,}", f"{group['lr']:g}", decay))
    return _table(("group", "of it", "parameters", "peak rate", "weight decay"), rows)


def _first_step(stage: Stage, batches: Sequence[Any]) -> str:
    rows = []
    for what, figures in (("size", stage.size), ("count of loss", stage.counts)):
        found = [figures(batch) for batch in batches]
        rows += [(f"{what} {k}", f"{sum(f[k] for f in found):,.0f}") for k in found[0]]
    return _table(("first step, of this process", ""), rows)


def _memory(stage: Stage, batch: Any, config: LoopConfig) -> str:
    trained = [p for p in stage.parameters() if p.requires_grad]
    networks: list[nn.Module] = [stage, *stage.frozen().values()]
    rows = {
        "weights": _bytes(p for network in networks for p in network.parameters()),
        "gradients": _bytes(trained),
        "optimizer": sum(
            (1 if group["muon"] else 2) * _bytes(group["params"])  # averages kept of each gradient
            for group in parameter_groups(stage, config.optim)
        ),
        "moving average": _bytes(trained) if config.ema is not None else 0,
        "activations, roughly": activation_bytes(stage, batch, config),
    }
    rows["all"] = sum(rows.values())
    table = [(name, f"{size / _GIB:.2f} GiB") for name, size in rows.items()]
    return _table(("memory, of a process without sharding", ""), table)


def _split(parameters: Iterable[nn.Parameter]) -> tuple[int, int]:
    """How many numbers train, and how many do not."""
    counts = {True: 0, False: 0}
    for parameter in parameters:
        counts[parameter.requires_grad] += parameter.numel()
    return counts[True], counts[False]


def _bytes(tensors: Iterable[Tensor]) -> float:
    return float(sum(t.numel() * t.element_size() for t in tensors))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width; numbers, all but the first one, to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
