"""The pieces that every network here is made of.

On a CPU in float32 a row's result does not depend on the rows beside it or on the number of
threads, bit for bit, so that a picture's codes do not depend on its batch. Two things would
break that and are mended here, in ``Linear`` and ``Gelu``.

Axes: N rows, C channels.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from viq.model.attention import attention
from viq.model.packing import Packing

Activation = Literal["gelu", "gelu_tanh"]

# Matrix products with few rows or few columns take other kernels, which add in another order,
# and how few depends on the number of threads. Measured: 256 rows and 64 columns are enough.
_ROWS, _COLUMNS = 256, 64
# Elementwise kernels take 32 floats at a time and what is left one by one, by other formulas;
# threads get equal shares of at least this many floats.
_LANES, _SHARE = 32, 32768


class Linear(nn.Linear):
    """``nn.Linear`` whose rows do not depend on how many rows there are, on a CPU in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_features) to (N, out_features)."""
        if input.device.type != "cpu" or input.dtype != torch.float32:
            return super().forward(input)
        rows, columns = input.shape[0], self.out_features
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if rows < _ROWS:
            input = F.pad(input, (0, 0, 0, _ROWS - rows))
        if columns < _COLUMNS:
            weight = F.pad(weight, (0, 0, 0, _COLUMNS - columns))
            bias = F.pad(bias, (0, _COLUMNS - columns))
        return F.linear(input, weight, bias)[:rows, :columns]


class Gelu(nn.Module):
    """GELU, exact or by tanh, the same for a value wherever it stands."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        if activation not in ("gelu", "gelu_tanh"):
            raise ValueError(f"no activation {activation!r}; there are: gelu, gelu_tanh.")
        self.approximate = "tanh" if activation == "gelu_tanh" else "none"

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        if input.device.type != "cpu" or torch.is_grad_enabled():
            return F.gelu(input, approximate=self.approximate)
        numel = input.numel()
        even = _even_shares(numel)
        if even == numel:
            return F.gelu(input, approximate=self.approximate)
        flat = F.pad(input.flatten(), (0, even - numel))
        return F.gelu(flat, approximate=self.approximate)[:numel].view_as(input)


def _even_shares(numel: int) -> int:
    """The least number of floats from ``numel`` up that threads share without a remainder."""
    threads = torch.get_num_threads()
    while numel % (step := _LANES * min(threads, max(1, -(-numel // _SHARE)))):
        numel += step - numel % step
    return numel


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, hidden: int, out: int, activation: Activation = "gelu") -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.act = Gelu(activation)
        self.fc2 = Linear(hidden, out)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, width) to (N, out)."""
        return self.fc2(self.act(self.fc1(rows)))


def mlp_or_linear(
    width: int, hidden: int | None, out: int, activation: Activation
) -> "Mlp | Linear":
    """An ``Mlp``, or without a hidden width one linear map, which learns sooner."""
    return Linear(width, out) if hidden is None else Mlp(width, hidden, out, activation)


class Residual(nn.Module):
    """Base of what adds to its input.

    With ``checkpointing`` on, what is inside is computed anew in the backward pass instead of
    being kept since the forward pass.
    """

    checkpointing = False

    def __call__(self, *inputs: Any) -> Any:
        """``forward``, as of any module."""
        if not (self.checkpointing and torch.is_grad_enabled()):
            return super().__call__(*inputs)
        return checkpoint(super().__call__, *inputs, use_reentrant=False)

    def start_as_identity(self) -> None:
        """Makes every branch add nothing, so that what is put into a trained network changes none.

        Only the last map of a branch is zero: it learns at once, and then so does the rest.
        """
        for last in self._last_maps():
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def _last_maps(self) -> "list[Linear]":
        raise NotImplementedError


def gradient_checkpointing(network: nn.Module, on: bool) -> None:
    """Switches checkpointing in all residual blocks of a network: less memory, a third slower."""
    for module in network.modules():
        if isinstance(module, Residual):
            module.checkpointing = on


class ResidualMlp(Residual):
    """x + Mlp(LayerNorm(x)), each row on its own."""

    def __init__(
        self, width: int, hidden: int, activation: Activation = "gelu", eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden, width, activation)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, width) to (N, width)."""
        return rows + self.mlp(self.norm(rows))

    def _last_maps(self) -> list[Linear]:
        return [self.mlp.fc2]


class SelfAttention(nn.Module):
    """Multi-head self-attention inside each image."""

    def __init__(self, width: int, attention_heads: int) -> None:
        super().__init__()
        if width % attention_heads:
            raise ValueError(
                f"width {width} does not divide into {attention_heads} attention heads."
            )
        self.attention_heads = attention_heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """(N, width) to (N, width)."""
        qkv = self.qkv(rows).unflatten(-1, (3, self.attention_heads, -1))
        query, key, value = qkv.unbind(1)
        return self.proj(attention(query, key, value, packing).flatten(1))


class Block(Residual):
    """A pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self,
        width: int,
        attention_heads: int,
        mlp_width: int,
        activation: Activation = "gelu",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = SelfAttention(width, attention_heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp_width, width, activation)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """(N, width) to (N, width)."""
        rows = rows + self.attn(self.norm1(rows), packing)
        return rows + self.mlp(self.norm2(rows))

    def _last_maps(self) -> list[Linear]:
        return [self.attn.proj, self.mlp.fc2]
