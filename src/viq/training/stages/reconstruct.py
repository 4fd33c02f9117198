"""Stage reconstruct: encoder, head, embedder and latent head from pixels alone.

The tokenizer's first form, before any text: it regresses the VAE's latents, as the method's
reconstruction loss does, and in addition pixels: those of each patch by one linear map, which is
cheap and teaches the codes most (the map is thrown away), and those that the VAE's decoder
makes, which is trained along. The VAE's encoder is not.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.data.config import ImageDataConfig
from viq.data.crops import CropBatch
from viq.external.vae import Vae, load_vae
from viq.image import ImageConfig, patchify
from viq.model.network import Network, NetworkConfig
from viq.model.packing import Packing
from viq.model.presets import nano
from viq.tokenizer import Tokenizer
from viq.training.handover import find
from viq.training.loop import LoopConfig
from viq.training.stage import Evaluation, Inputs, Losses, Stage
from viq.training.stages.vae import beside, squared_errors, to_unit, unit_psnr


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """One run of the stage."""

    data: ImageDataConfig
    loop: LoopConfig
    network: NetworkConfig = field(default_factory=nano)
    latent_weight: float = 2.0
    patch_weight: float = 10.0
    pixel_weight: float = 20.0  # 0 leaves the decoder out, and costs a third
    pixel_share: float = 1.0  # of a batch's crops, those that run through the decoder


class ReconstructStage(Stage):
    """Trains a network on the latents and the pixels of a VAE."""

    def __init__(self, config: ReconstructConfig, vae: Vae, held_out: Tensor) -> None:
        """``held_out``: uint8 (B, 3, H, W), for the evaluation."""
        super().__init__()
        self.config = config
        self.network = Network(config.network)
        shape = config.network.encoder
        self.to_patches = nn.Linear(shape.width, 3 * shape.patch_size**2)
        self.vae = vae.requires_grad_(False)
        vae.autoencoder.decoder.requires_grad_(config.pixel_weight > 0)
        self.held_out = held_out
        self.weights = {"latent": config.latent_weight, "patch": config.patch_weight}
        if config.pixel_weight:
            self.weights["pixel"] = config.pixel_weight

    def counts(self, batch: CropBatch) -> dict[str, float]:
        """All losses are means over an image; not every one goes through the decoder."""
        counts = dict.fromkeys(("latent", "patch", "patch_psnr"), float(len(batch.images)))
        if self.config.pixel_weight:
            counts["pixel"] = counts["pixel_psnr"] = float(self._decoded(batch))
        return counts

    def forward(self, batch: CropBatch) -> Losses:
        """Mean squared errors of VAE latents, and of pixels in [-1, 1]."""
        pixels = to_unit(batch.images)
        with torch.no_grad():
            target = self.vae.encode(pixels).float()
        patches, by_patch, latents = self._reconstruct(pixels)
        patch = F.mse_loss(by_patch.float(), patches) * len(pixels)  # crops are of one size
        sums = {
            "latent": squared_errors(latents, target).sum(),
            "patch": patch,
            "patch_psnr": patch,
        }
        if self.config.pixel_weight:
            few = self._decoded(batch)
            error = squared_errors(self.vae.decode(latents[:few]), pixels[:few]).sum()
            sums["pixel"] = sums["pixel_psnr"] = error
        return Losses(sums)

    def groups(self) -> dict[str, Iterable[nn.Parameter]]:
        return {"all": [p for p in self.parameters() if p.requires_grad]}

    def size(self, batch: CropBatch) -> dict[str, float]:
        return {"images": float(len(batch.images))}

    def evaluate(self) -> Evaluation:
        """PSNR of decoded codes, by the linear map and by the decoder."""
        pixels = to_unit(self.held_out.to(self.to_patches.weight.device))
        patches, by_patch, latents = self._reconstruct(pixels)
        error = (by_patch.float() - patches).square().reshape(len(pixels), -1).mean(1)
        figures = {"eval_patch_psnr": unit_psnr(error).mean().item()}
        decoded = self.vae.decode(latents).float()
        error = squared_errors(decoded, pixels)
        figures["eval_psnr"] = unit_psnr(error).mean().item()
        return Evaluation(figures, {"reconstructions": beside(pixels, decoded)})

    def export(self, folder: Path) -> None:
        """Writes ``tokenizer/`` as ``viq.load`` reads it, rounded to bfloat16."""
        network, vae = deepcopy((self.network, self.vae))
        tokenizer = Tokenizer.from_network(network.bfloat16(), ImageConfig(), vae.bfloat16())
        tokenizer.save_pretrained(folder / "tokenizer")

    def _decoded(self, batch: CropBatch) -> int:
        """How many of the batch's crops go through the decoder."""
        return max(1, round(self.config.pixel_share * len(batch.images)))

    def _reconstruct(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Patches (N, 3 P P), what is predicted for them, and VAE latents (B, L, H/8, W/8)."""
        size = self.config.network.encoder.patch_size
        patches = patchify(pixels, size)
        grid = (pixels.shape[2] // size, pixels.shape[3] // size)
        packing = Packing.of([grid] * len(pixels))
        embedded = self.network(patches, packing).embedded
        head = self.network.latent_head
        assert head is not None
        rows = head.to_rows(embedded, packing)
        latents = head.to_latents(rows, packing)
        return patches, self.to_patches(rows), torch.stack(latents)


def build(config: ReconstructConfig, inputs: Inputs, validation: Tensor) -> ReconstructStage:
    """The stage on a new network and the autoencoder ``inputs.vae``.

    Args:
        config: of the run.
        inputs: ``vae``.
        validation: crops to evaluate on, uint8 (B, 3, H, W).

    Raises:
        InputError: no autoencoder is given, or there is none.
        ModelError: it cannot be loaded.
    """
    where = find(inputs.vae, "vae", "--vae", "the autoencoder")
    return ReconstructStage(config, load_vae(where), validation)
