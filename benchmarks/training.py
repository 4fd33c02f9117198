"""How fast a stage trains, and what share of it the same matrix products alone would take.

python benchmarks/training.py align --start runs/contrast --data CORPUS --lm smollm2

It takes the recipe's own data, stage and batches, measures whole steps (data, forward, backward,
optimizer), then replays every matrix product and attention of one step by itself.
"""

import statistics
import time
from itertools import islice
from typing import Any

import torch
from products import Products
from report import arguments, report

from viq.recipes import RECIPES
from viq.training.launch import prepare, with_inputs_of_start
from viq.training.optim import adamw
from viq.training.stage import Inputs


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
    whole = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        train_on(batch)
        whole.append(time.perf_counter() - start)
        alone.append(sum(speed.seconds for speed in products.replay().values()))
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
