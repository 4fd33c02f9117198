"""A critic of patches: which parts of a picture are real and which are decoded.

The fully convolutional kind (https://arxiv.org/abs/1611.07004), with group norms, for batches are
small and of many sizes. Nothing in it depends on other images of the batch.

Axes: B images, (H, W) pixels.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Shape of a ``Discriminator``."""

    width: int = 64  # channels after the first convolution; doubled by each of the others
    depth: int = 3  # convolutions that halve the sides; three see 70 pixels at each place
    most_width: int = 512
    norm_groups: int = 8


class Discriminator(nn.Module):
    """Pixels to logits, positive where they look real."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = [min(config.most_width, config.width * 2**i) for i in range(config.depth + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            stride = 2 if i < config.depth else 1
            layers += [
                nn.Conv2d(before, after, 4, stride, 1, bias=False),
                nn.GroupNorm(config.norm_groups, after),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, 1, h, w) of pixels (B, 3, H, W) in [-1, 1]; h is about H / 2^depth."""
        return self.layers(pixels)


def generator_loss(discriminator: Discriminator, fake: Tensor) -> Tensor:
    """How unreal decoded pixels (B, 3, H, W) look, by image: (B,).

    Gradients reach the pixels and not the discriminator, so that one backward serves both players.
    """
    parameters = {name: p.detach() for name, p in discriminator.named_parameters()}
    logits: Tensor = functional_call(discriminator, parameters, (fake,))
    return -logits.float().mean((1, 2, 3))


def discriminator_loss(discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
    """The hinge loss (https://arxiv.org/abs/1705.02894) of telling them apart, by image: (B,).

    Gradients reach the discriminator and not the pixels.
    """
    margins = (1 - discriminator(real.detach()).float(), 1 + discriminator(fake.detach()).float())
    return 0.5 * sum(
        (F.relu(margin).mean((1, 2, 3)) for margin in margins), start=real.new_zeros(1)
    )
