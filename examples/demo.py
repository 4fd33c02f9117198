"""Encodes and decodes the sample pictures; codes, pictures and a sheet of both go to one folder.

Run as: python examples/demo.py --out out/demo
"""

import argparse
from importlib.resources import as_file, files
from pathlib import Path

import viq
from viq.cli.compare import measure
from viq.cli.progress import table
from viq.image import load_image
from viq.image.sheet import Cell, Row, sheet


def main() -> None:
    parser = argparse.ArgumentParser(description="Encodes and decodes the sample pictures.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default="nano", help="bundled name, folder or hub id")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with as_file(files("viq") / "samples") as samples:
        rows, shown = encode_and_decode(sorted(samples.glob("*.png")), args.model, args.out)
    header = ["picture", "size", "grid", "codes", "bytes", "bpp", "PSNR", "SSIM"]
    print(table(header, rows))
    sheet(["original", "decoded"], shown).save(args.out / "side-by-side.png")
    print(f"\n{args.out / 'side-by-side.png'} shows each beside its original.")


def encode_and_decode(
    paths: list[Path], model: str, out: Path
) -> tuple[list[list[str]], list[Row]]:
    """The rows of the table, and those of the sheet."""
    tokenizer = viq.load(model)
    rows, shown = [], []
    for path, codes in zip(paths, tokenizer.encode(paths), strict=True):
        codes.save(out / f"{path.stem}.viq")
        # Decoding needs nothing but the file.
        decoded = tokenizer.decode(viq.Codes.load(out / f"{path.stem}.viq"))
        decoded.save(out / f"{path.stem}.png")
        original = load_image(path)
        result = measure(original, decoded, "viq", codes.nbytes)
        (height, width), (h, w) = codes.original_size, codes.grid_size
        sizes = [f"{width}x{height}", f"{w}x{h}", f"{codes.values.size:,}", f"{result.bytes:,}"]
        quality = [f"{result.bpp:.3f}", f"{result.psnr:.2f}", f"{result.ssim:.4f}"]
        rows.append([path.stem, *sizes, *quality])
        caption = f"{result.bytes:,} bytes, {result.bpp:.3f} bpp, {result.psnr:.1f} dB"
        shown.append(
            Row(path.stem, [Cell(original, f"{width} x {height}"), Cell(decoded, caption)])
        )
    return rows, shown


if __name__ == "__main__":
    main()
