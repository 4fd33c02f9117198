"""Records what DISTS's own code says of random weights and pictures, for ``test_dists.py``.

    python tests/parity/record_dists.py

needs dists-pytorch 0.1 and torchvision (an environment of its own). VGG16 is torchvision's, but
with random weights instead of those that it would fetch; DISTS's two weights a map are random too.
All come from NumPy's RandomState, whose numbers never change, so only the distances are kept.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

PATH = Path(__file__).parent / "recorded" / "dists.json"
SIZES = [(64, 80), (33, 47), (5, 9)]  # (H, W)
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
MAPS = 1475


def backbone():
    """VGG16's convolutions under torchvision's names."""
    random, tensors = np.random.RandomState(0), {}
    for place, channels, width in zip(PLACES, WIDTHS[:-1], WIDTHS[1:], strict=True):
        weight = random.standard_normal((width, channels, 3, 3)) * (2 / (9 * channels)) ** 0.5
        tensors[f"features.{place}.weight"] = torch.from_numpy(weight).float()
        bias = 0.1 * random.standard_normal(width)
        tensors[f"features.{place}.bias"] = torch.from_numpy(bias).float()
    return tensors


def weights():
    """Alpha and beta, in the shape of the package's weights.pt."""
    random = np.random.RandomState(1)
    return {
        name: torch.from_numpy(random.uniform(0, 1, (1, MAPS, 1, 1))).float()
        for name in ("alpha", "beta")
    }


def pictures(seed, height, width):
    """Two pairs, the second of each like the first but noisy: (2, 2, 3, H, W) in [0, 1]."""
    random = np.random.RandomState(seed)
    first = random.uniform(0, 1, (2, 3, height, width))
    noise = random.standard_normal(first.shape) * np.array([0.05, 0.3]).reshape(2, 1, 1, 1)
    return torch.from_numpy(np.stack([first, (first + noise).clip(0, 1)])).float()


def main():
    from torchvision import models

    def untrained(pretrained):
        assert pretrained
        network = original(weights=None)
        missing, unexpected = network.load_state_dict(backbone(), strict=False)
        assert not unexpected
        assert all(name.startswith("classifier.") for name in missing)
        return network

    original, models.vgg16 = models.vgg16, untrained
    from DISTS_pytorch import DISTS

    network = DISTS(load_weights=False)
    for name, tensor in weights().items():
        getattr(network, name).data = tensor
    cases = [
        {"seed": seed, "size": size, "distances": network(*pictures(seed, *size)).tolist()}
        for seed, size in enumerate(SIZES)
    ]
    names = ("dists-pytorch", "torchvision", "torch", "numpy")
    found = {"versions": {name: version(name) for name in names}, "cases": cases}
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
