"""How a language model under training sees: from codes, or from pixels with a frozen network.

Nothing here trains. What ``forward`` gives are codes, of which the multimodal model's embedder
makes features, or features themselves.

Axes: N patches of all images, Q code heads, C width, T tiles, S their side, s patches on a tile.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from viq.data.batch import Batch
from viq.data.config import PhaseConfig
from viq.data.readers import CodeReader, ImageReader, TileReader, patch_reader
from viq.errors import InputError, ModelError
from viq.external.tiling import TilingConfig, drop_edges
from viq.external.vision import SquareVision, load_square_vision
from viq.image import ImageConfig
from viq.mllm.vision import FeatureNetwork
from viq.tokenizer import Tokenizer, load

VisionKind = Literal["codes", "quantized", "proximal", "continuous", "foreign"]


class Vision(nn.Module, ABC):
    """What images are seen with; frozen."""

    width: int  # C, of the features in the end
    gives_codes: bool  # or else features

    @abstractmethod
    def image_reader(self, phase: PhaseConfig) -> ImageReader:
        """How the batches of a phase are made.

        Raises:
            ValueError: the phase's settings do not go with this.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Codes (N, Q) or features (N, C) of the batch's images, or of none."""


class CodesVision(Vision):
    """Codes as they lie on disk; there is no encoder in memory."""

    gives_codes = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        network = tokenizer.config.network
        self.width, self.code_heads = network.embedder.width, network.head.code_heads
        self.fingerprint = tokenizer.fingerprint

    def image_reader(self, phase: PhaseConfig) -> CodeReader:
        """Codes of this tokenizer; of any size that the phase's ``max_patches`` leaves room for."""
        return CodeReader(fingerprint=self.fingerprint, code_heads=self.code_heads, pool=phase.pool)

    def forward(self, batch: Batch) -> Tensor:
        """The codes that were read."""
        return batch.rows


class QuantizedVision(Vision):
    """Pixels to codes with the whole tokenizer in the loop; the same codes as are stored."""

    gives_codes = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.encoder, self.head = tokenizer.part("encoder"), tokenizer.part("head")
        self.width = tokenizer.config.network.embedder.width
        self.image = tokenizer.config.image

    def image_reader(self, phase: PhaseConfig) -> ImageReader:
        """Pictures prepared as for encoding."""
        return patch_reader(phase, self.image.patch_size, self.image)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """Codes (N, Q) of the batch's pixels."""
        pixels = batch.pixels
        if not batch.images:
            return pixels.new_zeros(0, self.head.config.code_heads, dtype=torch.int32)
        # Without autocast: the codes that are stored are those of float32.
        with torch.autocast(pixels.device.type, enabled=False):
            latents = self.head(self.encoder(pixels, batch.packing), batch.packing)
            codes: Tensor = self.head.quantize(latents).codes
        return codes


class FeaturesVision(Vision):
    """Pixels to features that nothing rounds, with their network in the loop."""

    gives_codes = False

    def __init__(self, network: FeatureNetwork, image: ImageConfig | None) -> None:
        """``image``: how pictures are prepared; None: as the phase says."""
        super().__init__()
        self.network, self.image = network, image
        self.width = network.width

    def image_reader(self, phase: PhaseConfig) -> ImageReader:
        """Pictures of the phase's area."""
        return patch_reader(phase, self.network.image.patch_size, self.image)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """Features (N, C) of the batch's pixels."""
        pixels = batch.pixels
        if not batch.images:
            return pixels.new_zeros(0, self.width)
        features: Tensor = self.network(pixels, batch.packing)
        return features


class ForeignVision(Vision):
    """Features of a network for squares, which sees pictures of other shapes in tiles."""

    gives_codes = False

    def __init__(self, network: SquareVision, tiling: TilingConfig) -> None:
        super().__init__()
        self.network, self.tiling = network, tiling
        self.width = network.width

    def image_reader(self, phase: PhaseConfig) -> TileReader:
        """Pictures in tiles, whatever the phase's area."""
        return TileReader(
            side=self.network.side,
            patch_size=self.network.patch,
            pool=phase.pool,
            tiling=self.tiling,
            resample=self.network.resample,
        )

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """Features (N, C): of each picture those of the whole, then what its tiles show of it."""
        if not len(batch.rows):
            return self.network.mean.new_zeros(0, self.width)
        side, grid = self.network.side, self.network.grid
        features = self.network(batch.rows.unflatten(1, (3, side, side)))  # (T, s * s, C)
        counts = [1 + rows * columns for rows, columns in batch.tiles]
        shown = list(batch.packing)
        if self.tiling.grids:
            shown = shown[1::2]  # of each picture the second grid is that of its tiles
        seen = []
        for one, tiles, size in zip(features.split(counts), batch.tiles, shown, strict=True):
            seen.append(one[0])
            if all(tiles):
                cells = one[1:].unflatten(1, (grid, grid)).unflatten(0, tiles)  # (R, K, s, s, C)
                whole = cells.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # (R * s, K * s, C)
                kept = (
                    drop_edges(length, left, batch.pool)
                    for length, left in zip(whole.shape[:2], size, strict=True)
                )
                seen.append(whole[tuple(kept)].flatten(0, 1))
        return torch.cat(seen)


def load_tokenizer(where: str) -> Tokenizer:
    """A tokenizer that has codes.

    Raises:
        ModelError: it does not load, or it has none.
    """
    tokenizer = load(where)
    if tokenizer.config.network.head.quantizer.code_levels is None:
        raise ModelError("this tokenizer is proximal: it has no codes yet", where)
    return tokenizer


def load_foreign(where: str | None, tiling: TilingConfig, layer: int | None) -> ForeignVision:
    """A vision model of transformers.

    Raises:
        InputError: none is named, or it does not load.
    """
    if where is None:
        raise InputError(
            "the vision model is missing: give --vision-model, a folder in transformers' layout or"
            " a hub id"
        )
    return ForeignVision(load_square_vision(where, side=tiling.side, layer=layer), tiling)
