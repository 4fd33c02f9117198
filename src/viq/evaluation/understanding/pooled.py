"""Features of many pictures, pooled and kept in files, so that a stopped evaluation can go on.

Axes: B pictures, N patches of one in raster order of a square grid, C width.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from viq.data.images import as_picture
from viq.errors import ImageError, InputError
from viq.evaluation.files import whole_file
from viq.evaluation.understanding.pictures import Labelled
from viq.image import Picture, load_image

Features = Callable[[Sequence[Picture]], Sequence[Tensor]]  # of each picture (N, C)
Pooling = Literal["quarters", "patches"]

_AT_ONCE = 64  # pictures of a file


class Pooled(NamedTuple):
    """What became of pictures, by id; those that could not be read are tried again."""

    features: dict[str, Tensor]
    failed: dict[str, str]  # why one could not be read


def pooled(
    pictures: Sequence[Labelled],
    look: Features,
    folder: Path,
    *,
    side: int,
    pooling: Pooling,
    what: str,
) -> Pooled:
    """Pooled features of pictures; those that ``folder`` has already are not looked at again.

    Args:
        pictures: of which encoded ones are squashed to a square.
        look: makes the features.
        folder: where they are kept, of one source of features and one set of pictures.
        side: pixels of the square.
        pooling: "quarters" is the mean of each quarter of the picture, (4 * C); "patches" is
            nothing, (N, C).
        what: is said beside the bar of progress.

    Raises:
        InputError: a file there is damaged or of other pictures.
        ValueError: the features are not of a square grid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    all_of_it = Pooled({}, {})
    with tqdm(total=len(pictures), unit="picture", desc=what, disable=None, leave=False) as bar:
        for start in range(0, len(pictures), _AT_ONCE):
            some = pictures[start : start + _AT_ONCE]
            path = folder / f"{start:06d}.safetensors"
            found = _read(path, [one.id for one in some]) if path.exists() else {}
            if missing := [one for one in some if one.id not in found]:
                new, failed = _look(missing, look, side, pooling)
                all_of_it.failed.update(failed)
                if new:
                    found |= new
                    _write(path, found)
            all_of_it.features.update(found)
            bar.update(len(some))
    return all_of_it


def _look(pictures: Sequence[Labelled], look: Features, side: int, pooling: Pooling) -> Pooled:
    seen: dict[str, Image.Image] = {}
    reasons: dict[str, str] = {}
    for one in pictures:
        try:
            seen[one.id] = _square(one, side)
        except ImageError as error:
            reasons[one.id] = error.reason
    rows = [pool(one, pooling) for one in look(list(seen.values()))] if seen else []
    return Pooled(dict(zip(seen, rows, strict=True)), reasons)


def _write(path: Path, features: dict[str, Tensor]) -> None:
    with whole_file(path) as temporary:
        rows = torch.stack([*features.values()])
        save_file({"rows": rows}, temporary, {"ids": json.dumps([*features])})


def _square(one: Labelled, side: int) -> Image.Image:
    if not isinstance(one.picture, bytes):
        return one.picture
    picture = load_image(as_picture(one.picture, one.id), name=one.id)
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def pool(features: Tensor, pooling: Pooling) -> Tensor:
    """Features (N, C) as (4 * C) or, for "patches", as they are; float32 on the CPU.

    One mean of all loses place: of a short-trained nano's features 72 % of digits were read from
    it and 89 % from four, 74 and 80 % of charts, and as many colours and counts. Nine means took
    twice as long and read 88 % of digits.

    Raises:
        ValueError: N is no square, though all pictures are.
    """
    features = features.float().cpu()
    if pooling == "patches":
        return features.contiguous()
    side = round(len(features) ** 0.5)
    if side * side != len(features):
        raise ValueError(f"{len(features)} features are not those of a square grid.")
    grid = features.T.reshape(1, -1, side, side)
    return F.adaptive_avg_pool2d(grid, 2).flatten(2).mT.flatten()


def _read(path: Path, ids: list[str]) -> dict[str, Tensor]:
    """What a file has of pictures; those that could not be read are not in it."""
    try:
        with safe_open(path, "pt") as file:
            found, rows = json.loads(file.metadata()["ids"]), file.get_tensor("rows")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("is damaged; remove it to look at its pictures again", path) from error
    if not {*found} <= {*ids} or len(rows) != len(found):
        raise InputError("holds features of other pictures; give another --out", path)
    return dict(zip(found, rows, strict=True))
