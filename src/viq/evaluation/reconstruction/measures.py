"""What is measured of one picture that came back: numbers, text, and features of a network."""

import base64
import math
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from viq.errors import ModelError
from viq.evaluation.coding import digest
from viq.external.features import load_features, pooled_features
from viq.external.fidelity import Fidelity, load_fidelity
from viq.external.ocr import load_ocr
from viq.external.perceptual import HED, load_dists, load_perceptual
from viq.image import to_pixels
from viq.metrics.frechet import frechet_distance
from viq.metrics.quality import MS_SSIM_SIDE, ms_ssim, psnr, ssim
from viq.metrics.text import character_error

EFFICIENTNET, INCEPTION = "efficientnet-lite0", "inception"  # keys of sets
LEAST_TEXT = 8  # characters that a reader must find, or a speck on a photograph would count
LOSSLESS_DB = 100.0  # what counts as the PSNR of a picture that came back without any loss

Where = Literal["256", "all", "no"]  # the hed distance is measured
Loaded = TypeVar("Loaded")


class Distance(Protocol):
    """A perceptual distance of pixels (B, 3, H, W) in [-1, 1]: (B,)."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor: ...


class SetDistance(NamedTuple):
    """A distance between two sets of pictures, of features that are kept of each."""

    features: Callable[[Image.Image], Tensor]  # (1, C)
    between: Callable[[Tensor, Tensor], float]  # of (N, C) and (N, C)


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Networks beside the plain measures, all of them optional.

    Attributes:
        distances: by the records' keys.
        distance_names: where each comes from.
        only_square: keys of distances that are too slow for pictures at native size.
        sets: by the records' keys for features.
        read: what finds the text in a picture.
        device: of the networks.
    """

    distances: Mapping[str, Distance] = field(default_factory=dict)
    distance_names: Mapping[str, str] = field(default_factory=dict)
    only_square: Collection[str] = ()
    sets: Mapping[str, SetDistance] = field(default_factory=dict)
    read: Callable[[Image.Image], str] | None = None
    device: str = "cpu"

    def names(self) -> dict[str, Any]:
        """What decides the records."""
        return {
            "distances": dict(self.distance_names),
            "only_square": sorted(self.only_square),
            "sets": sorted(self.sets),
            "text": self.read is not None,
        }

    def of_original(self, image: Image.Image, text: str | None) -> dict[str, Any]:
        """What has to be known of an original: the text in it, and features."""
        found: dict[str, Any] = {}
        if self.read is not None:
            read = letters(self.read(image))
            found["text"] = letters(text) if text else read if len(read) >= LEAST_TEXT else ""
            if text:
                found["character_error"] = character_error(read, letters(text))
        return found | self._features(image)

    def of(
        self, original: Image.Image, image: Image.Image, known: Mapping[str, Any], *, native: bool
    ) -> dict[str, Any]:
        """All about a picture that came back, of whose original ``of_original`` is known."""
        found = self.closeness(original, image, native=native)
        if self.read is not None and known["text"]:
            found["character_error"] = character_error(letters(self.read(image)), known["text"])
        return found | self._features(image)

    def closeness(
        self, original: Image.Image, image: Image.Image, *, native: bool
    ) -> dict[str, Any]:
        """How close a picture comes to its original."""
        large = min(original.size) >= MS_SSIM_SIDE
        found: dict[str, Any] = plain_closeness(original, image) | {
            "ms_ssim": ms_ssim(np.asarray(original), np.asarray(image)) if large else None
        }
        distances = {
            key: distance
            for key, distance in self.distances.items()
            if not (native and key in self.only_square)
        }
        if distances:
            a, b = (to_pixels(one)[None].to(self.device) for one in (original, image))
            with torch.inference_mode():
                found |= {key: float(distance(a, b)) for key, distance in distances.items()}
        return found

    def _features(self, image: Image.Image) -> dict[str, str]:
        return {
            key: base64.b64encode(one.features(image)[0].numpy().astype("<f4").tobytes()).decode()
            for key, one in self.sets.items()
        }


def load_measures(
    *,
    lpips: str | None = None,
    dists: str | None = None,
    hed: Where = "256",
    inception: str | None = None,
    ocr: bool = True,
    device: str = "cpu",
) -> tuple[Measures, list[str]]:
    """The measures that can be had here, and notes on those that cannot.

    Args:
        lpips: the folder of its weights; without, it is not measured.
        dists: likewise.
        hed: where the distance on the edge network is measured.
        inception: the file of its weights; by default that in torch hub's cache, if it is there.
        ocr: whether to read the text in pictures.
        device: of the networks.

    Raises:
        ModelError: weights that are named are not there, or what they need is not.
    """
    notes: list[str] = []

    def optional(what: str, load: Callable[[], Loaded]) -> Loaded | None:
        try:
            return load()
        except ModelError as error:
            notes.append(f"Not measured: {what} ({error}).")
            return None

    distances: dict[str, Distance] = {}
    names = {}
    for key, folder, load in (("lpips", lpips, load_perceptual), ("dists", dists, load_dists)):
        if folder is not None:
            distances[key] = network = load(folder).to(device)
            names[key] = f"{Path(folder).resolve().name}, {digest([network])}"
    if hed != "no" and (edges := optional("hed distance", lambda: load_perceptual(HED))):
        distances[HED], names[HED] = edges.to(device), HED
        notes.append(
            "The hed distance is LPIPS's without its heads, on a VGG16 that was tuned to find"
            " edges: it is not LPIPS."
            + (" It is measured at 256 × 256 only (--hed all: everywhere)." * (hed == "256"))
        )
    sets = {}
    if features := optional("Fréchet distance", lambda: load_features(EFFICIENTNET)):
        pooling = features.to(device)
        sets[EFFICIENTNET] = SetDistance(
            lambda image: pooled_features(pooling, [to_pixels(image).to(device)]),
            frechet_distance,
        )
    if inception is not None:
        fidelity: Fidelity | None = load_fidelity(inception, device)
    else:
        fidelity = optional("rFID", lambda: load_fidelity(None, device))
    if fidelity is not None:
        sets[INCEPTION] = SetDistance(lambda image: fidelity.features([image]), fidelity.distance)
    reader = optional("OCR character error", load_ocr) if ocr else None
    measures = Measures(
        distances=distances,
        distance_names=names,
        only_square=[HED] if hed == "256" else [],
        sets=sets,
        read=None if reader is None else lambda image: "\n".join(reader([image])[0]),
        device=device,
    )
    return measures, notes


def plain_closeness(original: Image.Image, image: Image.Image) -> dict[str, float | None]:
    """PSNR, None where it is infinite, for JSON has no infinity; and SSIM."""
    first, second = np.asarray(original), np.asarray(image)
    ratio = psnr(first, second)
    return {"psnr": None if math.isinf(ratio) else ratio, "ssim": ssim(first, second)}


def letters(text: str) -> str:
    """What of a text is compared: all but white space, which the reader often leaves out.

    It also writes commas of the width of Chinese signs; those count as plain ones.
    """
    return "".join(unicodedata.normalize("NFKC", text).split())


def features_of(records: Iterable[Mapping[str, Any]], key: str) -> Tensor:
    """The features (N, C) that records hold."""
    rows = [np.frombuffer(base64.b64decode(one[key]), "<f4") for one in records]
    return torch.from_numpy(np.stack(rows))
