"""Damaged and odd files by the thousand: each gives a result, or one line that says which and why.

No other exception, no message of several lines, no hang, no memory without measure.
"""

import faulthandler
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from viq import Codes, ViQError
from viq.errors import CodesError

resource = pytest.importorskip("resource", reason="limits need POSIX")

SEED = 2606_27313
FILES = 2000
MAX_PIXELS = 128**2  # larger pictures are scaled down, to save time
CPU_SECONDS = 10  # for one file; most take milliseconds
ALL_SECONDS = 240  # for all of them, by the clock, on a machine that does other things too
MEMORY = 2 * 2**30  # bytes more than before

SIZES = ((1, 1), (1, 70), (70, 1), (17, 33), (48, 40), (64, 64))
MODES = {  # format -> modes that it can be saved in
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpg": ("L", "RGB", "CMYK"),
    "gif": ("L", "P", "RGB"),
    "webp": ("RGB", "RGBA"),
    "tif": ("1", "L", "RGB", "RGBA", "CMYK", "F", "I;16"),
    "bmp": ("1", "L", "P", "RGB"),
}
ODD_VALUES: tuple[Any, ...] = (  # for the entries of a .viq file's metadata
    *(0, -1, 1, 3, 16, 255, 2**16, 2**31, 2**63, 10**30, 1.5, True, None, "", "x", float("nan")),
    *([], [0, 0], [1, 1], [1, 16], [16, 1], [4, 4], [3, 5], [64, 64], [2, 2, 2], [1e3, 1e3]),
    *([9_000, 9_000], [10**6, 200], [2] * 16, [2] * 17, [2] * 40, [8, 8, 8, 5, 5, 5, 1], {}),
    *("0" * 64, "f" * 63, "F" * 64, [[4, 4]], ["4", "4"], "9.9", "2", "1.1", [65_536], [2**32]),
)

Mutation = Callable[[random.Random, bytearray], None]


class TimeIsUp(BaseException):
    """Not an Exception: nothing that is tested may catch it."""


# Files that are in order.


def picture_files() -> dict[str, list[bytes]]:
    """Pictures of every mode and size, as files, by suffix."""
    return {
        suffix: [picture_file(suffix, mode, size) for mode in modes for size in SIZES]
        for suffix, modes in MODES.items()
    }


def picture_file(suffix: str, mode: str, size: tuple[int, int]) -> bytes:
    ramp = Image.linear_gradient("L").resize(size)
    picture = Image.merge("RGB", [ramp, ramp.rotate(90), ramp.rotate(180)])
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        picture = picture.convert(mode)
        picture.putalpha(ramp)
    else:
        picture = picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    return buffer.getvalue()


def codes_files(tokenizer) -> list[bytes]:
    sizes = ((1, 1), (17, 33), (64, 64), (100, 40))
    return [tokenizer.encode(Image.linear_gradient("L").resize(s)).to_bytes() for s in sizes]


# What is done to them.


def flip_bits(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_bits_of_the_header(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 4))):
        data[rng.randrange(min(64, len(data)))] ^= 1 << rng.randrange(8)


def write_a_number(rng: random.Random, data: bytearray) -> None:
    """Over whatever is there; widths, heights, counts and offsets among it."""
    width = rng.choice((1, 2, 4))
    number = rng.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), rng.getrandbits(8)))
    start = rng.randrange(min(200, len(data)))
    order = rng.choice(("little", "big"))
    data[start : start + width] = (number % 2 ** (8 * width)).to_bytes(width, order)


def truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def insert(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    data[start:start] = rng.randbytes(rng.choice((1, 4, 300)))


def remove(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 4, 300))]


def repeat(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.choice((1, 16, 300))]


def shuffle(rng: random.Random, data: bytearray) -> None:
    """Random bytes after a start that looks right."""
    start = rng.choice((4, 16, 60))
    data[start:] = rng.randbytes(len(data[start:]))


def append(rng: random.Random, data: bytearray) -> None:
    data += rng.randbytes(rng.choice((1, 1000)))


def replace_all(rng: random.Random, data: bytearray) -> None:
    data[:] = rng.randbytes(rng.choice((0, 1, 8, 100, 5000)))


