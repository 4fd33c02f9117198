"""Compares tokenizers on the same pictures: rate, quality, use of codes, and a sheet to look at.

Run as: python examples/compare_tokenizers.py photos/ --model nano --model mine=MINE --out compared/
"""

import argparse
from importlib.resources import as_file, files
from pathlib import Path
from statistics import fmean

import numpy as np
from tqdm import tqdm

import viq
from viq.cli.compare import measure
from viq.cli.progress import table
from viq.image import load_image
from viq.image.sheet import Cell, Row, sheet

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="?", metavar="DIR", help="default: samples")
    parser.add_argument(
        "--model", action="append", dest="models", metavar="[NAME=]MODEL", help="default: nano"
    )
    parser.add_argument("--max-pixels", type=int, help="scale larger pictures down to so many")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    models = {}
    for text in args.models or ["nano"]:
        name, _, where = text.rpartition("=")
        models[name or where] = viq.load(where)
    args.out.mkdir(parents=True, exist_ok=True)
    with as_file(files("viq") / "samples") as samples:
        folder = args.pictures or samples
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        rows, shown = compare(paths, models, args.max_pixels)
    print(table(["tokenizer", "pictures", "bpp", "PSNR", "SSIM", "codes used", "of"], rows))
    sheet(["original", *models], shown).save(args.out / "sheet.png")
    print(f"\n{args.out / 'sheet.png'} shows them side by side.")


def compare(
    paths: list[Path], models: dict[str, viq.Tokenizer], max_pixels: int | None
) -> tuple[list[list[str]], list[Row]]:
    """The rows of the table, and those of the sheet."""
    results: dict[str, list] = {name: [] for name in models}
    used: dict[str, list[np.ndarray]] = {name: [] for name in models}
    shown = []
    for path in tqdm(paths, unit="picture"):
        original = load_image(path)
        cells = [Cell(original, f"{original.width} x {original.height}")]
        for name, tokenizer in models.items():
            codes = tokenizer.encode(tokenizer.prepare(original, max_pixels=max_pixels))
            decoded = tokenizer.decode(codes)
            result = measure(original, decoded, name, codes.nbytes)
            results[name].append(result)
            used[name].append(codes.values)
            cells.append(Cell(decoded, f"{result.bpp:.3f} bpp, {result.psnr:.1f} dB"))
        shown.append(Row(path.name, cells))
    rows = []
    for name, tokenizer in models.items():
        means = [fmean(getattr(r, key) for r in results[name]) for key in ("bpp", "psnr", "ssim")]
        bpp, psnr, ssim = means
        kinds = len(np.unique(np.concatenate(used[name])))
        size = int(np.prod(tokenizer.config.network.head.quantizer.code_levels))
        numbers = [f"{bpp:.3f}", f"{psnr:.2f}", f"{ssim:.4f}", f"{kinds:,}", f"{size:,}"]
        rows.append([name, str(len(paths)), *numbers])
    return rows, shown


if __name__ == "__main__":
    main()
