"""The floating-point operations of matrix products, counted from shapes: two a multiply-add.

Norms, activations, softmax, look-ups and the optimizer are no matrix products and count nothing.
Going backward a linear map costs its forward pass once for the gradient of its weight, if that
trains, and once for the gradient of its input, if anything before it trains.

Axes: N patches, L tokens of a language model's sequence, S supervised ones.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from viq.external.vae import Vae
from viq.model.embedder import EmbedderConfig
from viq.model.encoder import EncoderConfig
from viq.model.head import HeadConfig, QuantizerConfig
from viq.model.latent_head import LatentHeadConfig


class Flops(NamedTuple):
    """Of one step's forward and backward pass."""

    forward: int = 0
    backward: int = 0

    def plus(self, *others: "Flops") -> "Flops":
        """The sum of all."""
        return Flops(*map(sum, zip(self, *others, strict=True)))

    @property
    def both(self) -> int:
        """Forward and backward together."""
        return self.forward + self.backward


def linear(rows: int, width: int, out: int, *, weight: bool = False, input: bool = False) -> Flops:
    """A linear map of ``rows`` rows; ``weight`` and ``input``: which gradients are wanted."""
    once = 2 * rows * width * out
    return Flops(once, once * (weight + input))


def attention(
    lengths: Iterable[int], channels: int, *, causal: bool = False, trains: bool = False
) -> Flops:
    """Attention inside segments; ``channels`` of all attention heads together.

    Scores that a causal mask hides are not counted. Going backward there are five products in the
    place of two: the scores are made again, for they were not kept.
    """
    scores = sum(n * (n + 1) // 2 if causal else n * n for n in lengths)
    once = 2 * scores * channels
    return Flops(2 * once, 5 * once * trains)


def _mlp(rows: int, width: int, hidden: int | None, out: int, **wanted: bool) -> Flops:
    if hidden is None:
        return linear(rows, width, out, **wanted)
    return linear(rows, width, hidden, **wanted).plus(linear(rows, hidden, out, **wanted))


def _block(rows: int, lengths: list[int], width: int, hidden: int) -> Flops:
    return linear(rows, width, 4 * width).plus(
        attention(lengths, width), _mlp(rows, width, hidden, width)
    )


def encoder(config: EncoderConfig, lengths: list[int]) -> Flops:
    """A frozen encoder; ``lengths`` are the patches of each image."""
    rows, width = sum(lengths), config.width
    blocks = [_block(rows, lengths, width, config.mlp_width)] * config.depth
    maps = 2 if config.skip else 1
    patches = linear(maps * rows, 3 * config.patch_size**2, width)
    return patches.plus(_stem(config, rows), *blocks)


def _stem(config: EncoderConfig, patches: int) -> Flops:
    if not config.stem:
        return Flops()
    pixels, maps = patches * config.patch_size**2, []
    for narrow, wide in pairwise((3, *config.stem, config.width)):
        pixels //= 4
        maps.append(linear(pixels, 9 * narrow, wide))
    around = linear(patches, 9 * config.width, config.width)
    return around.plus(linear(patches, config.width, config.width), *maps)


def head(config: HeadConfig, lengths: list[int]) -> Flops:
    """A frozen quantization head."""
    rows, width = sum(lengths), config.width
    tokens, token_width, narrow = rows * config.code_heads, config.code_width, config.rope_width
    per_head = [length for length in lengths for _ in range(config.code_heads)]
    around = 2 * token_width if narrow != token_width else 0  # there and back again
    code_block = linear(tokens, narrow, 4 * narrow + around).plus(
        attention(per_head, narrow), _mlp(tokens, token_width, config.code_mlp_width, token_width)
    )
    refine = [_mlp(tokens, token_width, token_width, token_width)] * config.refine
    bottleneck = config.quantizer.bottleneck
    down = [linear(tokens, token_width, bottleneck or config.quantizer.latent_width)]
    if config.quantizer.is_nested:
        assert bottleneck is not None
        down.append(linear(tokens, bottleneck, config.quantizer.latent_width))
    return Flops().plus(
        *[_block(rows, lengths, width, config.mlp_width)] * config.depth,
        _mlp(rows, width, config.expand_width, config.code_heads * token_width),
        *refine,
        *[code_block] * config.code_depth,
        *down,
    )


def rounding(config: QuantizerConfig, tokens: int) -> Flops:
    """Latents to codes: products only where they are compared with the entries of a codebook."""
    if config.codebook_size is None:
        return Flops()
    size, width = config.codebook_size, config.latent_width
    return linear(size, width, width).plus(linear(tokens, width, size))


def embedder(
    config: EmbedderConfig, patches: int, *, folded: bool = False, trains: bool = False
) -> Flops:
    """A code embedder, as it is or with its first maps made one."""
    heads, token_width, width = config.code_heads, config.code_width, config.width
    values = config.quantizer.latent_width
    assert not (folded and trains)
    first = config.merge_width or width
    if folded:
        merge = linear(patches, heads * values, first)
    else:
        rows, bottleneck = patches * heads, config.quantizer.bottleneck
        entries = Flops()
        if config.quantizer.codebook_size is not None:
            entries = linear(rows, values, values, weight=trains)  # of the frozen codebook
        if config.quantizer.is_nested:
            assert bottleneck is not None
            up = linear(rows, values, bottleneck, weight=trains)
            up = up.plus(linear(rows, bottleneck, token_width, weight=trains, input=trains))
        else:
            up = linear(rows, values, token_width, weight=trains)  # values have no gradient
        merge = up.plus(
            entries, linear(patches, heads * token_width, first, weight=trains, input=trains)
        )
    wanted = {"weight": trains, "input": trains}
    if config.merge_width is not None:
        merge = merge.plus(linear(patches, first, width, **wanted))
    if config.mlp_width:
        merge = merge.plus(_mlp(patches, width, config.mlp_width, width, **wanted))
    residual = _mlp(patches, width, config.residual_width, width, **wanted)
    return merge.plus(*[residual] * config.depth)


def latent_head(config: LatentHeadConfig, lengths: list[int]) -> Flops:
    """A frozen latent head."""
    rows, width = sum(lengths), config.width
    channels = config.latent_channels * config.upscale**2 * (2 if config.variance else 1)
    adapter = _mlp(rows, width, config.adapter_width, width) if config.adapter_width else Flops()
    return adapter.plus(
        *[_block(rows, lengths, width, config.mlp_width)] * config.depth,
        linear(rows, 9 * width, channels),  # a convolution of 3 x 3
    )


def vae_decoder(vae: Vae, latents: tuple[int, int, int]) -> Flops:
    """A frozen VAE's decoder on latents of this shape (L, H / 8, W / 8).

    Counted by torch as the network runs on tensors without values, for its shape is diffusers'.
    """
    autoencoder = vae.autoencoder
    with torch.device("meta"):
        empty = Vae(type(autoencoder).from_config(autoencoder.config)).eval()
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as count:
            empty.decode(torch.empty(1, *latents))
    return Flops(count.get_total_flops())


def projector(width: int, lm_width: int, patches: int, pool: int, *, input: bool = False) -> Flops:
    """A projector that trains; ``input``: whether what makes its features trains, too."""
    both = {"weight": True, "input": True}
    return linear(patches, width, lm_width, weight=True, input=input).plus(
        _mlp(patches, 2 * lm_width, lm_width, lm_width, **both),
        linear(patches // pool**2, lm_width, lm_width, **both),
    )


def language_model(
    config: Any, lengths: list[int], supervised: int, *, rank: int | None = None
) -> Flops:
    """A Qwen2 of ``config``, whose first layer's input has a gradient, for a projector trains.

    ``rank`` is that of LoRA adapters, beside which nothing else in it trains; None: all of it does.
    """
    rows, width = sum(lengths), config.hidden_size
    head_width = getattr(config, "head_dim", None) or width // config.num_attention_heads
    queries = head_width * config.num_attention_heads
    keys = head_width * config.num_key_value_heads

    def mapped(width: int, out: int) -> Flops:
        base = linear(rows, width, out, weight=rank is None, input=True)
        if rank is None:
            return base
        down = linear(rows, width, rank, weight=True, input=True)
        return base.plus(down, linear(rows, rank, out, weight=True, input=True))

    layer = Flops().plus(
        mapped(width, queries),
        mapped(width, keys),
        mapped(width, keys),
        attention(lengths, queries, causal=True, trains=True),
        mapped(queries, width),
        mapped(width, config.intermediate_size),
        mapped(width, config.intermediate_size),
        mapped(config.intermediate_size, width),
    )
    logits = linear(supervised, width, config.vocab_size, weight=rank is None, input=True)
    return logits.plus(*[layer] * config.num_hidden_layers)
