"""Stage vae: the small image autoencoder whose latents the latent head regresses.

Pixels alone: mean squared error, and a light pull of the latents towards zero that keeps their
scale near one. Only the posterior's mean is used, here and later; its variance is not trained.

Axes: B images, (H, W) their pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from viq.data.config import ImageDataConfig
from viq.data.crops import CropBatch
from viq.external.vae import small_vae
from viq.image import to_image, to_range
from viq.image.sheet import Cell, Row, sheet
from viq.training.loop import LoopConfig
from viq.training.stage import Evaluation, Inputs, Losses, Stage

_SHOWN = 8  # pictures of an evaluation


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """One run of the stage."""

    data: ImageDataConfig
    loop: LoopConfig
    latent_weight: float = 1e-3


class VaeStage(Stage):
    """Trains a new autoencoder."""

    def __init__(self, config: VaeConfig, held_out: Tensor) -> None:
        """``held_out``: uint8 (B, 3, H, W), for the evaluation."""
        super().__init__()
        self.vae = small_vae()
        self.held_out = held_out
        self.weights = {"pixel": 1.0, "latent": config.latent_weight}

    def counts(self, batch: CropBatch) -> dict[str, float]:
        """All losses are means over an image."""
        return dict.fromkeys(("pixel", "latent", "pixel_psnr"), float(len(batch.images)))

    def forward(self, batch: CropBatch) -> Losses:
        """Mean squares of the pixels' error, in [-1, 1], and of the latents."""
        pixels = to_unit(batch.images)
        latents = self.vae.encode(pixels)
        error = squared_errors(self.vae.decode(latents), pixels).sum()
        scale = latents.float().square().mean((1, 2, 3)).sum()
        return Losses({"pixel": error, "latent": scale, "pixel_psnr": error})

    def groups(self) -> dict[str, Iterable[nn.Parameter]]:
        return {"all": self.parameters()}

    def size(self, batch: CropBatch) -> dict[str, float]:
        return {"images": float(len(batch.images))}

    def evaluate(self) -> Evaluation:
        """PSNR of decoded posterior means, and the scale of the latents."""
        pixels = to_unit(self.held_out.to(next(self.parameters()).device))
        latents = self.vae.encode(pixels)
        decoded = self.vae.decode(latents).float()
        psnr = unit_psnr(squared_errors(decoded, pixels))
        figures = {
            "eval_psnr": psnr.mean().item(),
            "eval_latent_std": latents.float().std().item(),
        }
        return Evaluation(figures, {"reconstructions": beside(pixels, decoded)})

    def export(self, folder: Path) -> None:
        """Writes ``vae/`` in diffusers' layout."""
        self.vae.save(folder / "vae")


def build(config: VaeConfig, inputs: Inputs, validation: Tensor) -> VaeStage:  # noqa: ARG001
    """The stage from nothing.

    Args:
        config: of the run.
        inputs: none is read.
        validation: crops to evaluate on, uint8 (B, 3, H, W).
    """
    return VaeStage(config, validation)


def to_unit(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) to float32 in [-1, 1], channels last."""
    return to_range(images).contiguous(memory_format=torch.channels_last)


def squared_errors(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared errors (B,) of B images, in float32."""
    return (found.float() - wanted).square().flatten(1).mean(1)


def unit_psnr(error: Tensor) -> Tensor:
    """PSNR in dB of mean squared errors on the scale of [-1, 1]."""
    return -10 * (error.detach() / 4).log10()


def beside(originals: Tensor, decoded: Tensor) -> Image.Image:
    """The first pixels (B, 3, H, W) beside what became of them, with the PSNR of each."""
    rows = []
    for original, found in zip(originals[:_SHOWN], decoded[:_SHOWN].clamp(-1, 1), strict=True):
        quality = unit_psnr((original - found).square().mean()).item()
        cells = (Cell(to_image(original), ""), Cell(to_image(found), f"{quality:.2f} dB"))
        rows.append(Row("", cells))
    return sheet(("original", "decoded"), rows)
