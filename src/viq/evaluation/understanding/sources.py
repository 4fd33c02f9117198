"""Where features come from: a tower, a tokenizer, or the pixels themselves.

Axes: N patches, P pixels of a patch's side, C width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from viq.evaluation.understanding.pooled import Features
from viq.image import ImageConfig, Picture, patchify, prepare
from viq.mllm.vision import FeatureNetwork
from viq.model.packing import Packing
from viq.tokenizer import Tokenizer

PATCH_SIZE = 16


def pixels(pictures: Sequence[Picture]) -> list[Tensor]:
    """The pixels of each patch at half resolution, (N, 3 * P * P / 4): what to improve on."""
    config = ImageConfig(patch_size=PATCH_SIZE, pad_multiple=PATCH_SIZE)
    halves = [F.avg_pool2d(prepare(picture, config).pixels, 2) for picture in pictures]
    return [patchify(half, PATCH_SIZE // 2) for half in halves]


def of_codes(tokenizer: Tokenizer) -> Features:
    """What a tokenizer's embedder makes of codes (N, C).

    Raises:
        ModelError: when called, if the tokenizer is proximal.
    """
    return lambda pictures: tokenizer.embed(tokenizer.encode(list(pictures)))


def of_network(network: FeatureNetwork) -> Features:
    """Continuous or proximal features (N, C)."""

    @torch.no_grad()
    def look(pictures: Sequence[Picture]) -> list[Tensor]:
        weight = next(network.parameters())
        prepared = [prepare(picture, network.image) for picture in pictures]
        packing = Packing.of(one.grid_size for one in prepared)
        patches = torch.cat([patchify(one.pixels, network.image.patch_size) for one in prepared])
        return list(packing.split(network(patches.to(weight.device, weight.dtype), packing)))

    return look
