"""Which codes stay what they are when a picture changes a little, and what becomes of its decode.

Axes: N patches, Q code heads, K code dimensions, (h, w) grid of patches.
"""

import io
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from viq.codes import Codes
from viq.evaluation.codes.usage import digits_of
from viq.evaluation.document import Cell, Column, Figure, Score, Table
from viq.evaluation.plots import new_figure, save_figure, series
from viq.evaluation.scores import mean_score
from viq.tokenizer import Tokenizer

JPEG_QUALITIES = (95, 75, 50)
SIGMAS = (1, 2, 5, 10)  # of 255
SHIFTS = (1, 2, 4, 8, 16)  # pixels to the right and down
SCALES = (0.9, 0.5)
DTYPES = ("bfloat16", "float16")
PEAK = 255

NOTE = (
    "A picture and what a change makes of it are encoded, and codes of the same place compared."
    " Shifts: two crops of a picture, the second so many pixels further right and down; shifted by"
    " a whole patch, codes of the same pixels are compared. Digits are FSQ's, their distance is in"
    " levels. PSNR is that of the mean squared error over all pictures, of the changed picture"
    " and of its decode, against the unchanged ones; where pictures are shifted, of the pixels that"
    " both have. Intervals are 95 %, over pictures."
)


class Variant(NamedTuple):
    """A changed picture and what to compare it with.

    Attributes:
        image: the changed picture.
        reference: the unchanged one, of the same size.
        patches: how many patches further right and down codes of the same pixels are there.
        pixels: likewise, in pixels.
    """

    image: Image.Image
    reference: Image.Image
    patches: int = 0
    pixels: int = 0


def change_names(patch_size: int) -> list[str]:
    """All changes, in the order of the table."""
    return [
        *(f"JPEG, quality {quality}" for quality in JPEG_QUALITIES),
        *(f"noise, sigma {sigma} of {PEAK}" for sigma in SIGMAS),
        *(_shift_name(shift, patch_size) for shift in SHIFTS),
        *(f"scaled by {scale} and back" for scale in SCALES),
        *DTYPES,
    ]


