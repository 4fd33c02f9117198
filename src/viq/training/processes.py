"""The processes of a run, through ``accelerate``: one, DDP, FSDP version 2, or DeepSpeed ZeRO.

Which it is, and on what device, is accelerate's own configuration: ``accelerate config``, the
flags of ``accelerate launch``, or what ``torchrun`` sets.

FSDP and ZeRO 2 match what processes exchange by its order alone, so all must use the same modules
in each micro-batch: with them, every batch needs an image. DDP and ZeRO 1 need not care.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from viq.errors import InputError


class Processes:
    """This process among the others. What is done ``together`` must be done by all of them."""

    def __init__(self, dtype: str, seed: int) -> None:
        """Joins the others. ``seed`` is for what is random while training, such as dropout."""
        from accelerate import Accelerator, DistributedType  # type: ignore[import-untyped]
        from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
        from accelerate.utils import set_seed  # type: ignore[import-untyped]

        AcceleratorState._reset_state()  # one process may train stages of different dtypes in a row
        is_half = dtype == "bfloat16"
        self.accelerator = Accelerator(mixed_precision="bf16" if is_half else "no")
        kind = self.accelerator.distributed_type
        self.has_deepspeed = kind == DistributedType.DEEPSPEED
        if kind == DistributedType.FSDP and not self.accelerator.is_fsdp2:
            raise InputError("FSDP version 1 is not supported; set fsdp_version: 2 in its config")
        stage = self.accelerator.state.deepspeed_plugin.zero_stage if self.has_deepspeed else 0
        if stage == 3:
            raise InputError("ZeRO 3 is not supported; FSDP (fsdp_version: 2) shards as much")
        self.are_alike = kind == DistributedType.FSDP or stage == 2  # see above
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

    def prepare(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, clip_norm: float
    ) -> tuple[Any, Any]:
        """Wraps both: moves parameters to the device, shards them, averages gradients."""
        self._clip_norm = clip_norm
        if self.has_deepspeed:
            config = self.accelerator.state.deepspeed_plugin.deepspeed_config
            config["gradient_clipping"] = clip_norm  # it clips and steps within ``backward``
            config["train_micro_batch_size_per_gpu"] = 1  # nothing depends on it
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

    def clip(self, model: Any) -> float:
        """Scales gradients down to ``clip_norm``; returns what their norm was; together."""
        return float(self.accelerator.clip_grad_norm_(model.parameters(), self._clip_norm))

    def accumulating(self, model: Any) -> AbstractContextManager[Any]:
        """Around a forward and backward pass after which gradients are not averaged yet."""
        return self.accelerator.no_sync(model)

    def add_up(self, values: Sequence[float | Tensor]) -> list[float]:
        """Sums over all processes, in float64; together."""
        # One copy to the device for all plain numbers, one read from it for all.
        plain = [0.0 if isinstance(v, Tensor) else float(v) for v in values]
        total = torch.tensor(plain, dtype=torch.float64).to(self.device)
        for place, value in enumerate(values):
            if isinstance(value, Tensor):
                total[place] = value
        if distributed.is_initialized():
            distributed.all_reduce(total)
        numbers: list[float] = total.tolist()
        return numbers

    def wait(self) -> None:
        """Until all are here; together."""
        self.add_up([0.0])

    @contextmanager
    def gathered(self, model: nn.Module) -> Iterator[None]:
        """Any module can run while it lasts, even if its parameters are sharded; together."""
        sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
        for module in sharded:
            module.unshard()
        yield
        for module in sharded:
            module.reshard()

    @contextmanager
    def plain(self, model: nn.Module) -> Iterator[None]:
        """The first process has whole, plain parameters while it lasts, to be written; together.

        FSDP shards what it gathered again as soon as a ``state_dict`` is asked for.
        """
        whole: dict[nn.Parameter, nn.Parameter] = {}
        sharded: list[tuple[dict[str, nn.Parameter | None], str, nn.Parameter]] = []
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if isinstance(parameter, DTensor):
                    sharded.append((module._parameters, name, parameter))
                    if parameter not in whole:  # it may be in two places
                        values = parameter.detach().full_tensor().cpu()
                        whole[parameter] = nn.Parameter(values, requires_grad=False)
        for parameters, name, parameter in sharded:
            parameters[name] = whole[parameter]
        yield
        for parameters, name, parameter in sharded:
            parameters[name] = parameter

    def close(self) -> None:
        """Leaves the others."""
        from accelerate.state import AcceleratorState

        self.accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
