"""Stage reconstruct: encoder, head, embedder and latent head from pixels alone.

The tokenizer's first form, before any text: it regresses the VAE's latents, as the method's
reconstruction loss does, and in addition pixels: those of each patch by one linear map, which is
cheap and teaches the codes most (the map is thrown away), and those that the VAE's decoder
makes, which is trained along. The VAE's encoder is not.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.data.crops import CropConfig
from viq.external.vae import Vae
from viq.image import ImageConfig, patchify
from viq.model.network import Network, NetworkConfig
from viq.model.packing import Packing
from viq.model.presets import nano
from viq.tokenizer import Tokenizer
from viq.training.loop import LoopConfig
from viq.training.stages.vae import to_unit, unit_psnr


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """One run of the stage."""

    crops: CropConfig
    loop: LoopConfig
    network: NetworkConfig = field(default_factory=nano)
    latent_weight: float = 2.0
    patch_weight: float = 10.0
    pixel_weight: float = 20.0  # 0 leaves the decoder out, and costs a third
    pixel_share: float = 1.0  # of a batch's crops, those that run through the decoder


class ReconstructStage:
    """Trains a network on the latents and the pixels of a VAE."""

    def __init__(self, config: ReconstructConfig, vae: Vae, held_out: Tensor) -> None:
        """``held_out``: uint8 (B, 3, H, W), for the evaluation."""
        self.config = config
        self.network = Network(config.network)
        shape = config.network.encoder
        self.to_patches = nn.Linear(shape.width, 3 * shape.patch_size**2)
        vae.autoencoder.decoder.requires_grad_(config.pixel_weight > 0)
        self.vae = vae
        self.module = nn.ModuleDict(
            {"network": self.network, "to_patches": self.to_patches, "vae": vae}
        )
        self.held_out = held_out

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        """Mean squared errors of VAE latents and of pixels in [-1, 1]."""
        pixels = to_unit(batch)
        with torch.no_grad():
            target = self.vae.encode(pixels).float()
        patches, by_patch, latents = self._reconstruct(pixels)
        errors = {
            "latent": F.mse_loss(latents.float(), target),
            "patch": F.mse_loss(by_patch.float(), patches),
        }
        if self.config.pixel_weight:
            few = max(1, round(self.config.pixel_share * len(pixels)))
            errors["pixel"] = F.mse_loss(self.vae.decode(latents[:few]).float(), pixels[:few])
        losses = {k: getattr(self.config, f"{k}_weight") * v for k, v in errors.items()}
        best = errors.get("pixel", errors["patch"])
        return {**losses, "_psnr": unit_psnr(best)}

    def evaluate(self) -> dict[str, float]:
        """PSNR of decoded codes, by the linear map and by the decoder."""
        pixels = to_unit(self.held_out)
        patches, by_patch, latents = self._reconstruct(pixels)
        error = F.mse_loss(by_patch.float(), patches, reduction="none")
        figures = {"eval_patch_psnr": _mean_psnr(error, len(pixels))}
        if self.config.pixel_weight:
            error = F.mse_loss(self.vae.decode(latents).float(), pixels, reduction="none")
            figures["eval_psnr"] = _mean_psnr(error, len(pixels))
        return figures

    def export(self, folder: Path) -> None:
        """Writes ``tokenizer/`` as ``viq.load`` reads it, rounded to bfloat16."""
        network, vae = deepcopy((self.network, self.vae))
        tokenizer = Tokenizer.from_network(network.bfloat16(), ImageConfig(), vae.bfloat16())
        tokenizer.save_pretrained(folder / "tokenizer")

    def _reconstruct(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Patches (N, 3 P P), what is predicted for them, and VAE latents (B, L, H/8, W/8)."""
        size = self.config.network.encoder.patch_size
        patches = torch.cat([patchify(image, size) for image in pixels])
        grid = (pixels.shape[2] // size, pixels.shape[3] // size)
        packing = Packing.of([grid] * len(pixels))
        embedded = self.network(patches, packing).embedded
        head = self.network.latent_head
        assert head is not None
        rows = head.to_rows(embedded, packing)
        latents = head.to_latents(rows, packing)
        return patches, self.to_patches(rows), torch.stack(latents)


def _mean_psnr(error: Tensor, images: int) -> float:
    """Mean over images of the PSNR of squared errors, packed image by image."""
    return unit_psnr(error.reshape(images, -1).mean(1)).mean().item()