def keep(rng: random.Random, data: bytearray) -> None:
    """Odd modes and sizes are enough."""


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, flip_bits, flip_bits_of_the_header, flip_bits_of_the_header),
    *(write_a_number, write_a_number, truncate, insert, remove, repeat, shuffle, append),
    *(replace_all, keep),
)


def metadata_of(data: bytearray) -> tuple[dict[str, Any], dict[str, Any], int]:
    """A .viq file's safetensors header, the document in it, and where the codes begin."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return header, json.loads(header["__metadata__"]["viq"]), start


def put_metadata(
    data: bytearray, header: dict[str, Any], document: dict[str, Any], start: int
) -> None:
    header["__metadata__"]["viq"] = json.dumps(document)
    text = json.dumps(header).encode()
    data[:start] = len(text).to_bytes(8, "little") + text


def give_odd_metadata(rng: random.Random, data: bytearray) -> None:
    """Gives one or two entries an odd value, and keeps the file in order."""
    header, document, start = metadata_of(data)
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(sorted(document))
        match rng.randrange(4):
            case 0:
                del document[name]
            case 1 if isinstance(document[name], list) and document[name]:
                document[name][rng.randrange(len(document[name]))] = rng.choice(ODD_VALUES)
            case 2 if isinstance(document[name], list):
                document[name].reverse()
            case _:
                document[name] = rng.choice(ODD_VALUES)
    put_metadata(data, header, document, start)


def give_likely_metadata(rng: random.Random, data: bytearray) -> None:
    """Gives one entry a value that another image or tokenizer may well have."""
    header, document, start = metadata_of(data)
    match rng.randrange(6):
        case 0:
            document["fingerprint"] = rng.randbytes(32).hex()
        case 1:
            rng.shuffle(document["levels"])
        case 2:
            document["original_size"] = [rng.randrange(1, 2000), rng.randrange(1, 2000)]
        case 3:
            document["grid_size"].reverse()
            document["encoded_size"].reverse()
        case 4:
            document["patch_size"] //= 2
            document["encoded_size"] = [8 * side for side in document["grid_size"]]
        case _:
            patches, heads = header["codes"]["shape"]
            header["codes"]["shape"] = [patches, heads // 2]
            header["codes"]["data_offsets"] = [0, patches * heads]
            del data[start + patches * heads :]
    put_metadata(data, header, document, start)


def give_other_codes(rng: random.Random, data: bytearray) -> None:
    _, document, start = metadata_of(data)
    count = (len(data) - start) // 2
    values = [rng.randrange(math.prod(document["levels"])) for _ in range(count)]
    data[start:] = np.array(values, "<u2").tobytes()


CODES_MUTATIONS: tuple[Mutation, ...] = (
    *[give_odd_metadata] * 5,
    *[give_likely_metadata] * 3,
    *[give_other_codes] * 3,
)


def damaged_pictures(count: int) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(SEED)
    originals = picture_files()
    for _ in range(count):
        suffix = rng.choice(sorted(originals))
        data = bytearray(rng.choice(originals[suffix]))
        rng.choice(MUTATIONS)(rng, data)
        yield suffix, bytes(data)


def damaged_codes(count: int, tokenizer) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(SEED + 1)
    originals = codes_files(tokenizer)
    for _ in range(count):
        data = bytearray(rng.choice(originals))
        rng.choice((*MUTATIONS, *CODES_MUTATIONS))(rng, data)
        yield "viq", bytes(data)


# Limits.


@contextmanager
def limits() -> Iterator[Callable[[], None]]:
    """Limits memory and time for all, and gives what starts the processor time of the next file."""

    def stop(*_: object) -> None:
        raise TimeIsUp(f"more than {CPU_SECONDS} s of processor time")

    statm = Path("/proc/self/statm")  # not everywhere
    old_memory = resource.getrlimit(resource.RLIMIT_AS)
    if statm.exists():
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2 * MEMORY, old_memory[1]))
    old_handler = signal.signal(signal.SIGPROF, stop)
    faulthandler.dump_traceback_later(ALL_SECONDS, exit=True)  # inside C, signals wait for ever
    try:
        yield lambda: signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS) and None
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old_handler)
        resource.setrlimit(resource.RLIMIT_AS, old_memory)


def peak_memory() -> int:
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# The tests.


def check_refusal(error: ViQError, path: Path | None) -> None:
    """One line of reasonable length that names the file, if there is one."""
    message = str(error)
    assert message.isprintable()
    assert len(message) < 600
    assert path is None or message.startswith(f"{path}: ")


def encode_file(tokenizer, path: Path) -> str:
    """Encodes a picture and says what came of it."""
    try:
        prepared = tokenizer.prepare(path, max_pixels=MAX_PIXELS)
    except ViQError as error:
        check_refusal(error, path)
        return "refused"
    codes = tokenizer.encode(prepared)
    assert codes.fingerprint == tokenizer.fingerprint
    assert codes.original_size == prepared.original_size
    return "done"


def decode_file(tokenizer, path: Path) -> str:
    """Decodes codes and says what came of it."""
    try:
        codes = Codes.load(path)
    except CodesError as error:
        check_refusal(error, path)
        return "refused"
    try:
        image = tokenizer.decode(codes)
    except CodesError as error:
        check_refusal(error, None)  # codes do not know what file they are from
        return "not its own"
    assert image.size == codes.original_size[::-1]
    return "done"


@pytest.mark.slow
@pytest.mark.timeout(ALL_SECONDS + 60)
def test_damaged_files_give_a_result_or_one_line(tiny_tokenizer, tmp_path):
    before = peak_memory()
    outcomes: Counter[tuple[str, str]] = Counter()
    files = [
        *damaged_pictures(FILES * 3 // 5),
        *damaged_codes(FILES * 2 // 5, tiny_tokenizer),
    ]
    assert len(files) == FILES
    assert len(set(files)) > FILES * 3 // 4
    with limits() as start_the_clock:
        for number, (suffix, data) in enumerate(files):
            path = tmp_path / f"{number:04}.{suffix}"
            path.write_bytes(data)
            start_the_clock()
            try:
                outcome = (decode_file if suffix == "viq" else encode_file)(tiny_tokenizer, path)
            except BaseException as error:
                error.add_note(f"{path}, from {data[:80]!r}")
                raise
            outcomes[suffix, outcome] += 1
            path.unlink()
    assert peak_memory() - before < MEMORY
    # That both happen, for each format, shows that files were damaged and some not too much.
    for suffix in (*MODES, "viq"):
        for outcome in ("done", "refused"):
            assert outcomes[suffix, outcome] >= 25, outcomes
    assert outcomes["viq", "not its own"] >= 10, outcomes


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tiny_tokenizer, tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (15_000, 15_000)).save(path)
    before = peak_memory()
    assert encode_file(tiny_tokenizer, path) == "refused"
    assert peak_memory() - before < 2**26


@pytest.mark.timeout(ALL_SECONDS)
def test_the_commands_name_each_damaged_file_and_do_the_others(
    tiny_tokenizer, tiny_tokenizer_folder, tmp_path
):
    folders = {"encode": tmp_path / "pictures", "decode": tmp_path / "codes"}
    files = {"encode": damaged_pictures(50), "decode": damaged_codes(50, tiny_tokenizer)}
    for command, folder in folders.items():
        folder.mkdir()
        for number, (suffix, data) in enumerate(files[command]):
            (folder / f"{number:02}.{suffix}").write_bytes(data)
    model = ("--model", str(tiny_tokenizer_folder))
    for command, options, suffix in (
        ("encode", (*model, "--max-pixels", str(MAX_PIXELS)), ".viq"),
        ("decode", model, ".png"),
    ):
        folder, out = folders[command], tmp_path / f"{command}d"
        inputs = sorted(folder.iterdir())
        process = subprocess.run(
            [sys.executable, "-m", "viq.cli.main", command, folder, *options, "--out", out],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=ALL_SECONDS,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert process.returncode == 1, process.stderr
        done = {Path(line.split("  ")[0]) for line in process.stdout.splitlines()}
        assert done == set(out.iterdir())
        # A line for each of the others and a summary, but no traceback and no library's warning.
        *errors, summary = process.stderr.splitlines()
        refused = [path for path in inputs if out / f"{path.stem}{suffix}" not in done]
        assert [error.split(": ")[:3] for error in errors] == [
            ["viq", "error", str(path)] for path in refused
        ]
        assert summary.startswith(f"{command}d {len(done)} files in ")
        assert summary.endswith(f" s, {len(refused)} failed")
        assert len(done) + len(refused) == 50
        assert len(done) >= 10
        assert len(refused) >= 10
