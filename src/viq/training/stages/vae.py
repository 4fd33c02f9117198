"""Stage vae: the small image autoencoder whose latents the latent head regresses.

Pixels alone: mean squared error, and a light pull of the latents towards zero that keeps their
scale near one. Only the posterior's mean is used, here and later; its variance is not trained.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from viq.data.crops import CropConfig
from viq.external.vae import small_vae
from viq.training.loop import LoopConfig


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """One run of the stage."""

    crops: CropConfig
    loop: LoopConfig
    latent_weight: float = 1e-3


class VaeStage:
    """Trains a new autoencoder."""

    def __init__(self, config: VaeConfig, held_out: Tensor) -> None:
        """``held_out``: uint8 (B, 3, H, W), for the evaluation."""
        self.module = small_vae()
        self.held_out = held_out
        self.latent_weight = config.latent_weight

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        """Mean squares of the pixels' error, in [-1, 1], and of the latents."""
        pixels = to_unit(batch)
        latents = self.module.encode(pixels)
        error = F.mse_loss(self.module.decode(latents).float(), pixels)
        scale = latents.float().square().mean()
        return {"pixel": error, "latent": self.latent_weight * scale, "_psnr": unit_psnr(error)}

    def evaluate(self) -> dict[str, float]:
        """PSNR of decoded posterior means, and the scale of the latents."""
        pixels = to_unit(self.held_out)
        latents = self.module.encode(pixels)
        error = F.mse_loss(self.module.decode(latents).float(), pixels, reduction="none")
        psnr = unit_psnr(error.mean((1, 2, 3)))
        return {"eval_psnr": psnr.mean().item(), "eval_latent_std": latents.float().std().item()}

    def export(self, folder: Path) -> None:
        """Writes ``vae/`` in diffusers' layout."""
        self.module.save(folder / "vae")


def to_unit(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) to float32 in [-1, 1], channels last."""
    pixels = images.to(torch.float32).div(127.5).sub(1)
    return pixels.contiguous(memory_format=torch.channels_last)


def unit_psnr(error: Tensor) -> Tensor:
    """PSNR in dB of a mean squared error on the scale of [-1, 1]."""
    return -10 * (error.detach() / 4).log10()
