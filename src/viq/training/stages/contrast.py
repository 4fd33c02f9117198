"""Stage contrast: a vision tower from images and captions, where no trained one can be had.

SigLIP's pairwise sigmoid loss (https://arxiv.org/abs/2303.15343): of all images and captions of a
batch, each pair is judged on its own, so the loss needs no sum over the batch. Captions are read
by a small text tower that trains along, or by a frozen sentence encoder behind a linear map. The
pooled token may besides regress the pooled features of a frozen classifier, which knows more of
pictures than few captions tell.

With several processes the negatives of an image are the captions of its own process alone.

The result is a fixed-resolution start model and teacher: encoder and attention pool.

Axes: B pairs, C width of the vision tower, S pixels on an image's side.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.checkpoint import VisionTower, save_vision_tower
from viq.data.config import PairDataConfig
from viq.data.pairs import PairBatch
from viq.errors import ModelError
from viq.external.features import Features, load_features
from viq.external.sentence import (
    MINILM,
    SentenceEncoder,
    load_sentence_encoder,
    load_text_tokenizer,
)
from viq.image import patchify, to_image, to_range
from viq.image.sheet import Cell, Row, sheet
from viq.mllm.vision import load_encoder
from viq.model.encoder import AttentionPool, Encoder, EncoderConfig, PoolConfig
from viq.model.layers import gradient_checkpointing
from viq.model.network import keep_scale
from viq.model.packing import Packing
from viq.model.text_tower import TextTower, TextTowerConfig
from viq.training.handover import with_positions
from viq.training.loop import LoopConfig
from viq.training.losses import distillation
from viq.training.stage import Evaluation, Frozen, Inputs, Losses, Stage

_FIRST_SCALE, _FIRST_BIAS = math.log(10.0), -10.0  # the paper's
_RANKS = (1, 5)
_SHOWN = 8
_AT_ONCE = 32  # pairs that are evaluated together


@dataclass(frozen=True, kw_only=True)
class ContrastConfig:
    """One run of the stage."""

    data: PairDataConfig
    loop: LoopConfig
    encoder: EncoderConfig
    pool: PoolConfig
    # "own" trains ``text_tower`` along; "sentence" is frozen, with a linear map that trains.
    text: Literal["own", "sentence"] = "own"
    text_tower: TextTowerConfig | None = None
    tokenizer: str | None = None  # of the text tower: "minilm", or a folder; None: bytes
    sentence: str = MINILM  # or a folder with a text encoder
    features: str = "efficientnet-lite0"  # or a folder with a DINOv2
    features_weight: float = 0.0  # of the regression of its features; 0 leaves it out
    features_grid: int = 7  # the classifier sees images at so many of its cells a side
    contrast_weight: float = 1.0

    def __post_init__(self) -> None:
        side = self.encoder.position_side * self.encoder.patch_size
        if side != self.data.pairs.side:
            raise ValueError(
                f"the encoder's positions are for {side} pixels a side, but images have"
                f" {self.data.pairs.side}."
            )
        if self.encoder.width != self.pool.width:
            raise ValueError(
                f"encoder and pool must be of one width, but they have {self.encoder.width} and"
                f" {self.pool.width}."
            )
        if self.text == "own" and self.text_tower is None:
            raise ValueError("text is 'own', so text_tower must say its shape.")


class ContrastStage(Stage):
    """Trains an encoder and its pool against captions."""

    def __init__(
        self,
        config: ContrastConfig,
        validation: PairBatch,
        *,
        tokenize: Callable[[Sequence[str]], Sequence[Sequence[int]]] | None = None,
        sentence: SentenceEncoder | None = None,
        features: Features | None = None,
        start: Encoder | None = None,
    ) -> None:
        """For ``build``.

        Args:
            config: of the run.
            validation: pairs to evaluate on.
            tokenize: captions to token ids, for a text tower that trains along.
            sentence: needed where ``text`` is "sentence".
            features: needed where ``features_weight`` is not 0.
            start: an encoder to go on from, of the config's shape but for its position grid.

        Raises:
            ModelError: ``start`` has another shape.
        """
        super().__init__()
        self.config = config
        self.validation = validation
        self.encoder = Encoder(config.encoder)
        self.pool = AttentionPool(config.pool)
        for part in (self.encoder, self.pool):
            keep_scale(part)
        if start is not None:
            self._take(start)
        width = config.pool.width
        self.text_tower: TextTower | None = None
        self.sentence: Frozen | None = None
        if config.text == "own":
            assert config.text_tower is not None
            assert tokenize is not None
            self.tokenize = tokenize
            self.text_tower = TextTower(config.text_tower)
            text_width = config.text_tower.width
        else:
            assert sentence is not None
            self.sentence = Frozen(sentence)
            text_width = sentence.width
        self.to_image_space = nn.Linear(text_width, width)
        self.log_scale = nn.Parameter(torch.tensor([_FIRST_SCALE]))  # FSDP shards no scalars
        self.bias = nn.Parameter(torch.tensor([_FIRST_BIAS]))
        self.features = Frozen(features) if features is not None else None
        self.to_features = nn.Linear(width, features.width) if features is not None else None
        self.weights = {"contrast": config.contrast_weight}
        if features is not None:
            self.weights["features"] = config.features_weight

    def _take(self, start: Encoder) -> None:
        found = replace(start.config, position_side=self.config.encoder.position_side)
        if found != self.config.encoder:
            raise ModelError(f"the start's encoder is {found}, this run's {self.config.encoder}")
        self.encoder = with_positions(start, found.position_side).float()

    def counts(self, batch: PairBatch) -> dict[str, float]:
        return dict.fromkeys(self.weights, float(len(batch.captions)))

    def size(self, batch: PairBatch) -> dict[str, float]:
        return {"images": float(len(batch.captions))}

    def groups(self) -> dict[str, Iterable[nn.Parameter]]:
        text: list[nn.Parameter] = [*self.to_image_space.parameters(), self.log_scale, self.bias]
        if self.text_tower is not None:
            text += self.text_tower.parameters()
        groups: dict[str, Iterable[nn.Parameter]] = {
            "vision": [*self.encoder.parameters(), *self.pool.parameters()],
            "text": text,
        }
        if self.to_features is not None:
            groups["features"] = self.to_features.parameters()
        return groups

    def gradient_checkpointing(self) -> None:
        """Computes blocks anew in the backward pass."""
        gradient_checkpointing(self, True)

    def forward(self, batch: PairBatch) -> Losses:
        images = to_range(batch.images)
        tokens = self.pooled(images)
        texts = self.embed(batch.captions)
        logits = self.log_scale.exp() * similarities(tokens, texts) + self.bias
        same = same_pairs(batch.captions, batch.samples).to(logits.device)
        sums = {"contrast": sigmoid_loss(logits, same)}
        if self.features is not None:
            assert self.to_features is not None
            grid = (self.config.features_grid,) * 2
            with torch.no_grad():
                target = self.features()(images, grid).mean((1, 2))
            sums["features"] = distillation(self.to_features(tokens), target).sum()
        return Losses(sums)

    def observe(self, batch: PairBatch) -> dict[str, float]:  # noqa: ARG002
        return {"scale": self.log_scale.exp().item(), "bias": self.bias.item()}

    def pooled(self, images: Tensor) -> Tensor:
        """Semantic tokens (B, C) of pixels (B, 3, S, S) in [-1, 1]."""
        size, side = self.config.encoder.patch_size, self.config.encoder.position_side
        packing = Packing.of([(side, side)] * len(images))
        patches = patchify(images, size)
        return self.pool(self.encoder(patches, packing), packing)

    def embed(self, captions: Sequence[str]) -> Tensor:
        """Captions as vectors (B, C) in the space of semantic tokens."""
        if self.text_tower is not None:
            return self.to_image_space(self.text_tower(self.tokenize(captions)))
        assert self.sentence is not None
        with torch.no_grad():
            vectors = self.sentence()(captions)
        return self.to_image_space(vectors)

    def evaluate(self) -> Evaluation:
        """How often an image's own caption is among the first of all held-out ones.

        Beside each recall stands what guessing would reach.
        """
        device = self.bias.device
        captions = list(dict.fromkeys(self.validation.captions))  # two images may share one
        images = to_range(self.validation.images)
        tokens = torch.cat([self.pooled(part.to(device)) for part in images.split(_AT_ONCE)])
        starts = range(0, len(captions), _AT_ONCE)
        texts = torch.cat([self.embed(captions[i : i + _AT_ONCE]) for i in starts])
        scores = similarities(tokens, texts)
        right = torch.tensor([captions.index(c) for c in self.validation.captions], device=device)
        ranked = scores.argsort(dim=1, descending=True)
        places = (ranked == right[:, None]).int().argmax(1)
        figures = {}
        for rank in _RANKS:
            figures[f"eval_recall_{rank}"] = (places < rank).float().mean().item()
            figures[f"eval_chance_{rank}"] = min(1.0, rank / len(captions))
        figures |= self._losses()
        cells = [
            Row("", (Cell(to_image(image), captions[best]), Cell(None, own)))
            for image, best, own in zip(
                images[:_SHOWN], ranked[:_SHOWN, 0].tolist(), self.validation.captions, strict=False
            )
        ]
        return Evaluation(figures, {"pairs": sheet(("nearest caption", "its own"), cells)})

    def _losses(self) -> dict[str, float]:
        """The losses on held-out pairs, in batches as large as those of training."""
        sums: dict[str, float] = dict.fromkeys(self.weights, 0.0)
        size, data = self.config.data.pairs.batch, self.validation
        for i in range(0, len(data.captions), size):
            part = PairBatch(
                images=data.images[i : i + size],
                captions=data.captions[i : i + size],
                samples=data.samples[i : i + size],
            )
            for name, value in self(part.to(self.bias.device)).sums.items():
                sums[name] += value.item()
        return {f"eval_{name}": value / len(data.captions) for name, value in sums.items()}

    def export(self, folder: Path) -> None:
        """Writes ``tower/``: the encoder and its pool."""
        save_vision_tower(VisionTower(self.encoder, self.pool), folder / "tower")


def build(config: ContrastConfig, inputs: Inputs, validation: PairBatch) -> ContrastStage:
    """The stage from nothing, or from an encoder that knows something of pixels already.

    Args:
        config: of the run.
        inputs: ``start``, if given: a tokenizer or a tower.
        validation: pairs to evaluate on.

    Raises:
        ModelError: a frozen network or a tokenizer cannot be loaded, or does not fit.
    """
    tokenize = None
    if config.text == "own":
        assert config.text_tower is not None
        tokenize = _tokenizer(config.tokenizer, config.text_tower.vocabulary)
    return ContrastStage(
        config,
        validation,
        tokenize=tokenize,
        sentence=load_sentence_encoder(config.sentence) if config.text == "sentence" else None,
        features=load_features(config.features) if config.features_weight else None,
        start=None if inputs.start is None else load_encoder(inputs.start),
    )


def as_bytes(captions: Sequence[str]) -> list[list[int]]:
    """Token ids of captions where a token is a byte of UTF-8."""
    return [list(caption.encode()) for caption in captions]


def _tokenizer(
    where: str | None, vocabulary: int
) -> Callable[[Sequence[str]], Sequence[Sequence[int]]]:
    if where is None:
        return as_bytes
    tokenizer = load_text_tokenizer(where)
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens, but the text tower's vocabulary is"
            f" {vocabulary}",
            where,
        )
    return lambda captions: tokenizer(list(captions))["input_ids"]


def similarities(images: Tensor, texts: Tensor) -> Tensor:
    """Cosines (B, T) of semantic tokens (B, C) and text vectors (T, C), in float32."""
    return F.normalize(images.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T


def same_pairs(captions: Sequence[str], samples: Sequence[str]) -> Tensor:
    """Which image goes with which caption, (B, B): equal captions, and captions of one sample."""
    found = torch.zeros(len(captions), len(captions), dtype=torch.bool)
    for names in (captions, samples):
        number_of = {name: i for i, name in enumerate(names)}
        numbers = torch.tensor([number_of[name] for name in names])
        found |= numbers[:, None] == numbers
    return found


def sigmoid_loss(logits: Tensor, same: Tensor) -> Tensor:
    """SigLIP's loss summed over all pairs of logits (B, B); divided by B it is the paper's.

    An image's own caption is on the diagonal. Others that fit as well (``same``) are left out:
    they are no negatives.
    """
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    losses = F.softplus(torch.where(own, -logits, logits))
    return losses.masked_fill(same & ~own, 0.0).sum()
