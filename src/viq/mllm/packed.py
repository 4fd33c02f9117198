"""Texts end to end in one sequence, and prompts one by one: how stages use the model.

Axes: N patches of all images, L tokens of all texts, V tokens of images, S supervised tokens, B
prompts, C channels of features, D of the language model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from viq.chat import IGNORED
from viq.mllm.packed_attention import NAME, packed_logits
from viq.model.packing import Packing


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


class Whole(Protocol):
    """What ``PackedTexts`` needs of the model that it is a part of."""

    tokenizer: Any

    @property
    def device(self) -> torch.device: ...
    @property
    def causal_lm(self) -> PreTrainedModel: ...
    @property
    def embed_packed(self) -> Callable[..., Tensor]: ...
    @property
    def attend(self) -> Callable[[str], None]: ...
    @property
    def generate(self) -> Callable[..., Any]: ...


class PackedTexts:
    """The part of ``MultimodalModel`` that takes features and packed texts."""

    def packed_loss(
        self: Whole,
        features: Tensor,
        packing: Packing,
        pool: int,
        input_ids: Tensor,
        labels: Tensor,
        lengths: Sequence[int],
        image_positions: Tensor,
    ) -> TextLoss:
        """The cross-entropy of each supervised token of packed texts.

        Args:
            features: (N, C) of all images, or of none.
            packing: the images.
            pool: patches along each side of an image token.
            input_ids: (L,) int64; at the places of image tokens any valid id.
            labels: (L,) the token itself where it is supervised, else -100. As in transformers
                a text's first token, which nothing precedes, never counts.
            lengths: tokens of each text; no text sees another.
            image_positions: (V,) int64 places of image tokens, in order.

        Raises:
            ValueError: the sizes do not fit together.
            ModelError: the language model has an attention that cannot be packed.
        """
        if not sum(lengths) == len(input_ids) == len(labels):
            raise ValueError(
                f"{len(input_ids)} tokens with {len(labels)} labels, but texts of"
                f" {sum(lengths)} tokens in all."
            )
        firsts = torch.tensor(_starts(lengths)).to(labels.device, non_blocking=True)
        labels = labels.index_fill(0, firsts, IGNORED)
        places = (labels != IGNORED).nonzero().flatten()
        embedded = self.embed_packed(features, packing, pool, input_ids, image_positions)
        before = places - 1  # what comes before a token predicts it
        self.attend(NAME)
        logits = packed_logits(self.causal_lm, embedded, lengths, before).float()
        return TextLoss(F.cross_entropy(logits, labels[places], reduction="none"), places, logits)

    @torch.no_grad()
    def answer(
        self: Whole,
        features: Tensor,
        packing: Packing,
        pool: int,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        do_sample: bool = False,
        **options: Any,
    ) -> list[str]:
        """Answers to several prompts at once, each up to where the model ends its turn.

        Args:
            features: (N, C) of the images of all prompts in order, or of none.
            packing: the images.
            pool: patches along each side of an image token.
            prompts: of any lengths, with any number of images each.
            max_new_tokens: of each answer at most.
            do_sample: whether to draw tokens; else the likeliest is taken.
            options: more of transformers' ``generate``: temperature, top_p, streamer ...

        Raises:
            ValueError: the prompts do not have the places that the images' tokens need.
        """
        if not prompts:
            return []
        lengths = [len(prompt.input_ids) for prompt in prompts]
        starts = _starts(lengths)
        ids = torch.cat([prompt.input_ids for prompt in prompts]).to(self.device)
        places = torch.cat([p.image_positions + s for p, s in zip(prompts, starts, strict=True)])
        embedded = self.embed_packed(features, packing, pool, ids, places.to(self.device))
        longest = max(lengths)
        padded = [F.pad(e, (0, 0, longest - len(e), 0)) for e in embedded.split(lengths)]
        mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
        tokens = self.generate(
            inputs_embeds=torch.stack(padded),  # (B, longest, D), texts at the right
            attention_mask=mask.to(self.device, torch.int64),
            max_new_tokens=max_new_tokens,
            do_sample=do_sample,
            **options,
        )
        texts: list[str] = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return texts


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where each text begins in the sequence of all."""
    return [0, *accumulate(lengths)][:-1]
