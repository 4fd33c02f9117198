"""Trains the toy with its parameters sharded by FSDP, on the CPU.

accelerate knows FSDP on GPUs alone, so here torch's ``fully_shard`` stands in for its ``prepare``.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import toys
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from viq.training.optim import optimizer
from viq.training.processes import Processes


def prepare(self, model, made, clip_norm):
    self._clip_norm = clip_norm
    mesh = init_device_mesh("cpu", (self.count,))
    fully_shard(model.stage.text, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert isinstance(model.stage.vision.weight, DTensor)
    return model, optimizer(model.stage, toys.loop_config().optim)


def clip(self, model):
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), self._clip_norm)
    return norm.full_tensor().item()


Processes.prepare, Processes.clip = prepare, clip
toys.main()
