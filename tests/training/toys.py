"""A stage and data small enough for unit tests, and a command that trains them.

It is a file of its own so that it can be run in other processes as well.
"""

import argparse
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from viq.data.loader import Step
from viq.errors import ViQError
from viq.training.loop import LoopConfig, train
from viq.training.optim import OptimConfig
from viq.training.stage import Evaluation, Frozen, Losses, Stage


@dataclass(frozen=True, kw_only=True)
class ToyBatch:
    """Some tokens to regress, and some images, at times none."""

    tokens: torch.Tensor  # (T, 4)
    images: torch.Tensor  # (I, 4)

    def to(self, device, non_blocking=False):
        return replace(self, tokens=self.tokens.to(device), images=self.images.to(device))


class ToyStage(Stage):
    """Two branches; a batch without images leaves the one for them without a gradient."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.weights = {"text": 1.0, "image": 0.5}
        self.text = nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Linear(8, 4))
        self.vision = nn.Linear(4, 4)
        self.positions = nn.Parameter(torch.zeros(2, 4))
        self.base = nn.Linear(4, 4).requires_grad_(False)
        self.teacher = Frozen(nn.Linear(4, 4))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def counts(self, batch):
        images = float(len(batch.images))
        return {"text": float(len(batch.tokens)), "image": images, "image_psnr": images}

    def size(self, batch):
        return {"images": len(batch.images), "tokens": len(batch.tokens)}

    def forward(self, batch):
        if self.training:
            self.seen += len(batch.tokens)
        with torch.no_grad():
            goal = self.teacher()(batch.tokens)
        found = self.text(batch.tokens) + self.positions.sum(0) + self.base(batch.tokens)
        sums = {"text": F.mse_loss(found.float(), goal, reduction="none").mean(1).sum()}
        if len(batch.images):
            error = F.mse_loss(self.vision(batch.images).float(), batch.images, reduction="none")
            sums["image"] = sums["image_psnr"] = error.mean(1).sum()
        return Losses(sums)

    def groups(self):
        return {
            "text": [*self.text.parameters(), self.positions],
            "vision": self.vision.parameters(),
        }

    def observe(self, batch):
        torch.rand(3)  # what is drawn here must not matter
        return {"noise": 1.0}

    def evaluate(self):
        weight = self.vision.weight.float()
        picture = Image.new("RGB", (4, 4), "red")
        torch.rand(5)
        return Evaluation({"eval_norm": weight.norm().item()}, {"weights": picture}, "# Answers\n")

    def export(self, folder):
        weights = {k: v.detach().clone().contiguous() for k, v in self.state_dict().items()}
        save_file(weights, folder / "toy.safetensors")


class ToyData:
    """Lane l's batch t is a function of (l, t); batches differ in size."""

    def __init__(self, *, lanes_total=1, lanes=range(1), steps=None, ends_after=None, hook=None):
        self.steps, self.hook, self.errors, self.is_closed = steps, hook, [], False
        self.ends_after = ends_after or steps  # which may not be what it says
        self.lanes_total, self.lanes, self.next = lanes_total, lanes, 0

    def __iter__(self):
        while self.ends_after is None or self.next < self.ends_after:
            step, self.next = self.next, self.next + 1
            batches = [self.batch(lane, step) for lane in self.lanes]
            if self.hook is not None:
                batches = self.hook(step + 1, batches)
            yield Step(batches=batches, waited=0.001, errors=len(self.lanes))

    def batch(self, lane, step):
        number = step * self.lanes_total + lane
        generator = torch.Generator().manual_seed(number)
        tokens, images = 1 + number * 7 % 5, number % 3  # at times there is no image
        return ToyBatch(
            tokens=torch.randn(tokens, 4, generator=generator),
            images=torch.randn(images, 4, generator=generator),
        )

    def state_dict(self):
        return {str(lane): {"next": self.next} for lane in self.lanes}

    def load_state_dict(self, state):
        self.next = state[str(self.lanes[0])]["next"]

    def close(self):
        self.is_closed = True


def loop_config(**changes):
    """In float32, with a line of the log for each step."""
    optim = OptimConfig(lr=0.01)
    settings = {"steps": 8, "optim": optim, "dtype": "float32", "log_steps": 1, "eval_steps": 4}
    return LoopConfig(**{**settings, "save_steps": 2, **changes})


def new_stage(dropout=0.0):
    torch.manual_seed(0)
    return ToyStage(dropout)


def main():
    """Trains the toy in this process, which is one of several where the environment says so."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--terminate-at", type=int)
    args = parser.parse_args()

    def hook(step, batches):
        time.sleep(args.pause)
        if step == args.terminate_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return batches

    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    lanes = range(rank * args.accumulate, (rank + 1) * args.accumulate)
    data = ToyData(lanes_total=world * args.accumulate, lanes=lanes, hook=hook)
    config = loop_config(steps=args.steps, accumulate=args.accumulate, ema=0.9)
    try:
        train(new_stage(args.dropout), data, config, args.out, resume=args.resume)
    except ViQError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
