"""Texts end to end in one sequence, and prompts one by one: how stages use the model.

Axes: N patches of all images, L tokens of all texts, V tokens of images, S supervised tokens, B
prompts, C channels of features, D of the language model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from viq.chat import IGNORED
from viq.mllm.embed import embed_packed
from viq.mllm.packed_attention import NAME, packed_logits, set_attention
from viq.model.packing import Packing

if TYPE_CHECKING:
    from viq.mllm.model import MultimodalModel


@dataclass(frozen=True)
class TextLoss:
    """What the model makes of the S supervised tokens."""

    losses: Tensor  # (S,) float32
    places: Tensor  # (S,) int64, in the sequence
    logits: Tensor  # (S, vocabulary) float32

    @property
    def sum(self) -> Tensor:
        """All losses together."""
        return self.losses.sum()

    @property
    def count(self) -> int:
        """S, how many tokens are supervised."""
        return len(self.losses)

    @property
    def predictions(self) -> Tensor:
        """The likeliest tokens (S,)."""
        return self.logits.argmax(-1)


class Prompt(NamedTuple):
    """One text to go on with."""

    input_ids: Tensor  # (L,) int64; at the places of image tokens any valid id
    image_positions: Tensor  # (V,) int64 places of image tokens, in order


def packed_loss(
    model: "MultimodalModel",
    features: Tensor,
    packing: Packing,
    pool: int,
    input_ids: Tensor,
    labels: Tensor,
    lengths: Sequence[int],
    image_positions: Tensor,
) -> TextLoss:
    """See ``MultimodalModel.packed_loss``."""
    if not sum(lengths) == len(input_ids) == len(labels):
        raise ValueError(
            f"{len(input_ids)} tokens with {len(labels)} labels, but texts of"
            f" {sum(lengths)} tokens in all."
        )
    firsts = torch.tensor(_starts(lengths)).to(labels.device, non_blocking=True)
    labels = labels.index_fill(0, firsts, IGNORED)
    places = (labels != IGNORED).nonzero().flatten()
    embedded = embed_packed(model, features, packing, pool, input_ids, image_positions)
    before = places - 1  # what comes before a token predicts it
    set_attention(model.causal_lm, NAME)
    logits = packed_logits(model.causal_lm, embedded, lengths, before).float()
    return TextLoss(F.cross_entropy(logits, labels[places], reduction="none"), places, logits)


@torch.no_grad()
def answer(
    model: "MultimodalModel",
    features: Tensor,
    packing: Packing,
    pool: int,
    prompts: Sequence[Prompt],
    **options: Any,
) -> list[str]:
    """See ``MultimodalModel.answer``."""
    if not prompts:
        return []
    lengths = [len(prompt.input_ids) for prompt in prompts]
    starts = _starts(lengths)
    ids = torch.cat([prompt.input_ids for prompt in prompts]).to(model.device)
    places = torch.cat([p.image_positions + s for p, s in zip(prompts, starts, strict=True)])
    embedded = embed_packed(model, features, packing, pool, ids, places.to(model.device))
    longest = max(lengths)
    padded = [F.pad(e, (0, 0, longest - len(e), 0)) for e in embedded.split(lengths)]
    mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    tokens = model.generate(
        inputs_embeds=torch.stack(padded),  # (B, longest, D), texts at the right
        attention_mask=mask.to(model.device, torch.int64),
        **options,
    )
    texts: list[str] = model.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where each text begins in the sequence of all."""
    return [0, *accumulate(lengths)][:-1]
