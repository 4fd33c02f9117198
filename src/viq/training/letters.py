"""Losses for reading: which letters stand in a patch, where that is known (``viq.data.letters``).

A language model learns to read from few answers only what it is shown. An encoder that has never
read gets there with a small part of the samples when it is told each letter where it stands. And
a language model reads an image token soonest that looks like the letters which stand in it.

Axes: N patches of all images, C width, FRAMES of a patch; M windows of p x p patches, each of which
is a token, K letters, D width of the language model.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.data.batch import Batch
from viq.data.letters import ALPHABET, BLANK, CLASSES, FRAMES, UNKNOWN
from viq.mllm.model import MultimodalModel
from viq.mllm.projector import windows_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BLANK_SHARE = 0.05  # of a blank frame's loss: there are many more of them than letters


class LetterReader(nn.Module):
    """Each frame of a patch as a letter or a blank, from the patch's feature alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.letters = nn.Linear(width, FRAMES * CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        """Scores (N, FRAMES, CLASSES), float32, of features (N, C)."""
        return self.letters(self.norm(features)).float().unflatten(-1, (FRAMES, CLASSES))

    def loss(self, features: Tensor, classes: Tensor | None) -> Tensor:
        """The negative log-likelihood of all letters together, and a little of all blanks'.

        Args:
            features: (N, C) of all images.
            classes: (N, FRAMES) of them; None: nothing is known.
        """
        if classes is None:
            return features.new_zeros((), dtype=torch.float32)
        scores, targets = self._known(features, classes)
        weight = torch.ones(CLASSES, device=scores.device)
        weight[BLANK] = _BLANK_SHARE
        return F.cross_entropy(scores, targets, weight=weight, reduction="sum")

    @torch.no_grad()
    def right(self, features: Tensor, classes: Tensor | None) -> float:
        """The share of letters that are the likeliest one where they stand; NaN without letters."""
        if not letter_count(classes):
            return float("nan")
        assert classes is not None
        scores, targets = self._known(features, classes)
        written = targets != BLANK
        likeliest = scores[written][:, BLANK + 1 :].argmax(-1) + BLANK + 1
        return float((likeliest == targets[written]).float().mean())

    def _known(self, features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and classes of all frames of which something is known."""
        known = classes[:, 0] != UNKNOWN
        return self(features[known]).flatten(0, 1), classes[known].flatten().long()


def spelling_loss(mllm: MultimodalModel, features: Tensor, batch: Batch) -> Tensor:
    """The negative log-likelihood of all letters, by the tokens that they stand in.

    Of all letters, those in a token should be the ones whose own embeddings in the language model
    are most like it. Letters that it has no token for count nothing.

    Args:
        mllm: its projector makes tokens of ``features``; its embeddings are taken as they are.
        features: (N, C) of the batch's images.
        batch: where nothing is known of letters, the loss is 0.
    """
    if batch.letters is None:
        return features.new_zeros((), dtype=torch.float32)
    tokens = mllm.projector.pooled(features, batch.packing, batch.pool)
    windows = windows_of(batch.packing, batch.pool).to(batch.letters.device)
    return _spelled(mllm, tokens, batch.letters[windows].flatten(1))


def _spelled(mllm: MultimodalModel, tokens: Tensor, classes: Tensor) -> Tensor:
    """The same, of tokens (M, D) and the classes (M, p * p * FRAMES) of their patches."""
    known, ids = _letter_ids(mllm.tokenizer)
    table: Any = mllm.get_input_embeddings()
    embeddings = table.weight.detach()[ids]  # (K, D)
    places = torch.full((UNKNOWN + 1,), -1)
    places[known] = torch.arange(len(known))
    letters = places.to(classes.device)[classes.long()]
    token, frame = (letters >= 0).nonzero(as_tuple=True)
    scores = (tokens @ embeddings.to(tokens.dtype).T).float()
    return F.cross_entropy(scores[token], letters[token, frame], reduction="sum")


@lru_cache(maxsize=8)
def _letter_ids(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]]:
    """Classes of letters that are one token each, and these tokens."""
    ids = [tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in ALPHABET]
    single = [place for place, one in enumerate(ids) if len(one) == 1]
    first = CLASSES - len(ALPHABET)
    return [place + first for place in single], [ids[place][0] for place in single]


def letter_count(classes: Tensor | None) -> int:
    """M, how many frames (N, FRAMES) have a letter."""
    return 0 if classes is None else int(((classes != BLANK) & (classes != UNKNOWN)).sum())
