"""What a language model is given of images: features, codes, or pixels that become codes.

Axes: N patches of all images, Q code heads, C width, P patch side in pixels.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from viq.codes import Codes
from viq.errors import CodesError, FingerprintError, ModelError
from viq.image import (
    ImageConfig,
    Picture,
    Prepared,
    in_blocks,
    patchify,
    prepare,
    to_range,
    unpatchify,
)
from viq.mllm.config import MultimodalConfig
from viq.mllm.vision import FeatureNetwork, load_features
from viq.model.packing import Packing
from viq.tokenizer import Tokenizer, load

Vision = Tokenizer | FeatureNetwork
Grids = Tensor | Sequence[Sequence[int]]  # (I, 2)


def check_codes(
    codes: Codes,
    *,
    fingerprint: str | None,
    levels: Sequence[int] | None,
    pool: int,
    name: str | None = None,
) -> None:
    """Sees that codes are those that a model takes.

    Raises:
        CodesError: they are another tokenizer's, or ``pool`` does not divide their grid.
    """
    if fingerprint is not None and codes.fingerprint != fingerprint:
        raise FingerprintError(fingerprint, codes.fingerprint, name)
    if levels is None:
        raise CodesError("this language model has no code embedder: give it features", name)
    if codes.levels != tuple(levels):
        raise CodesError(f"the codes' levels, {codes.levels}, are not the model's, {levels}", name)
    h, w = codes.grid_size
    if h % pool or w % pool:
        raise CodesError(
            f"its grid of {h} x {w} patches does not divide into {pool} x {pool}, of which this"
            " language model makes a token; encode the picture with the model's own encode()",
            name,
        )


def check_values(codes: Tensor, config: MultimodalConfig) -> None:
    """Sees that integers (N, Q) are codes of the model's codebook, where no device must be asked.

    Raises:
        CodesError: their number or one of them is out of bounds.
    """
    embedder = config.embedder
    if embedder is None or config.levels is None:
        raise CodesError("this language model has no code embedder: give it features")
    if codes.is_floating_point() or codes.dtype == torch.bool:
        raise CodesError(f"codes are {codes.dtype}; pass integers")
    if codes.ndim != 2 or codes.shape[1] != embedder.code_heads:
        raise CodesError(
            f"codes have shape {tuple(codes.shape)}; pass (patches, {embedder.code_heads})"
        )
    if codes.device.type != "cpu" or not codes.numel():
        return
    low, high = (int(value) for value in codes.long().aminmax())  # torch can little with uint16
    size = math.prod(config.levels)
    if low < 0 or high >= size:
        raise CodesError(f"codes go from {low} to {high}, but the codebook has {size:,} entries")


def stack_codes(codes: Sequence[Codes]) -> Tensor:
    """The codes of one image or more end to end, int32 (N, Q)."""
    return torch.from_numpy(np.concatenate([one.values.astype(np.int32) for one in codes]))


def prepare_picture(
    picture: Picture, image: ImageConfig, pool: int, *, name: str | None = None
) -> Prepared:
    """A picture as the tokenizer prepares it, padded further where image tokens need that.

    Raises:
        ImageError: it cannot be read, or is too thin.
    """
    return prepare(picture, in_blocks(image, image.patch_size * pool), name=name)


def encode_patches(pixels: Tensor, packing: Packing, tokenizer: Tokenizer) -> Tensor:
    """Codes (N, Q), int32, of flat pixels (N, 3 * P * P) in [-1, 1]."""
    patch_size = tokenizer.config.image.patch_size
    prepared = []
    for rows, grid_size in zip(packing.split(pixels), packing, strict=True):
        image = unpatchify(rows, grid_size, patch_size)
        size = (image.shape[1], image.shape[2])
        prepared.append(Prepared(image, size, size, grid_size))
    return stack_codes(tokenizer.encode(prepared))


def load_vision(config: MultimodalConfig) -> Vision:
    """What makes codes or features of pixels for a model.

    Raises:
        ModelError: the config names nothing, or something that does not load, or has changed.
    """
    if config.tokenizer is None:
        raise ModelError(
            "this language model names no vision tokenizer, so it cannot read pixels; give it"
            " codes, or features",
            config.lm,
        )
    vision: Vision
    if config.sees in ("continuous", "proximal"):
        vision = load_features(config.sees, config.tokenizer).eval().requires_grad_(False)
    else:
        vision = load(config.tokenizer)
    check_vision(vision, config)
    return vision


def check_vision(vision: Vision, config: MultimodalConfig) -> None:
    """Sees that a vision tokenizer is the one whose codes or features the model reads.

    Raises:
        ModelError: it is another.
    """
    if config.fingerprint not in (None, vision.fingerprint):
        raise ModelError(
            f"this is tokenizer {str(vision.fingerprint)[:12]} now, but the language model reads"
            f" {config.sees} of {str(config.fingerprint)[:12]}",
            config.tokenizer,
        )


def see(
    vision: Vision,
    pictures: Iterable[Picture],
    image: ImageConfig | None,
    pool: int,
    max_pixels: int | None,
) -> Iterator[Tensor]:
    """Codes (N, Q) or features (N, C) of each picture, one after the other."""
    own = vision.config.image if isinstance(vision, Tokenizer) else vision.image
    image = image or own
    image = image if max_pixels is None else replace(image, max_pixels=max_pixels)
    for picture in pictures:
        prepared = prepare_picture(picture, image, pool)
        if isinstance(vision, Tokenizer):
            yield stack_codes([vision.encode(prepared)])
        else:
            pixels = patchify(prepared.pixels, image.patch_size)
            device = next(vision.parameters()).device
            yield vision(pixels.to(device), Packing.of([prepared.grid_size]))


class Images(NamedTuple):
    """Images of a batch, of which at most one of the two is there."""

    packing: Packing
    codes: Tensor | None  # (N, Q)
    features: Tensor | None  # (N, C)


def read_images(
    config: MultimodalConfig,
    codes: Tensor | Sequence[Codes] | None,
    features: Tensor | None,
    pixel_values: Tensor | None,
    grid_sizes: Grids | None,
    vision: Callable[[], Vision],
) -> Images:
    """Images given in any one way, or none; see ``MultimodalModel.forward``.

    Raises:
        TypeError: the codes are neither a tensor nor a list of ``Codes``.
        ValueError: they are given in two ways, or without their grids.
        CodesError: the codes are another tokenizer's, or out of bounds.
    """
    ways = {"codes": codes, "features": features, "pixel_values": pixel_values}
    if len(given := [name for name, value in ways.items() if value is not None]) > 1:
        raise ValueError(f"images are given as {' and '.join(given)}; give them one way.")
    if codes is not None and not isinstance(codes, Tensor):
        if isinstance(codes, Codes) or not all(isinstance(one, Codes) for one in codes):
            raise TypeError("codes are neither a tensor (N, Q) nor a list of Codes, one an image.")
        for one in codes:
            check_codes(one, fingerprint=config.fingerprint, levels=config.levels, pool=config.pool)
        grid_sizes = [one.grid_size for one in codes]
        codes = stack_codes(codes) if codes else None
    if given and grid_sizes is None:
        raise ValueError(f"{given[0]} are without grid_sizes, the patches (h, w) of each image.")
    grids = grid_sizes.tolist() if isinstance(grid_sizes, Tensor) else grid_sizes or []
    if not all(isinstance(grid, Sequence) and len(grid) == 2 and min(grid) > 0 for grid in grids):
        raise ValueError(f"grid_sizes are {grids}; pass the patches (h, w) of each image.")
    packing = Packing.of((int(h), int(w)) for h, w in grids)
    if pixel_values is not None:
        if len(pixel_values) != packing.offsets[-1]:
            raise ValueError(f"{len(pixel_values)} patches for grids of {packing.offsets[-1]}.")
        is_bytes = pixel_values.dtype == torch.uint8
        pixels = to_range(pixel_values) if is_bytes else pixel_values.float()
        network = vision()
        if isinstance(network, Tokenizer):
            codes = encode_patches(pixels, packing, network)
        else:
            features = network(pixels, packing)
    if codes is not None:
        check_values(codes, config)
    return Images(packing, codes, features)
