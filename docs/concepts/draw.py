"""Draws the pictures of the pages on concepts, by the project itself.

Run as: python docs/concepts/draw.py
"""

import argparse
import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import viq
from viq.evaluation.plots import COLOURS, PALE, new_figure, save_figure
from viq.image import load_image
from viq.model.quantizers import FSQ, apply_limit

HERE = Path(__file__).parent
STORE = HERE.parents[1] / "benchmarks" / "results" / "store.json"
SIDE = 224  # pixels of the picture that is shown, a square of the sample
PATCHES = ((3, 4), (6, 7), (10, 9))  # (row, column) of those whose codes are written out


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the pictures of the pages on concepts.")
    parser.add_argument("--model", default="nano", help="bundled name, folder or hub id")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR")
    args = parser.parse_args()
    tokenizer = viq.load(args.model)
    picture, plot = (sample(name) for name in ("cat.png", "roc-curves.png"))
    codes = tokenizer.encode(picture)
    args.out.mkdir(parents=True, exist_ok=True)
    draw_code(picture, codes, tokenizer.decode(codes), args.out / "code.png")
    draw_heads(plot, tokenizer.encode(plot), args.out / "heads.png")
    draw_rounding(tokenizer, picture, args.out / "rounding.png")
    draw_proximal(args.out / "proximal.png")
    draw_faster(json.loads(STORE.read_text("utf-8")), args.out / "faster.png")


