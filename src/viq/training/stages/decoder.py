"""Stage decoder: pixels from the codes of a frozen tokenizer.

Encoder, head and embedder stay as they are, and with them every code and its features. What
trains is all behind them: the latent head, which from here on predicts a Gaussian over the VAE's
latents, and the VAE's decoder. The loss is KL + squared error + perceptual + adversarial + REPA
(https://arxiv.org/abs/2410.06940), as in the paper (https://arxiv.org/abs/2606.27313). The VAE's
encoder has no part in it, so autoencoders with a posterior and without one do alike.

Both players of the adversarial game share one backward pass and one optimizer: the critic's
parameters are detached where the picture learns, the picture where the critic does.

Axes: B images, N patches of all images, (h, w) grid of an image, (H, W) its pixels.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from viq.data.config import ImageDataConfig
from viq.data.crops import CropBatch
from viq.errors import InputError, ModelError
from viq.external.features import Features, load_features
from viq.external.perceptual import HED, Perceptual, load_perceptual
from viq.external.vae import Vae, load_vae
from viq.image import patchify, to_image, to_range
from viq.image.sheet import Cell, Row, sheet
from viq.metrics.quality import psnr, ssim
from viq.model.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    discriminator_loss,
    generator_loss,
)
from viq.model.latent_head import LatentHead, with_variance
from viq.model.layers import Mlp, gradient_checkpointing
from viq.model.packing import Packing
from viq.tokenizer import Tokenizer, load
from viq.training.handover import find, has
from viq.training.loop import LoopConfig
from viq.training.losses import distillation, reconstruction
from viq.training.stage import Evaluation, Frozen, Inputs, Losses, Stage

_LOG_VARIANCES = (-30.0, 20.0)  # the least and the most, as in diffusers
_SHOWN = 8  # pictures of the evaluation
_AT_ONCE = 8  # crops that are evaluated together


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """One run of the stage. A loss of weight 0 is left out, with the network that it needs."""

    data: ImageDataConfig
    loop: LoopConfig
    # Nats a patch. An autoencoder's usual 1e-6 of all nats of 256 x 256 pixels is 2.6e-4 of these.
    kl_weight: float = 2.5e-4
    pixel_weight: float = 1.0
    perceptual_weight: float = 1.0
    adversarial_weight: float = 0.1
    repa_weight: float = 1.5
    perceptual: str = HED  # or a folder with LPIPS
    features: str = "efficientnet-lite0"  # or a folder with a DINOv2: what REPA aligns with
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    # The critic learns from the start, but its word counts only after so many forward passes of
    # this process: steps times accumulation.
    adversarial_start: int = 0
    repa_width: int = 1024  # hidden, of the MLP from the blocks' rows to the features
    log_variance: float = -6.0  # of the new posterior, at first


class DecoderStage(Stage):
    """Trains latent head and pixel decoder on the codes of crops."""

    forwards: Tensor  # how many there were in training, by this process

    def __init__(
        self,
        config: DecoderConfig,
        tokenizer: Tokenizer,
        vae: Vae,
        validation: Tensor,
        *,
        perceptual: Perceptual | None = None,
        features: Features | None = None,
    ) -> None:
        """For ``build``.

        Args:
            config: of the run.
            tokenizer: what is decoded.
            vae: whose decoder is trained on.
            validation: crops to evaluate on, uint8 (B, 3, H, W).
            perceptual: needed where ``perceptual_weight`` is not 0.
            features: needed where ``repa_weight`` is not 0.
        """
        super().__init__()
        self.config = config
        self.start = tokenizer.config
        self.validation = validation
        self.encoder = Frozen(tokenizer.part("encoder"))
        self.head = Frozen(tokenizer.part("head"))
        self.embedder = Frozen(tokenizer.part("embedder"))
        self.pool = Frozen(tokenizer.part("pool")) if self.start.network.pool else None
        head = with_variance(tokenizer.part("latent_head"), config.log_variance)
        self.latent_head: LatentHead = head.requires_grad_(True)
        self.vae = vae.requires_grad_(False)
        for parameter in decoder_parameters(vae):
            parameter.requires_grad_(True)
        self.perceptual = Frozen(perceptual) if perceptual is not None else None
        self.features = Frozen(features) if features is not None else None
        self.projector: Mlp | None = None
        if features is not None:
            self.projector = Mlp(head.config.width, config.repa_width, features.width)
        self.discriminator: Discriminator | None = None
        if config.adversarial_weight:
            self.discriminator = Discriminator(config.discriminator)
        self.register_buffer("forwards", torch.zeros((), dtype=torch.int64))
        self.weights = {
            name: weight
            for name, weight in (
                ("kl", config.kl_weight),
                ("pixel", config.pixel_weight),
                ("perceptual", config.perceptual_weight),
                ("adversarial", config.adversarial_weight),
                ("discriminator", 1.0 if config.adversarial_weight else 0.0),
                ("repa", config.repa_weight),
            )
            if weight
        }

    def counts(self, batch: CropBatch) -> dict[str, float]:
        """All losses are means over an image."""
        return {name: float(len(batch.images)) for name in (*self.weights, "pixel", "pixel_psnr")}

    def size(self, batch: CropBatch) -> dict[str, float]:
        return {"images": float(len(batch.images))}

    def groups(self) -> dict[str, Iterable[nn.Parameter]]:
        groups: dict[str, Iterable[nn.Parameter]] = {
            "latent_head": self.latent_head.parameters(),
            "vae": decoder_parameters(self.vae),
        }
        if self.projector is not None:
            groups["projector"] = self.projector.parameters()
        if self.discriminator is not None:
            groups["discriminator"] = self.discriminator.parameters()
        return groups

    def gradient_checkpointing(self) -> None:
        """Computes the latent head's blocks anew in the backward pass."""
        gradient_checkpointing(self.latent_head, True)

    def forward(self, batch: CropBatch) -> Losses:
        images = to_range(batch.images)
        embedded, packing = self._embed(images)
        rows = self.latent_head.to_rows(embedded, packing)
        posteriors = self.latent_head.to_posteriors(rows, packing)
        mean = torch.stack([p.mean for p in posteriors]).float()
        log_variance = torch.stack([p.log_variance for p in posteriors]).float()
        log_variance = log_variance.clamp(*_LOG_VARIANCES)
        latents = mean
        if self.training:
            latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        decoded = self.vae.decode(latents).float()

        error = reconstruction(decoded.unbind(), images.unbind()).sum()
        sums = {"pixel": error, "pixel_psnr": error.detach()}
        if self.config.kl_weight:
            nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
            patches = packing.lengths[0]
            sums["kl"] = nats.sum() / patches
        if self.perceptual is not None:
            sums["perceptual"] = self.perceptual()(decoded, images).sum()
        if self.projector is not None:
            sums["repa"] = self._alignment(rows, images, packing)
        if self.discriminator is not None:
            critic = self.discriminator
            sums["discriminator"] = discriminator_loss(critic, images, decoded).sum()
            sums["adversarial"] = decoded.new_zeros(())
            # Read on the host: a wait, but the loop reads the losses every step anyway.
            if int(self.forwards) >= self.config.adversarial_start:
                sums["adversarial"] = generator_loss(critic, decoded).sum()
        if self.training:
            self.forwards += 1
        return Losses(sums)

    def evaluate(self) -> Evaluation:
        """PSNR and SSIM of decoded codes, and their rate; the first crops beside their originals.

        A distance of the perceptual network is called by that network's name.
        """
        device = self.latent_head.conv.weight.device
        qualities: dict[str, list[float]] = {"eval_psnr": [], "eval_ssim": []}
        rows: list[Row] = []
        for crops in self.validation.split(_AT_ONCE):
            images = to_range(crops.to(device))
            decoded = self.reconstruct(images)
            if self.perceptual is not None:
                name = "eval_hed" if self.config.perceptual == HED else "eval_lpips"
                qualities.setdefault(name, []).extend(self.perceptual()(decoded, images).tolist())
            for original, found in zip(images, decoded.clamp(-1, 1), strict=True):
                quality = psnr(original, found)
                qualities["eval_psnr"].append(quality)
                qualities["eval_ssim"].append(ssim(original, found))
                if len(rows) < _SHOWN:
                    cells = (
                        Cell(to_image(original), ""),
                        Cell(to_image(found), f"{quality:.2f} dB"),
                    )
                    rows.append(Row("", cells))
        figures = {name: fmean(values) for name, values in qualities.items()}
        figures["eval_bpp"] = self._bits_per_pixel()
        return Evaluation(figures, {"crops": sheet(("original", "decoded"), rows)})

    def export(self, folder: Path) -> None:
        """Writes ``tokenizer/``: the same codes under the same fingerprint, and a new way back."""
        network = replace(self.start.network, latent_head=self.latent_head.config)
        parts: dict[str, nn.Module] = {
            "encoder": self.encoder(),
            "head": self.head(),
            "embedder": self.embedder(),
            "latent_head": self.latent_head,
            "vae": self.vae,
        }
        if self.pool is not None:
            parts["pool"] = self.pool()
        config = replace(self.start, network=network)
        Tokenizer(config, parts=parts).save_pretrained(folder / "tokenizer")

    def reconstruct(self, images: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) decoded from the codes of pixels (B, 3, H, W) in [-1, 1]."""
        embedded, packing = self._embed(images)
        latents = torch.stack(self.latent_head(embedded, packing))
        return self.vae.decode(latents.float()).float()

    @torch.no_grad()
    def _embed(self, images: Tensor) -> tuple[Tensor, Packing]:
        """Features (N, C) of the images' codes."""
        size = self.start.image.patch_size
        grid = (images.shape[2] // size, images.shape[3] // size)
        packing = Packing.of([grid] * len(images))
        patches = patchify(images, size)
        head = self.head()
        # Without autocast: the codes that are stored are those of float32.
        with torch.autocast(images.device.type, enabled=False):
            codes = head.quantize(head(self.encoder()(patches, packing), packing)).codes
            return self.embedder()(codes), packing

    def _alignment(self, rows: Tensor, images: Tensor, packing: Packing) -> Tensor:
        """REPA: 1 - cos of what the rows are mapped to and the frozen features, summed."""
        assert self.projector is not None
        assert self.features is not None
        with torch.no_grad():
            target = self.features()(images, packing.grid_sizes[0])  # (B, h, w, D)
        distances = distillation(self.projector(rows), target.flatten(0, 2))
        return distances.unflatten(0, (len(images), -1)).mean(1).sum()

    def _bits_per_pixel(self) -> float:
        """Of the codes as they are stored, 16 or 32 bits each."""
        head = self.start.network.head
        levels = head.quantizer.code_levels
        assert levels is not None
        bits = 16 if math.prod(levels) <= 2**16 else 32
        return bits * head.code_heads / self.start.image.patch_size**2


def build(config: DecoderConfig, inputs: Inputs, validation: Tensor) -> DecoderStage:
    """The stage on the tokenizer of ``inputs.start``.

    Args:
        config: of the run.
        inputs: ``start``, a run of stage quantize or a saved tokenizer; ``vae`` where that one has
            none, or another is to be trained.
        validation: crops to evaluate on, uint8 (B, 3, H, W).

    Raises:
        InputError: no start is given.
        ModelError: a network cannot be loaded, or does not fit.
    """
    folder = find(inputs.start, "tokenizer", "--start", "the tokenizer to decode")
    tokenizer = load(folder)
    if tokenizer.config.network.head.quantizer.code_levels is None:
        raise ModelError("this tokenizer is proximal: it has no codes to decode", inputs.start)
    if inputs.vae is None and not has(str(folder), "vae"):
        raise InputError(
            "this tokenizer has no VAE, whose decoder would be trained; give --vae", folder
        )
    vae = (
        tokenizer.vae()
        if inputs.vae is None
        else load_vae(find(inputs.vae, "vae", "--vae", "the VAE"))
    )
    settings: Any = vae.autoencoder.config
    found = settings["z_dim"] if vae.is_video else settings["latent_channels"]
    expected = tokenizer.part("latent_head").config.latent_channels
    if found != expected:
        raise ModelError(
            f"the VAE has {found} latent channels, but the latent head predicts {expected}",
            inputs.vae or inputs.start,
        )
    return DecoderStage(
        config,
        tokenizer,
        vae,
        validation,
        perceptual=load_perceptual(config.perceptual) if config.perceptual_weight else None,
        features=load_features(config.features) if config.repa_weight else None,
    )


def decoder_parameters(vae: Vae) -> list[nn.Parameter]:
    """What of an autoencoder lies between latents and pixels.

    Convolutions in time of a video autoencoder are left out: a single frame does not meet them.
    """
    return [
        parameter
        for name, parameter in vae.autoencoder.named_parameters()
        if name.startswith(("post_quant_conv.", "decoder.")) and ".time_conv." not in name
    ]
