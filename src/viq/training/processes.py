"""The processes of a run, through ``accelerate``: one, DDP, FSDP version 2, or DeepSpeed.

Which it is, and on what device, is accelerate's own configuration: ``accelerate config``, the
flags of ``accelerate launch``, or what ``torchrun`` sets.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule

from viq.errors import InputError


class Processes:
    """This process among the others. What is done ``together`` must be done by all of them."""

    def __init__(self, dtype: str, seed: int) -> None:
        """Joins the others. ``seed`` is for what is random while training, such as dropout."""
        from accelerate import Accelerator, DistributedType
        from accelerate.state import AcceleratorState
        from accelerate.utils import set_seed

        AcceleratorState._reset_state()  # one process may train stages of different dtypes in a row
        is_half = dtype == "bfloat16"
        self.accelerator = Accelerator(mixed_precision="bf16" if is_half else "no")
        kind = self.accelerator.distributed_type
        self.has_deepspeed = kind == DistributedType.DEEPSPEED
        if kind == DistributedType.FSDP and not self.accelerator.is_fsdp2:
            raise InputError("FSDP version 1 is not supported; set fsdp_version: 2 in its config")
        self.device: torch.device = self.accelerator.device
        is_one_of_many = distributed.is_initialized()
        self.index = distributed.get_rank() if is_one_of_many else 0
        self.count = distributed.get_world_size() if is_one_of_many else 1
        self._half = is_half
        set_seed(seed, device_specific=True)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes what is written once."""
        return self.index == 0

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """Wraps both: moves parameters to the device, shards them, averages gradients."""
        if self.has_deepspeed:  # it wants to know, but nothing depends on it
            config = self.accelerator.state.deepspeed_plugin.deepspeed_config
            if config.get("train_micro_batch_size_per_gpu", "auto") == "auto":
                config["train_micro_batch_size_per_gpu"] = 1
        return self.accelerator.prepare(model, optimizer)

    def autocast(self) -> AbstractContextManager[Any]:
        """Of the forward pass; DeepSpeed has none of its own."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)

    def send(self, batch: Any) -> Any:
        """A batch to the device."""
        from accelerate.utils import send_to_device

        return send_to_device(batch, self.device, non_blocking=True)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Adds to the gradients; the last time in a step, they are averaged over processes."""
        if self.has_deepspeed:
            self.accelerator.gradient_state._set_sync_gradients(is_last)
        # accelerate, or DeepSpeed, divides by its own count of accumulation steps
        self.accelerator.backward(loss * self.accelerator.gradient_accumulation_steps)

    def clip(self, model: Any, norm: float) -> float:
        """Scales gradients down to this norm together; returns what it was."""
        return float(self.accelerator.clip_grad_norm_(model.parameters(), norm))

    def accumulating(self, model: Any) -> AbstractContextManager[Any]:
        """Around a forward and backward pass after which gradients are not averaged yet."""
        return self.accelerator.no_sync(model)

    def add_up(self, values: Sequence[float | Tensor]) -> list[float]:
        """Sums over all processes, in float64; together."""
        row = [torch.as_tensor(v, dtype=torch.float64, device=self.device) for v in values]
        total = torch.stack(row)
        if distributed.is_initialized():
            distributed.all_reduce(total)
        numbers: list[float] = total.tolist()
        return numbers

    def wait(self) -> None:
        """Until all are here; together."""
        self.add_up([0.0])

    @contextmanager
    def whole(self, model: nn.Module) -> Iterator[None]:
        """All parameters are there in full while it lasts, not shards of them; together."""
        if self.has_deepspeed and self.accelerator.state.deepspeed_plugin.zero_stage == 3:
            import deepspeed  # type: ignore[import-not-found]

            with deepspeed.zero.GatheredParameters(list(model.parameters())):
                yield
            return
        sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
        for module in sharded:
            module.unshard()
        try:
            yield
        finally:
            for module in sharded:
                module.reshard()

    def close(self) -> None:
        """Leaves the others."""
        from accelerate.state import AcceleratorState

        self.accelerator.free_memory()
        self.accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
