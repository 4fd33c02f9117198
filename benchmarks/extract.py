"""Extraction: images a second by the number of workers, and memory over many small images.

python benchmarks/extract.py                        # speed, with 1 and 2 workers
python benchmarks/extract.py --memory 100000        # and memory, which must stay flat

Speed is of `viq extract` on JPEGs of --side pixels, from a process's start to its end, and without
the start, from the units' own times; decoding has threads of its own, so its share may exceed what
it costs. Memory is the resident set of the driver and of all its workers together, while so many
small images are extracted from a tar that has been made for it.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from report import arguments, report


def jpeg(rng: np.random.Generator, side: int) -> bytes:
    """Noise that has been smoothed, so that it compresses as photos do."""
    small = rng.integers(0, 256, (max(2, side // 8), max(2, side // 8), 3), dtype=np.uint8)
    data = io.BytesIO()
    picture = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
    picture.save(data, format="JPEG", quality=90)
    return data.getvalue()


def write_shards(folder: Path, images: int, side: int, images_a_shard: int, seed: int) -> None:
    """Tars of images; there are 256 different ones."""
    rng = np.random.default_rng(seed)
    pictures = [jpeg(rng, side) for _ in range(min(images, 256))]
    for first in range(0, images, images_a_shard):
        with tarfile.open(folder / f"{first // images_a_shard:05d}.tar", "w") as shard:
            for number in range(first, min(first + images_a_shard, images)):
                data = pictures[number % len(pictures)]
                entry = tarfile.TarInfo(f"{number:08d}.jpg")
                entry.size = len(data)
                shard.addfile(entry, io.BytesIO(data))


def extract(
    source: Path, out: Path, workers: int, args: argparse.Namespace
) -> tuple[dict, list[tuple[float, int, int]]]:
    """Runs the command; its summary, and (seconds, driver's, others' bytes) four times a second."""
    command = [sys.executable, "-m", "viq.cli.main", "extract", str(source), "--out", str(out)]
    command += ["--model", args.model, "--workers", str(workers), "--threads", str(args.threads)]
    command += ["--readers", str(args.readers), "--device", args.device, "--json"]
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        samples: list[tuple[float, int, int]] = []
        watcher = threading.Thread(target=watch, args=(process, start, samples), daemon=True)
        watcher.start()
        text, _ = process.communicate()
        watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return json.loads(text), samples


def watch(process: subprocess.Popen, start: float, samples: list[tuple[float, int, int]]) -> None:
    """Notes the memory of a process and of its children, until it ends."""
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):  # one has just ended
            family = [driver, *driver.children(recursive=True)]
            held = [one.memory_info().rss for one in family]
            samples.append((time.monotonic() - start, held[0], sum(held[1:])))
        time.sleep(0.25)


def unit_seconds(out: Path) -> dict[str, float]:
    """Sums of the units' own times."""
    reports = [json.loads(path.read_text()) for path in (out / ".viq" / "units").glob("*.json")]
    names = ("seconds", "decode_seconds", "network_seconds")
    return {name: sum(one[name] for one in reports) for name in names}


def speed(args: argparse.Namespace, folder: Path) -> list[dict]:
    """A row for each number of workers; rounds take turns, and the median one counts."""
    source = folder / "speed"
    source.mkdir()
    write_shards(source, args.images, args.side, max(1, args.images // 8), args.seed)
    found: dict[int, list[dict]] = {workers: [] for workers in args.workers}
    for repeat in range(args.repeats):
        for workers in args.workers:
            out = folder / f"out-{workers}-{repeat}"
            figures, _ = extract(source, out, workers, args)
            times = unit_seconds(out)
            found[workers].append(
                {
                    "workers": workers,
                    "images/s": figures["images_per_second"],
                    "images/s without start": workers * args.images / times["seconds"],
                    "Mpix/s": figures["megapixels_per_second"],
                    "decoding, of a worker's time": times["decode_seconds"] / times["seconds"],
                    "network, of a worker's time": times["network_seconds"] / times["seconds"],
                    "worker-hours a million": figures["worker_hours_per_million_images"],
                }
            )
    return [
        {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        for rounds in found.values()
    ]


def memory(args: argparse.Namespace, folder: Path) -> list[dict]:
    """A row for each tenth of the time; the first have the start in them, the last the end."""
    source = folder / "memory"
    source.mkdir()
    write_shards(source, args.memory, args.small_side, 1000, args.seed)
    workers = max(args.workers)
    figures, samples = extract(source, folder / "out-memory", workers, args)
    assert figures["images"] == args.memory
    rows = []
    for tenth in range(10):
        part = samples[len(samples) * tenth // 10 : len(samples) * (tenth + 1) // 10]
        rows.append(
            {
                "until second": part[-1][0],
                "driver MiB": statistics.median(driver for _, driver, _ in part) / 2**20,
                "workers MiB": statistics.median(others for _, _, others in part) / 2**20,
                "most MiB": max(driver + others for _, driver, others in part) / 2**20,
            }
        )
    return rows


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.set_defaults(repeats=3, threads=1)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=400, help="for the speed")
    parser.add_argument("--side", type=int, default=256, help="of these")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--memory", type=int, help="so many images; at least 2,000")
    parser.add_argument("--small-side", type=int, default=32, help="of these")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = {} if args.memory is None else {"memory": memory(args, folder)}
        title = f"extract, {args.model}, {args.images} pictures of {args.side}^2, float32"
        report(title, speed(args, folder), args, **tables)


if __name__ == "__main__":
    main()
