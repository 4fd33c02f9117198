"""What makes the features that a language model reads, where those are not of codes; frozen.

Axes: N patches of all images, C width, P patch side in pixels.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from viq.checkpoint import VisionTowerConfig, load_vision_tower
from viq.errors import InputError, ModelError
from viq.image import ImageConfig
from viq.mllm.config import MultimodalConfig
from viq.model.encoder import Encoder
from viq.model.packing import Packing
from viq.tokenizer import Tokenizer, load

FeatureKind = Literal["continuous", "proximal"]
_MISSING = (
    "{} is missing: give --start, or --vision-model, a run's folder, a saved model, a bundled name"
    " or a hub id"
)


class FeatureNetwork(nn.Module, ABC):
    """Features of images of any size, before anything is rounded.

    Attributes:
        kind: what the features are.
        width: C.
        image: how pictures are prepared.
        fingerprint: of the tokenizer that it is a part of; None: of none.
    """

    kind: FeatureKind
    width: int
    image: ImageConfig
    fingerprint: str | None = None

    @abstractmethod
    def forward(self, pixels: Tensor, packing: Packing) -> Tensor:
        """Features (N, C) of flat pixels (N, 3 * P * P) in [-1, 1]."""


class ContinuousFeatures(FeatureNetwork):
    """The encoder's output: stage 1."""

    kind = "continuous"

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.width, patch = encoder.config.width, encoder.config.patch_size
        self.image = ImageConfig(patch_size=patch, pad_multiple=patch)

    @torch.no_grad()
    def forward(self, pixels: Tensor, packing: Packing) -> Tensor:
        """Features (N, C) of flat pixels (N, 3 * P * P) in [-1, 1]."""
        features: Tensor = self.encoder(pixels, packing)
        return features


class ProximalFeatures(FeatureNetwork):
    """What the embedder makes of latents on the hypercube's surface: stage 2-1."""

    kind = "proximal"

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.encoder, self.head = tokenizer.part("encoder"), tokenizer.part("head")
        self.embedder = tokenizer.part("embedder")
        self.width = tokenizer.config.network.embedder.width
        self.image, self.fingerprint = tokenizer.config.image, tokenizer.fingerprint

    @torch.no_grad()
    def forward(self, pixels: Tensor, packing: Packing) -> Tensor:
        """Features (N, C) of flat pixels (N, 3 * P * P) in [-1, 1]."""
        latents = self.head(self.encoder(pixels, packing), packing)
        features: Tensor = self.embedder.embed_values(latents)
        return features


def load_features(kind: FeatureKind, where: str | None) -> FeatureNetwork:
    """The features of a run of stage align or proximal, or of a saved tower or tokenizer.

    Raises:
        InputError: none is named, or it does not load, or it is of another kind.
    """
    if kind == "continuous":
        return ContinuousFeatures(load_encoder(where))
    name = find_tokenizer(where)
    tokenizer = load(name)
    if tokenizer.config.network.head.quantizer.code_levels is not None:
        raise ModelError("this tokenizer has codes; the proximal one of stage 2-1 is needed", name)
    return ProximalFeatures(tokenizer)


def find_tokenizer(where: str | None) -> str:
    """What ``viq.load`` takes: the tokenizer of a run, or a saved one, bundled or on the hub.

    Raises:
        InputError: none is named, or a language model is.
    """
    if where is None:
        raise InputError(_MISSING.format("the tokenizer whose codes are read"))
    if _is_of_type(Path(where), MultimodalConfig.model_type):
        raise InputError("this is a language model; name the run's folder, which it is in", where)
    inside = Path(where) / "tokenizer"
    return str(inside) if (inside / "config.json").is_file() else where


def load_encoder(where: str | None) -> Encoder:
    """The encoder of a run of stage align, of a saved tower, or else of a tokenizer.

    Raises:
        InputError: none is named, or it does not load.
    """
    if where is None:
        raise InputError(_MISSING.format("the tower whose features are read"))
    for folder in (Path(where) / "tower", Path(where)):
        if _is_of_type(folder, VisionTowerConfig.model_type):
            return load_vision_tower(folder).encoder
    encoder = load(find_tokenizer(where)).part("encoder")
    assert isinstance(encoder, Encoder)
    return encoder


def _is_of_type(folder: Path, model_type: str) -> bool:
    path = folder / "config.json"
    return path.is_file() and f'"{model_type}"' in path.read_text()
