"""Image autoencoders of ``diffusers``: pixels to the latents that the latent head regresses.

A folder in diffusers' layout (``config.json`` and ``diffusion_pytorch_model.safetensors``) says
which class it is. ``AutoencoderKLQwenImage`` (https://huggingface.co/Qwen/Qwen-Image) is the one
of the released weights; nano has a small ``AutoencoderDC``.

Axes: B images, L latent channels, (H, W) pixels, latents are (H / 8, W / 8).
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from viq.errors import ModelError

_CLASSES = ("AutoencoderDC", "AutoencoderKL", "AutoencoderKLQwenImage")


class Vae(nn.Module):
    """One face for the autoencoders; latents are the raw posterior mean, not normalised.

    ``AutoencoderDC`` is deterministic: its latents are what it encodes to.
    """

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder: Any = autoencoder
        self.is_video = type(autoencoder).__name__ == "AutoencoderKLQwenImage"

    def encode(self, pixels: Tensor) -> Tensor:
        """Posterior means (B, L, H / 8, W / 8) of pixels (B, 3, H, W) in [-1, 1]."""
        encoded = self.autoencoder.encode(pixels.unsqueeze(2) if self.is_video else pixels)
        latents: Tensor = encoded.latent if "latent" in encoded else encoded.latent_dist.mean
        return latents.squeeze(2) if self.is_video else latents

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), about [-1, 1], of latents (B, L, H / 8, W / 8)."""
        if self.is_video:
            pixels: Tensor = self.autoencoder.decode(latents.unsqueeze(2)).sample
            return pixels.squeeze(2)
        if latents.device.type == "cpu":  # three times as fast there
            latents = latents.contiguous(memory_format=torch.channels_last)
        pixels = self.autoencoder.decode(latents).sample
        return pixels

    def save(self, folder: Path) -> None:
        """Writes the folder in diffusers' layout."""
        self.autoencoder.save_pretrained(folder)


def small_vae() -> Vae:
    """A new, untrained autoencoder for nano: 8x down, 16 latent channels, little at full size.

    Of diffusers' classes the deep-compression autoencoder (https://arxiv.org/abs/2410.10733)
    learns by far the soonest, for it passes pixels around its blocks (docs/LOG.md). A block at
    full size would cost as much as all others.
    """
    from diffusers import AutoencoderDC

    widths, none = (32, 64, 128, 128), ((), (), (), ())
    return Vae(
        AutoencoderDC(
            latent_channels=16,
            attention_head_dim=8,
            encoder_block_types="ResBlock",
            decoder_block_types="ResBlock",
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            encoder_layers_per_block=(
                0,
                1,
                1,
                1,
            ),
            decoder_layers_per_block=(0, 1, 1, 2),
            encoder_qkv_multiscales=none,
            decoder_qkv_multiscales=none,
            downsample_block_type="pixel_unshuffle",
            upsample_block_type="pixel_shuffle",
            scaling_factor=1.0,
        ).to(memory_format=torch.channels_last)
    )


def load_vae(folder: Path) -> Vae:
    """Loads an autoencoder from a folder in diffusers' layout, for inference.

    Raises:
        ModelError: there is none, or it is of a class that is not known here.
    """
    import diffusers

    try:
        class_name = json.loads((folder / "config.json").read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"no diffusers autoencoder here ({error})", folder) from error
    if class_name not in _CLASSES:
        raise ModelError(
            f"autoencoder of class {class_name!r}; known are: {', '.join(_CLASSES)}", folder
        )
    try:
        autoencoder = getattr(diffusers, class_name).from_pretrained(
            folder, low_cpu_mem_usage=False, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise ModelError(f"the autoencoder does not load ({error})", folder) from error
    if class_name != "AutoencoderKLQwenImage":
        autoencoder = autoencoder.to(memory_format=torch.channels_last)
    return Vae(autoencoder.eval().requires_grad_(False))