def sample(name: str) -> Image.Image:
    """A square of a sample picture."""
    with as_file(files("viq") / "samples" / name) as path:
        picture = load_image(path)
    side = min(picture.size)
    return picture.crop((0, 0, side, side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def draw_code(picture: Image.Image, codes: viq.Codes, decoded: Image.Image, path: Path) -> None:
    """The patches, the codes of three of them, and what all codes decode to."""
    figure, (left, middle, right) = new_figure(columns=3, height=320)
    (h, w), side = codes.grid_size, codes.patch_size
    left.imshow(picture)
    for cut in range(0, SIDE + 1, side):
        left.axhline(cut - 0.5, color="white", linewidth=0.4)
        left.axvline(cut - 0.5, color="white", linewidth=0.4)
    left.set_title(f"{h} x {w} patches of {side} x {side} pixels", fontsize=10)
    middle.set_title("four codes for each of them", fontsize=10)
    right.imshow(decoded)
    right.set_title(f"decoded from {codes.nbytes:,} bytes", fontsize=10)
    for number, (row, column) in enumerate(PATCHES):
        colour, box = COLOURS[number], (column * side, row * side)
        for axis in (left, right):
            _frame(axis, box, side, colour)
        cut = np.asarray(picture.crop((*box, box[0] + side, box[1] + side)))
        top = 0.9 - 0.3 * number
        inset = middle.inset_axes((0.02, top - 0.22, 0.28, 0.24))
        inset.imshow(cut)
        inset.set_xticks([])
        inset.set_yticks([])
        for spine in inset.spines.values():
            spine.set(visible=True, edgecolor=colour, linewidth=2.5)
        values = ", ".join(map(str, codes.values[row * w + column]))
        middle.text(0.35, top - 0.1, values, va="center", fontsize=10)
    _blank(left, middle, right)
    save_figure(figure, path)


def draw_heads(picture: Image.Image, codes: viq.Codes, path: Path) -> None:
    """The grid of each code head; equal codes have equal colours, others most likely not."""
    figure, (first, *axes) = new_figure(columns=1 + codes.code_heads, height=230)
    first.imshow(picture)
    first.set_title("the picture", fontsize=9)
    for head, axis in enumerate(axes):
        grid = codes.values[:, head].reshape(codes.grid_size)
        axis.imshow(_colours(grid))
        axis.set_title(f"head {head}: {len(np.unique(grid))} kinds", fontsize=9)
    _blank(first, *axes)
    save_figure(figure, path)


def draw_rounding(tokenizer: viq.Tokenizer, picture: Image.Image, path: Path) -> None:
    """Two of a code's dimensions before and after rounding, of all patches of the picture."""
    levels = tokenizer.config.network.head.quantizer.levels
    assert levels is not None
    quantizer = FSQ(levels)
    latents = tokenizer.latents(picture)[:, 0].float()  # (N, K) of head 0
    middle = torch.tensor(levels) // 2
    before = quantizer.bound(latents) / middle
    after = quantizer(latents).values
    figure, (axis,) = new_figure(height=420)
    for dimension, draw in ((0, axis.axvline), (1, axis.axhline)):
        for digit in range(levels[dimension]):
            draw(float((digit - middle[dimension]) / middle[dimension]), color=PALE, linewidth=0.6)
    for start, end in zip(before[:, :2], after[:, :2], strict=True):
        axis.plot(*zip(start.tolist(), end.tolist(), strict=True), color=PALE, linewidth=0.8)
    axis.plot(*before[:, :2].T, "o", color=COLOURS[0], markersize=3, label="before rounding")
    axis.plot(*after[:, :2].T, "s", color=COLOURS[1], markersize=4, label="the levels' grid")
    axis.set(xlabel=f"dimension 0, {levels[0]} levels", ylabel=f"dimension 1, {levels[1]} levels")
    axis.grid(visible=False)
    axis.set_aspect("equal")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def draw_proximal(path: Path) -> None:
    """What each limit does to the same points, in two dimensions."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(160, 2, generator=generator)
    names = {
        "none": "no limit",
        "l2": "L2: a circle",
        "tanh": "tanh: a box",
        "l_inf": "L-infinity: a cube",
    }
    figure, axes = new_figure(columns=4, height=300)
    for axis, (limit, title) in zip(axes, names.items(), strict=True):
        limited = apply_limit(points, limit)  # type: ignore[arg-type]
        axis.plot(*points.T, ".", color=PALE, markersize=3)
        axis.plot(*limited.T, "o", color=COLOURS[0], markersize=3)
        axis.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")
        axis.set_title(title, fontsize=10)
        axis.set_xticks([-1, 0, 1])
        axis.set_yticks([-1, 0, 1])
    save_figure(figure, path)


def draw_faster(measured: dict[str, Any], path: Path) -> None:
    """What it takes to bring one picture to where a language model's training needs it."""
    took = {row["image part"]: row["microseconds an image"] / 1000 for row in measured["rows"]}
    shown = {
        "read its codes": took["code data set"],
        "decode its JPEG to patches": took["JPEG as patches"],
        "the same, and scale it down": took["JPEG of 4/3 the side, as patches"],
    }
    figure, (axis,) = new_figure(height=260)
    bars = axis.barh(list(shown), list(shown.values()), color=[COLOURS[1], PALE, PALE])
    axis.bar_label(bars, fmt="%.3g ms", padding=4)
    axis.set(xlabel="milliseconds an image of 768 x 768 pixels, one thread", xlim=(0, 22))
    axis.invert_yaxis()
    save_figure(figure, path)


def _colours(grid: np.ndarray) -> np.ndarray:
    """RGB of each code, by a fixed hash, so that a code has one colour everywhere."""
    hashed = (grid.astype(np.uint64)[..., None] + 1) * np.array(
        [2654435761, 40503, 69069], np.uint64
    )
    return (80 + hashed // 7 % 160).astype(np.uint8)


def _frame(axis: Any, corner: tuple[int, int], side: int, colour: str) -> None:
    from matplotlib.patches import Rectangle

    place = (corner[0] - 0.5, corner[1] - 0.5)
    axis.add_patch(Rectangle(place, side, side, fill=False, edgecolor=colour, linewidth=2.5))


def _blank(*axes: Any) -> None:
    for axis in axes:
        axis.grid(visible=False)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
