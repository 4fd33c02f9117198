"""FID (https://arxiv.org/abs/1706.08500) by torch-fidelity, the numbers that papers print as rFID.

Nothing of it is rewritten here: its network with its weights, its resizing and its formula are
run, or there is no FID. It needs torchvision; the weights are those that it would fetch itself
(``weights-inception-2015-12-05-6726825d.pth``), from a file or torch hub's cache.

Axes: N pictures, C = 2,048 features.
"""

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from viq.errors import ModelError

_PACKAGES = ("torch_fidelity", "torchvision")
_NETWORK, _LAYER = "inception-v3-compat", "2048"
_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
_SHA256 = "6726825d"  # how it begins


class Fidelity:
    """torch-fidelity's Inception and its distance."""

    def __init__(self, extractor: Any, device: str) -> None:
        """For ``load_fidelity``."""
        self._extractor = extractor
        self._device = device

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> Tensor:
        """What Inception says of RGB images of any size: (N, C) float32."""
        rows = []
        for image in images:
            picture = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)
            rows.append(self._extractor(picture[None].to(self._device))[0].cpu())
        return torch.cat(rows) if rows else torch.zeros(0, int(_LAYER))

    def distance(self, features_a: Tensor, features_b: Tensor) -> float:
        """The FID of two sets of features (N, C), (M, C); only sets of one size compare.

        Raises:
            ValueError: a set has fewer than two pictures.
        """
        if (least := min(len(features_a), len(features_b))) < 2:
            raise ValueError(f"an FID of {least} picture; two or more are needed.")
        from torch_fidelity.metric_fid import (  # type: ignore[import-not-found]
            KEY_METRIC_FID,
            fid_features_to_statistics,
            fid_statistics_to_metric,
        )

        first, second = (fid_features_to_statistics(one.cpu()) for one in (features_a, features_b))
        return float(fid_statistics_to_metric(first, second, verbose=False)[KEY_METRIC_FID])


def why_not(weights: str | PathLike[str] | None = None) -> str | None:
    """What is missing for an FID, and what to do; None where nothing is.

    Args:
        weights: the file of Inception's weights; by default that in torch hub's cache.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        names = " ".join(name.replace("_", "-") for name in missing)
        return f"FID needs torch-fidelity and torchvision: pip install {names}"
    path = _path(weights)
    if not path.is_file():
        return f"FID needs Inception's weights, {_WEIGHTS} of torch-fidelity; {path} is no file"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(_SHA256):
        return (
            f"{path} is not {_WEIGHTS}: its SHA-256 begins with {found[: len(_SHA256)]}, not"
            f" {_SHA256}"
        )
    return None


def load_fidelity(weights: str | PathLike[str] | None = None, device: str = "cpu") -> Fidelity:
    """Loads torch-fidelity's Inception.

    Args:
        weights: its file; by default that in torch hub's cache. Nothing is downloaded.
        device: where it runs.

    Raises:
        ModelError: something is missing; it says what.
    """
    if (reason := why_not(weights)) is not None:
        raise ModelError(reason)
    from torch_fidelity.utils import create_feature_extractor  # type: ignore[import-not-found]

    # It unpickles the file without care, which is why the digest was compared.
    extractor = create_feature_extractor(
        _NETWORK,
        [_LAYER],
        cuda=False,  # it is moved below, to any device
        feature_extractor_weights_path=str(_path(weights)),
        verbose=False,
    )
    return Fidelity(extractor.to(device), device)


def _path(weights: str | PathLike[str] | None) -> Path:
    return Path(weights or Path(torch.hub.get_dir()) / "checkpoints" / _WEIGHTS)