def variants(
    image: Image.Image, name: str, patch_size: int, pad_multiple: int
) -> dict[str, Variant]:
    """The changed pictures by change; noise is drawn by the picture's name.

    Pictures that are too small to be cropped have no shifts.
    """
    found = {f"JPEG, quality {q}": Variant(_jpeg(image, q), image) for q in JPEG_QUALITIES}
    for sigma in SIGMAS:
        rng = np.random.default_rng([sigma, zlib.crc32(name.encode("utf-8", "surrogateescape"))])
        noisy = np.asarray(image) + rng.normal(0, sigma, (*image.size[::-1], 3))
        changed = Image.fromarray(noisy.round().clip(0, PEAK).astype(np.uint8))
        found[f"noise, sigma {sigma} of {PEAK}"] = Variant(changed, image)
    # Crops of whole blocks, for padding would not be shifted with the picture.
    width, height = ((s - max(SHIFTS)) // pad_multiple * pad_multiple for s in image.size)
    if min(width, height) > max(SHIFTS):
        crop = image.crop((0, 0, width, height))
        for shift in SHIFTS:
            moved = image.crop((shift, shift, shift + width, shift + height))
            patches = shift // patch_size if shift % patch_size == 0 else 0
            found[_shift_name(shift, patch_size)] = Variant(moved, crop, patches, shift)
    for scale in SCALES:
        small = image.resize(
            (max(1, round(scale * image.width)), max(1, round(scale * image.height))),
            Image.Resampling.LANCZOS,
        )
        changed = small.resize(image.size, Image.Resampling.LANCZOS)
        found[f"scaled by {scale} and back"] = Variant(changed, image)
    return found


def stability_record(
    tokenizer: Tokenizer,
    others: Mapping[str, Tokenizer],
    image: Image.Image,
    name: str,
    *,
    decodes: bool,
) -> dict[str, Any]:
    """What each change does to a picture, by the change's name.

    Args:
        tokenizer: in float32.
        others: the same one in other dtypes, by dtype.
        image: the picture, small enough not to be scaled down.
        name: of the picture.
        decodes: whether codes can be decoded.
    """
    config = tokenizer.config.image
    changed = variants(image, name, config.patch_size, config.pad_multiple)
    references = {id(v.reference): v.reference for v in changed.values()}
    most = max(config.max_pixels, math.prod(image.size))

    def encode(images: Sequence[Image.Image]) -> list[Codes]:
        # One by one: all of them at once as floats may be a gigabyte.
        return [tokenizer.encode(tokenizer.prepare(one, max_pixels=most)) for one in images]

    def decode(codes: Codes) -> NDArray[np.uint8] | None:
        return np.asarray(tokenizer.decode(codes)) if decodes else None

    same = dict(zip(references, encode(list(references.values())), strict=True))
    decoded = {key: decode(codes) for key, codes in same.items()}
    record = {}
    codes_of_changed = encode([variant.image for variant in changed.values()])
    for (change, variant), codes in zip(changed.items(), codes_of_changed, strict=True):
        key = id(variant.reference)
        record[change] = compared(same[key], codes, variant.patches) | {
            "input_mse": _mse(variant.reference, variant.image, variant.pixels),
            "decode_mse": _mse(decoded[key], decode(codes), variant.pixels),
        }
    for dtype, other in others.items():
        prepared = other.prepare(image, max_pixels=most)
        latents = other.latents(prepared)
        if not bool(latents.isfinite().all()):
            continue  # it overflows, so there are no codes to compare
        reference = same[id(image)]
        values = other.part("head").quantize(latents).codes.cpu().numpy()
        codes = replace(reference, values=values.astype(reference.values.dtype))
        record[dtype] = compared(reference, codes, 0) | {
            "input_mse": 0.0,
            "decode_mse": _mse(decoded[id(image)], decode(codes), 0),
        }
    return record


def in_dtypes(model: str, device: str) -> tuple[dict[str, Tokenizer], list[str]]:
    """A tokenizer in each of ``DTYPES`` in which the device runs it; and why not in the others."""
    from viq.tokenizer import load

    found, notes = {}, []
    for dtype in DTYPES:
        tokenizer = load(model, device=device, dtype=dtype)
        side = tokenizer.config.image.pad_multiple
        try:
            tokenizer.latents(torch.zeros(3, side, side))
        except RuntimeError as error:  # a kernel is missing
            reason = " ".join(str(error).split())[:200]
            notes.append(f"{dtype} was not run on this {device}: {reason}.")
        else:
            found[dtype] = tokenizer
    return found, notes


def stability_table(records: Mapping[str, Sequence[Mapping[str, Any]]], patch_size: int) -> Table:
    """A row for each change of each model, from the records of its pictures."""
    rows: list[tuple[Cell, ...]] = []
    for name, some in records.items():
        for change in change_names(patch_size):
            found = [record[change] for record in some if change in record]
            cells: list[Cell] = [None] * 8
            if found:
                digits = [one for one in found if one["digits"] is not None]
                furthest = max((one["furthest"] for one in digits), default=None)
                cells = [
                    len(found),
                    mean_score([one["codes"] for one in found], scale=100),
                    100 * min(one["codes"] for one in found),
                    _mean(digits, "digits", 100),
                    _mean(digits, "distance", 1),
                    furthest,
                    _psnr(found, "input_mse"),
                    _psnr(found, "decode_mse"),
                ]
            rows.append((name, change, *cells))
    return Table(
        title="Stability",
        columns=(
            Column(name="Model"),
            Column(name="Change"),
            Column(name="Pictures"),
            Column(name="Codes equal", unit="%", digits=1),
            Column(name="Codes equal, worst picture", unit="%", digits=1),
            Column(name="Digits equal", unit="%", digits=1),
            Column(name="Digit distance, mean", digits=3),
            Column(name="Digit distance, largest"),
            Column(name="PSNR of the change", unit="dB", digits=1),
            Column(name="PSNR of the decodes", unit="dB", digits=1),
        ),
        rows=tuple(rows),
        note=NOTE,
    )


def stability_figure(table: Table, folder: Path) -> Figure:
    """Draws the shares of codes and digits that stay equal under each change."""
    names = list(dict.fromkeys(str(row[0]) for row in table.rows))
    changes = list(dict.fromkeys(str(row[1]) for row in table.rows))
    figure, (axis,) = new_figure(height=200 + 26 * len(changes) * max(1, len(names)))
    for index, name in enumerate(names):
        offset = (index - (len(names) - 1) / 2) * 0.7 / len(names)
        for column, label, filled in ((3, "codes", True), (5, "digits", False)):
            points = [
                (row[column], changes.index(str(row[1])) + offset)
                for row in table.rows
                if row[0] == name and isinstance(row[column], Score)
            ]
            if not points:
                continue
            scores = [score for score, _ in points if isinstance(score, Score)]
            values = [score.value for score in scores]
            reach = [
                [max(0.0, s.value - (s.value if s.low is None else s.low)) for s in scores],
                [max(0.0, (s.value if s.high is None else s.high) - s.value) for s in scores],
            ]
            style = series(index)
            axis.errorbar(
                values,
                [place for _, place in points],
                xerr=reach,
                fmt=style["marker"],
                color=style["color"],
                markerfacecolor=style["color"] if filled else "white",
                label=f"{name}, {label}",
                capsize=2,
            )
    axis.set_yticks(range(len(changes)), changes)
    axis.invert_yaxis()
    axis.set(xlabel="unchanged (%), with 95 % intervals over pictures", title="Stability")
    axis.legend(loc="upper left", bbox_to_anchor=(0, -0.1), ncols=2)
    save_figure(figure, folder / "stability.png")
    return Figure(
        file="stability.png",
        title="Stability",
        caption="Shares of codes and of digits that stay equal when a picture changes, of"
        f" {', '.join(names)}.",
    )


def _shift_name(shift: int, patch_size: int) -> str:
    kind = " (whole patches)" if shift % patch_size == 0 else ""
    return f"shifted by {shift} px{kind}"


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as file:
        return file.convert("RGB")


def compared(reference: Codes, codes: Codes, patches: int) -> dict[str, Any]:
    """Codes of two pictures, the second ``patches`` further right and down."""
    height, width = reference.grid_size
    one, other = (c.values.astype(np.int64).reshape(height, width, -1) for c in (reference, codes))
    one, other = one[patches:, patches:], other[: height - patches, : width - patches]
    digits = distance = furthest = None
    if len(reference.levels) > 1:
        apart = np.abs(digits_of(one, reference.levels) - digits_of(other, reference.levels))
        digits, distance = float(np.mean(apart == 0)), float(apart.mean())
        furthest = int(apart.max())
    equal = float(np.mean(one == other))
    return {"codes": equal, "digits": digits, "distance": distance, "furthest": furthest}


def _mse(one: Any, other: Any, shift: int) -> float | None:
    """Mean squared difference of two pictures (H, W, 3), the second ``shift`` pixels further."""
    if one is None or other is None:
        return None
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    height, width = first.shape[:2]
    return float(np.mean((first[shift:, shift:] - second[: height - shift, : width - shift]) ** 2))


def _mean(records: Sequence[Mapping[str, Any]], name: str, scale: float) -> Score | None:
    return mean_score([one[name] for one in records], scale=scale) if records else None


def _psnr(records: Sequence[Mapping[str, Any]], name: str) -> Score | None:
    """Of the mean squared error; None where nothing differs, or was not measured."""
    errors = [one[name] for one in records if one[name] is not None]
    if not any(errors):
        return None
    score = mean_score(errors)
    low = None if score.high is None else _decibels(score.high)
    high = None if not score.low else _decibels(score.low)
    low = None if high is None else low  # an interval without end is none
    return Score(value=_decibels(score.value), low=low, high=high, count=score.count)


def _decibels(error: float) -> float:
    return 10 * math.log10(PEAK**2 / error)
