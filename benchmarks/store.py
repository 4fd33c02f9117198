"""Reading codes against reading pictures: the image part alone, and the whole training loader.

python benchmarks/store.py --pictures DIR

The same pictures, each scaled and cropped to ``--side`` squared, lie on disk as JPEG (quality 90)
in a Parquet file, as JPEG of 4/3 the side, which take a resize, as one .npy of codes a picture, as
one .viq a picture, and as a code data set. Codes are uniform noise, the worst case for their
size; what they are makes no difference to their reading. Everything is in the page cache and runs
in one thread, so that figures are those of a core. "pillow alone" decodes and resizes to an array
and does no more; "as patches" is what a training run with an encoder does, up to its input.

The loaders pack the same conversations beside the images, ``--words`` words of which half are the
answer, in this process. ``--pictures`` names a folder of images or of Parquet files with images;
without it pictures are drawn: clouds of many sizes, whose JPEGs are as large as photographs'.
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps
from report import arguments, medians, report

from viq import Codes
from viq.data.config import PhaseConfig, TextDataConfig
from viq.data.curriculum import text_loader
from viq.data.images import as_picture
from viq.data.readers import CodeReader, ImageReader, patch_reader
from viq.data.sample import Source
from viq.data.sources import SourceConfig, open_source
from viq.external.language_model import load_language_model
from viq.image import load_image
from viq.store import CodesInfo, CodeWriter

INFO = CodesInfo(fingerprint="0" * 64, levels=(8, 8, 8, 5, 5, 5), code_heads=4, patch_size=16)
QUALITY = 90
POOL = 2


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--pictures", type=Path, help="a folder of images or Parquet files")
    parser.add_argument("--count", type=int, default=64, help="of pictures")
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--words", type=int, default=140, help="of text a sample")
    parser.add_argument("--lm", default="tiny", help="whose tokenizer counts")
    parser.set_defaults(threads=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = f"{folder}/cache"
        run(Path(folder), args)


def run(folder: Path, args: Any) -> None:
    write(folder, args)
    phase = PhaseConfig(
        area=args.side**2,
        pool=POOL,
        seq_len=8192,
        max_patches=16 * (args.side // 16) ** 2,
        weights={"set": 1.0},
        tokens=2**40,
    )
    codes = CodeReader(fingerprint=INFO.fingerprint, code_heads=INFO.code_heads, pool=POOL)
    patches = patch_reader(phase, INFO.patch_size)
    names = [f"{number:05}" for number in range(args.count)]
    sources = {name: _open(folder / name) for name in ("codes", "jpeg", "larger")}

    def image_part(source: Source, reader: ImageReader) -> Callable[[], None]:
        def read() -> None:
            for n in range(len(source)):
                sample = source[n]
                reader.read(sample.images[0], sample.id)

        return read

    def pillow(source: Source) -> Callable[[], None]:
        def read() -> None:
            for n in range(len(source)):
                picture = as_picture(source[n].images[0], "").convert("RGB")
                if picture.width != args.side:
                    picture = picture.resize((args.side, args.side), Image.Resampling.BICUBIC)
                np.asarray(picture)

        return read

    def arrays() -> None:
        for name in names:
            np.load(folder / f"npy/{name}.npy").astype(np.int32)

    def files() -> None:
        for name in names:
            codes.read(Codes.load(folder / f"viq/{name}.viq"), name)

    alone = medians(
        {
            "code data set": image_part(sources["codes"], codes),
            "one .npy a picture": arrays,
            "one .viq a picture": files,
            "JPEG, pillow alone": pillow(sources["jpeg"]),
            "JPEG of 4/3 the side, pillow alone": pillow(sources["larger"]),
            "JPEG as patches": image_part(sources["jpeg"], patches),
            "JPEG of 4/3 the side, as patches": image_part(sources["larger"], patches),
        },
        args.repeats,
    )
    stored = {
        "code data set": _bytes(folder / "codes"),
        "one .npy a picture": _bytes(folder / "npy"),
        "one .viq a picture": _bytes(folder / "viq"),
    }
    rows = [
        {
            "image part": name,
            "microseconds an image": 1e6 * seconds / args.count,
            "KiB an image": stored.get(
                name, _bytes(folder / ("larger" if "4/3" in name else "jpeg"))
            )
            / args.count
            / 1024,
            "times a code data set": seconds / alone["code data set"],
        }
        for name, seconds in alone.items()
    ]

    tokenizer = load_language_model(args.lm).tokenizer
    loaders = {
        "code data set": _loader(folder / "codes", phase, tokenizer, codes),
        "JPEG as patches": _loader(folder / "jpeg", phase, tokenizer, patches),
        "JPEG of 4/3 the side, as patches": _loader(folder / "larger", phase, tokenizer, patches),
    }
    filled = {name: [0, 0] for name in loaders}  # samples and tokens

    def read_steps(name: str) -> Callable[[], None]:
        def read() -> None:
            filled[name] = [0, 0]
            while filled[name][0] < args.count:
                (batch,) = next(loaders[name]).batches
                filled[name][0] += len(batch.samples)
                filled[name][1] += len(batch.input_ids)

        return read

    whole = medians({name: read_steps(name) for name in loaders}, args.repeats)
    per_sample = {name: seconds / filled[name][0] for name, seconds in whole.items()}
    loading = [
        {
            "whole loader": name,
            "microseconds a sample": 1e6 * per_sample[name],
            "tokens/s": filled[name][1] / seconds,
            "times a code data set": per_sample[name] / per_sample["code data set"],
        }
        for name, seconds in whole.items()
    ]
    what = args.pictures or "drawn pictures"
    report(f"reading {args.count} of {what} at {args.side}^2", rows, args, loader=loading)


def write(folder: Path, args: Any) -> None:
    """The same pictures and texts in all forms."""
    for name in ("codes", "jpeg", "larger", "npy", "viq"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(1000)]
    pictures = _pictures(args.pictures) if args.pictures else _drawn(rng, args.side)
    texts, encoded, images = [], [], {"jpeg": [], "larger": []}
    grid = (args.side // 16, args.side // 16)
    for number, picture in enumerate(islice(pictures, args.count)):
        said = [" ".join(rng.choice(words, args.words // 2)) for _ in range(2)]
        texts.append({"id": number, "question": said[0], "answer": said[1]})
        for name, side in (("jpeg", args.side), ("larger", args.side * 4 // 3)):
            images[name].append(_jpeg(ImageOps.fit(picture, (side, side))))
        codes = Codes(
            rng.integers(0, INFO.codebook_size, (grid[0] * grid[1], INFO.code_heads), np.uint16),
            grid_size=grid,
            original_size=(args.side, args.side),
            encoded_size=(args.side, args.side),
            levels=INFO.levels,
            fingerprint=INFO.fingerprint,
        )
        codes.save(folder / f"viq/{number:05}.viq")
        np.save(folder / f"npy/{number:05}.npy", codes.values)
        encoded.append([codes])
    if len(texts) < args.count:
        raise SystemExit(f"there are {len(texts)} pictures; ask for no more by --count")
    table = pa.Table.from_pylist(texts)
    with CodeWriter(folder / "codes/train-0.parquet", INFO, table.schema) as writer:
        writer.write(table, encoded)
    for name, column in images.items():
        pq.write_table(table.append_column("image", [column]), folder / name / "train-0.parquet")


def _loader(folder: Path, phase: PhaseConfig, tokenizer: Any, reader: ImageReader) -> Iterator[Any]:
    config = TextDataConfig(sources=(_source(folder),), phases=(phase,), workers=0)
    return iter(text_loader(config, tokenizer, lambda _: reader, lanes_total=1, lanes=range(1)))


def _source(folder: Path, **options: Any) -> SourceConfig:
    return SourceConfig(name="set", path=str(folder), **options)


def _open(folder: Path) -> Source:
    return open_source(_source(folder, need_text=False))


def _pictures(path: Path) -> Iterator[Image.Image]:
    source = open_source(SourceConfig(name="pictures", path=str(path), need_text=False))
    for number in range(len(source)):
        yield load_image(as_picture(source[number].images[0], source[number].id))


def _drawn(rng: np.random.Generator, side: int) -> Iterator[Image.Image]:
    """Noise at all scales, the finer the weaker, as in photographs."""
    while True:
        picture = np.zeros((side, side, 3), np.float32)
        for level in range(1, 9):
            noise = rng.integers(0, 256, (2**level, 2**level, 3), np.uint8)
            large = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
            picture += (np.asarray(large, np.float32) - 128) / level
        yield Image.fromarray(np.clip(picture + 128, 0, 255).astype(np.uint8))


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


if __name__ == "__main__":
    main()
