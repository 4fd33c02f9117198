"""How fast a stage trains, and what share of it the same matrix products alone would take.

python benchmarks/training.py align --start runs/contrast --data CORPUS --lm smollm2

It takes the recipe's own data, stage and batches, measures whole steps (data, forward, backward,
optimizer), then replays every matrix product and attention of one step by itself.
"""

import statistics
import time
from collections import Counter
from itertools import islice
from typing import Any

import torch
from report import arguments, report
from torch.utils._python_dispatch import TorchDispatchMode

from viq.recipes import RECIPES
from viq.training.launch import prepare, with_inputs_of_start
from viq.training.optim import adamw
from viq.training.stage import Inputs

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
ATTENTION = "scaled_dot_product"


class Products(TorchDispatchMode):
    """Counts products by operator and arguments, tensors standing for their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in PRODUCTS or ATTENTION in name:
            self.calls[func, _shape(args), _shape(tuple((kwargs or {}).items()))] += 1
        return func(*args, **(kwargs or {}))


def _shape(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return ("tensor", tuple(value.shape), tuple(value.stride()), value.dtype)
    if isinstance(value, (list, tuple)):
        return tuple(_shape(v) for v in value)
    return value


def _tensor(value: Any) -> Any:
    if isinstance(value, tuple) and value[:1] == ("tensor",):
        _, shape, strides, dtype = value
        made = torch.empty_strided(shape, strides, dtype=dtype)
        return made.normal_() if dtype.is_floating_point else made.zero_()
    return tuple(_tensor(v) for v in value) if isinstance(value, tuple) else value


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("stage", choices=("align", "proximal", "quantize"))
    parser.add_argument("--recipe", default="nano")
    parser.add_argument("--steps", type=int, default=10)
    for name in ("data", "start", "teacher", "vae", "lm"):
        parser.add_argument(f"--{name}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = ("data", "start", "teacher", "vae", "lm")
    inputs = with_inputs_of_start(Inputs(**{name: getattr(args, name) for name in names}))
    config = RECIPES[args.recipe].stages[args.stage]()
    stage, data, _ = prepare(args.stage, config, inputs)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.loop.dtype == "bfloat16")
    optimizer = adamw(stage, config.loop.optim)
    stage.train()

    def train_on(batch: Any) -> None:
        counts = stage.counts(batch)
        with autocast:
            sums = stage(batch).sums
        total = sum(stage.weights[k] * v / counts[k] for k, v in sums.items() if k in stage.weights)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds, waits, samples, patches, tokens = [], [], [], [], []
    before = time.perf_counter()
    for step in islice(data, args.steps + 2):
        (batch,) = step.batches
        train_on(batch)
        now = time.perf_counter()
        seconds.append(now - before)
        waits.append(step.waited / seconds[-1])
        samples.append(len(batch.samples))
        patches.append(len(batch.rows))
        tokens.append(len(batch.input_ids))
        before = now
    data.close()
    seconds, waits, samples = seconds[2:], waits[2:], samples[2:]  # the first pay for start-up

    with Products() as products:
        train_on(batch)
    alone = []
    ready = [(f, _tensor(a), dict(_tensor(k)), n) for (f, a, k), n in products.calls.items()]
    whole = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        train_on(batch)
        whole.append(time.perf_counter() - start)
        start = time.perf_counter()
        with torch.no_grad():
            for func, positional, named, times in ready:
                for _ in range(times):
                    func(*positional, **named)
        alone.append(time.perf_counter() - start)
    rows = [
        {
            "stage": args.stage,
            "samples/s": statistics.median(n / s for n, s in zip(samples, seconds, strict=True)),
            "seconds a step": statistics.median(seconds),
            "samples a step": statistics.mean(samples),
            "patches a step": statistics.mean(patches),
            "tokens a step": statistics.mean(tokens),
            "waiting for data": statistics.mean(waits),
            "products alone, share of a step": statistics.median(alone) / statistics.median(whole),
        }
    ]
    report(f"training {args.stage}, recipe {args.recipe}, {config.loop.dtype}", rows, args)


if __name__ == "__main__":
    main()
