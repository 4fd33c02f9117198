"""Several texts in one sequence for any of transformers' language models, without a dense mask.

Our attention is registered with transformers under the name ``viq_packed``. A model that uses it
takes the texts' places by the keyword ``segments`` of its forward, which it hands down to each
layer; gradient checkpointing hands it down again when it computes a layer anew.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from viq.errors import ModelError
from viq.model.attention import attention
from viq.model.packing import Packing

NAME = "viq_packed"

# What changes attention's values if it is given, and has no counterpart here.
_UNKNOWN = ("softcap", "s_aux", "position_bias", "indices")
_LAYERS = ("full_attention", "sliding_attention")


class Segments:
    """Several texts end to end, as they are handed to each layer."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.packing = Packing.of((1, length) for length in lengths)
        self.attended = 0  # how many times they were attended to

    def positions(self, device: torch.device) -> Tensor:
        """Each token's place in its own text, int64 (L,)."""
        places = [torch.arange(length) for length in self.packing.lengths]
        return torch.cat(places).to(device, non_blocking=True)


def packed_logits(
    lm: PreTrainedModel, embedded: Tensor, lengths: Sequence[int], places: Tensor
) -> Tensor:
    """The logits of some tokens of packed texts.

    Args:
        lm: a language model after ``use_packed_attention``.
        embedded: (L, D), its input.
        lengths: tokens of each text; no text sees another.
        places: (S,) int64, of those tokens in the sequence.

    Returns:
        (S, vocabulary), as the model gives them.

    Raises:
        ModelError: the model has an attention that cannot be packed.
    """
    segments = Segments(lengths)
    out = lm(
        inputs_embeds=embedded[None],
        position_ids=segments.positions(embedded.device)[None],
        segments=segments,
        use_cache=False,
        logits_to_keep=places,
    )
    if segments.attended < (layers := lm.config.get_text_config().num_hidden_layers):
        raise ModelError(
            f"{type(lm).__name__} has {layers} layers, of which only {segments.attended} take their"
            " attention from transformers' interface"
        )
    logits: Tensor = out.logits[0]
    return logits


def use_packed_attention(lm: PreTrainedModel) -> None:
    """Makes a language model attend by ``segments`` from now on.

    Raises:
        ModelError: it does not take attention from outside, or tokens of different texts would
            meet in it elsewhere than in attention.
    """
    name = type(lm).__name__
    config = lm.config.get_text_config()
    others = set(getattr(config, "layer_types", None) or ()) - set(_LAYERS)
    if others or lm._is_stateful:
        reason = f"{name} has layers other than attention ({', '.join(sorted(others)) or 'states'})"
        raise ModelError(f"{reason}, in which the texts of one sequence would mix")
    if not (lm._supports_attention_backend and lm._can_set_attn_implementation()):
        raise ModelError(f"{name} does not take its attention from transformers' interface")
    lm.set_attn_implementation(NAME)


def set_attention(lm: PreTrainedModel, name: str) -> None:
    """Sees to it that a language model uses an attention: ours, or another of transformers'.

    Raises:
        ModelError: see ``use_packed_attention``.
    """
    if lm.config._attn_implementation == name:
        return
    if name == NAME:
        use_packed_attention(lm)
    else:
        lm.set_attn_implementation(name)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segments: Segments | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each text, as transformers calls it.

    Args:
        module: the layer, for messages.
        query: (1, A, L, D).
        key, value: (1, A_kv, L, D).
        attention_mask: None; no dense mask is ever made.
        scaling: of the scores.
        dropout: 0.
        sliding_window: how many tokens are seen; at least as many as the longest text has.
        segments: the texts.
        others: what only other implementations use.

    Returns:
        (1, L, A, D), and no weights.

    Raises:
        ModelError: something is asked for that this attention does not do.
    """
    name = type(module).__name__
    if segments is None:
        raise ModelError(f"no segments reach {name}: pass them to the model's forward")
    if attention_mask is not None:
        raise ModelError(f"{name} has a mask of its own, which packed attention does not take")
    if dropout:
        raise ModelError(f"{name} drops {dropout:g} of its attention; set that to 0 in its config")
    longest = segments.packing.max_seqlen
    if sliding_window is not None and sliding_window < longest:
        raise ModelError(
            f"{name} sees a window of {sliding_window} tokens, but a text has {longest};"
            " packed attention sees whole texts"
        )
    if asked := [key for key in _UNKNOWN if others.get(key) is not None]:
        raise ModelError(f"{name} asks for {', '.join(asked)}, which packed attention has not")
    if torch.is_autocast_enabled(query.device.type):
        # Rotation by float32 angles leaves queries and keys in float32, for which a GPU's
        # kernels do not exist.
        dtype = torch.get_autocast_dtype(query.device.type)
    else:
        dtype = value.dtype
    query, key, value = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))  # (L, A, D)
    segments.attended += 1
    attended = attention(query, key, value, segments.packing, causal=True, scale=scaling)
    return attended[None], None


def no_mask(*, use_vmap: bool = False, **_: Any) -> None:
    """The mask that goes with it: none.

    Raises:
        ModelError: the model lays a rule of its own over the causal mask.
    """
    if use_vmap:
        raise ModelError("a rule laid over the causal mask, which packed attention does not take")


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, no_mask)
