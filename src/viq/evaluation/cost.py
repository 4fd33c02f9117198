"""What a tokenizer costs: parameters, operations, tokens, time and memory, by a picture's size."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch

from viq.errors import InputError
from viq.evaluation import flops
from viq.evaluation.coding import why_no_decoder
from viq.evaluation.document import Cell, Column, Figure, Table
from viq.evaluation.plots import new_figure, save_figure, series
from viq.evaluation.samples import Samples
from viq.evaluation.timing import Measurement, measure, square_grid
from viq.hardware import hardware
from viq.model.network import build_part
from viq.tokenizer import Tokenizer

PARTS = {  # and what they are called in tables; the first two encode, the others decode
    "encoder": "Encoder",
    "head": "Head",
    "embedder": "Embedder",
    "latent_head": "Latent head",
    "vae": "VAE decoder",
}
ENCODES, DECODES = ("encoder", "head"), ("embedder", "latent_head", "vae")
WORKS = {"encode": "Encode", "embed": "Embed", "decode": "Decode"}
RAW = 3  # bytes of a pixel
MIB = 2**20

TIME_NOTE = (
    "Wall-clock time of one square picture of noise, from pixels in memory to codes (encode), codes"
    " to features (embed), codes to a picture (decode); no file is read. Each row is a process of"
    " its own. Median and minimum of {repeats} repeats after one that is not counted; other work on"
    " the machine makes the median larger, the minimum less so."
)
MEMORY_NOTE = (
    "The most that the first such piece of work held above what was held before it, weights"
    " included; the process is all of it at its peak, weights and libraries too. On a CPU the"
    " resident set as Linux counts its peak (VmHWM, reset before each piece), on a GPU what torch's"
    " allocator gave out."
)
FLOPS_NOTE = (
    "Matrix products and convolutions, two operations a multiply-add, counted from the shapes of"
    " the network; the VAE's by torch. To encode are encoder and head, to decode all the others; a"
    " language model that reads codes runs the embedder alone."
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What is asked.

    Attributes:
        models: tokenizers by what rows call them.
        where: what ``viq.load`` takes for each.
        sizes: sides of square pictures, in pixels.
        dtypes: in which they run.
        device: where they run.
        threads: of torch, in the processes that are timed.
        repeats: of each measurement.
    """

    models: Mapping[str, Tokenizer]
    where: Mapping[str, str]
    sizes: Sequence[int]
    dtypes: Sequence[str]
    device: str
    threads: int
    repeats: int

    def asked(self) -> dict[str, Any]:
        """All that decides a measurement; sizes and dtypes may be added later."""
        models = {
            name: {"fingerprint": one.fingerprint, "parameters": parameters(one)}
            for name, one in self.models.items()
        }
        return {
            "evaluation": "cost",
            "models": models,
            "device": self.device,
            "hardware": hardware(self.device),
            "threads": self.threads,
            "repeats": self.repeats,
            "torch": torch.__version__,
        }

    def keys(self) -> list[tuple[str, int, str]]:
        """All measurements as (model, side, dtype), in the order of the tables."""
        return [
            (name, side, dtype)
            for name in self.models
            for side in self.sizes
            for dtype in self.dtypes
        ]

    def run(self, samples: Samples) -> Iterator[tuple[str, InputError | None]]:
        """Does what is not measured yet; gives what each one is, and what went wrong with it."""
        for name, side, dtype in self.keys():
            title, key = f"{name}, {side} pixels, {dtype}", _key(side, dtype)
            if key not in samples.of(name):
                what = Measurement(
                    model=self.where[name],
                    side=side,
                    dtype=dtype,
                    device=self.device,
                    threads=self.threads,
                    repeats=self.repeats,
                )
                try:
                    samples.add(name, {key: in_process(what)})
                except InputError as error:
                    yield title, error
                    continue
            yield title, None

    def tables(self, samples: Samples) -> tuple[Table, ...]:
        """All tables, of what has been measured."""
        return (
            self._parameters(),
            self._operations(),
            self._tokens(),
            self._times(samples),
            self._memory(samples),
        )

    def notes(self) -> list[str]:
        """What was left out and why."""
        found = []
        for name, tokenizer in self.models.items():
            if tokenizer.config.network.head.quantizer.code_levels is None:
                found.append(
                    f"{name} is proximal: encoding ends with its latents, and there are no codes to"
                    " embed, decode or store."
                )
            elif (why := why_no_decoder(tokenizer)) is not None:
                found.append(f"{name} does not decode: {why}.")
        return found

    def figures(self, samples: Samples, folder: Path) -> list[Figure]:
        """Draws time, operations and memory against pixels."""
        times: Lines = {}
        held: Lines = {}
        for name in self.models:
            for dtype in self.dtypes:
                for side in self.sizes:
                    record = samples.of(name).get(_key(side, dtype), {})
                    for work, seconds in record.get("seconds", {}).items():
                        place = (f"{name}, {dtype}", work)
                        times.setdefault(place, []).append((side, median(seconds)))
                        held.setdefault(place, []).append((side, record["bytes"][work] / MIB))
        counts: Lines = {}
        for name, tokenizer in self.models.items():
            for side in self.sizes:
                parts = operations(tokenizer, side)
                for work, total in (("encode", _sum(parts, ENCODES)), ("decode", _total(parts))):
                    if total is not None:
                        counts.setdefault((name, work), []).append((side, total / 1e9))
        drawn = [
            _draw(times, "median time (s)", folder / "time.png", "Time against pixels"),
            _draw(counts, "operations (GFLOP)", folder / "flops.png", "Operations against pixels"),
            _draw(held, "memory (MiB)", folder / "memory.png", "Memory against pixels"),
        ]
        return [figure for figure in drawn if figure is not None]

    def _parameters(self) -> Table:
        rows = []
        for name, tokenizer in self.models.items():
            parts = parameters(tokenizer)
            sums = [_sum(parts, ENCODES), _total(parts)]
            rows.append((name, *[_over(n, 1e6) for n in (*parts.values(), *sums)]))
        return Table(
            title="Parameters",
            columns=(
                Column(name="Model"),
                *(Column(name=title, unit="M") for title in (*PARTS.values(), "To encode")),
                Column(name="To decode", unit="M"),
            ),
            rows=tuple(rows),
            note="Of what encodes and decodes; the VAE's encoder is used in training alone.",
        )

    def _operations(self) -> Table:
        rows = []
        for name, tokenizer in self.models.items():
            for side in self.sizes:
                parts = operations(tokenizer, side)
                sums = [_sum(parts, ENCODES), _total(parts)]
                cells = [_over(n, 1e9) for n in (*parts.values(), *sums)]
                rows.append((name, _size(side), *cells))
        return Table(
            title="Operations",
            columns=(
                Column(name="Model"),
                Column(name="Picture"),
                *(Column(name=title, unit="GFLOP") for title in (*PARTS.values(), "To encode")),
                Column(name="To decode", unit="GFLOP"),
            ),
            rows=tuple(rows),
            note=FLOPS_NOTE,
        )

    def _tokens(self) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for name, tokenizer in self.models.items():
            head = tokenizer.config.network.head
            for side in self.sizes:
                patches = math.prod(square_grid(tokenizer, side))
                cells: list[Cell] = [name, _size(side), patches]
                if (levels := head.quantizer.code_levels) is None:
                    rows.append((*cells, None, None, None, None, None))
                    continue
                size, codes = math.prod(levels), patches * head.code_heads
                num_bytes = codes * (2 if size <= 2**16 else 4)
                bits = codes * math.log2(size)
                shares = (8 * num_bytes / side**2, bits / side**2, RAW * side**2 / num_bytes)
                rows.append((*cells, codes, num_bytes, *shares))
        return Table(
            title="Tokens and bytes",
            columns=(
                Column(name="Model"),
                Column(name="Picture"),
                Column(name="Patches"),
                Column(name="Codes"),
                Column(name="Stored", unit="bytes"),
                Column(name="Stored", unit="bpp", digits=3),
                Column(name="Capacity", unit="bpp", digits=3),
                Column(name="Raw RGB is larger by", unit="x", digits=1),
            ),
            rows=tuple(rows),
            note="Stored are 16 bits a code (32 where the codebook has more than 65,536 entries);"
            " capacity is log2 of the codebook's size for each code, which no entropy exceeds.",
        )

    def _times(self, samples: Samples) -> Table:
        rows = []
        for name, side, dtype in self.keys():
            seconds = samples.of(name).get(_key(side, dtype), {}).get("seconds", {})
            cells: list[Cell] = []
            for work in WORKS:
                some = seconds.get(work)
                cells += [None, None] if some is None else [1e3 * median(some), 1e3 * min(some)]
            rows.append((name, _size(side), dtype, hardware(self.device), self.threads, *cells))
        both = [(title, what) for title in WORKS.values() for what in ("median", "minimum")]
        return Table(
            title="Time",
            columns=(
                *_of_run(),
                *(Column(name=f"{title}, {what}", unit="ms", digits=1) for title, what in both),
            ),
            rows=tuple(rows),
            note=TIME_NOTE.format(repeats=self.repeats),
        )

    def _memory(self, samples: Samples) -> Table:
        rows = []
        for name, side, dtype in self.keys():
            record = samples.of(name).get(_key(side, dtype), {})
            held = [record.get("bytes", {}).get(work) for work in WORKS]
            cells = [_over(n, MIB) for n in (*held, record.get("process_bytes"))]
            rows.append((name, _size(side), dtype, hardware(self.device), self.threads, *cells))
        return Table(
            title="Memory",
            columns=(
                *_of_run(),
                *(Column(name=title, unit="MiB", digits=0) for title in WORKS.values()),
                Column(name="Process", unit="MiB", digits=0),
            ),
            rows=tuple(rows),
            note=MEMORY_NOTE,
        )


def parameters(tokenizer: Tokenizer) -> dict[str, int | None]:
    """How many each part has; None where there is no such part."""
    found: dict[str, int | None] = {}
    with torch.device("meta"):
        for part in ("encoder", "head", "embedder", "latent_head"):
            has = getattr(tokenizer.config.network, part) is not None
            found[part] = _count(build_part(tokenizer.config.network, part)) if has else None
    found["vae"] = None
    if why_no_decoder(tokenizer) is None:
        autoencoder = tokenizer.vae().autoencoder
        parts = [getattr(autoencoder, name, None) for name in ("post_quant_conv", "decoder")]
        found["vae"] = sum(_count(part) for part in parts if part is not None)
    return found


def operations(tokenizer: Tokenizer, side: int) -> dict[str, int | None]:
    """Floating-point operations of each part for a square picture; None for those not there."""
    config = tokenizer.config.network
    rows, columns = square_grid(tokenizer, side)
    patches = rows * columns
    tokens = patches * config.head.code_heads
    rounded = flops.rounding(config.head.quantizer, tokens)
    found: dict[str, int | None] = {
        "encoder": flops.encoder(config.encoder, [patches]).forward,
        "head": flops.head(config.head, [patches]).plus(rounded).forward,
        "embedder": flops.embedder(config.embedder, patches).forward,
        "latent_head": None,
        "vae": None,
    }
    if (latent_head := config.latent_head) is not None:
        found["latent_head"] = flops.latent_head(latent_head, [patches]).forward
        if why_no_decoder(tokenizer) is None:
            scale = latent_head.upscale
            shape = (latent_head.latent_channels, scale * rows, scale * columns)
            found["vae"] = flops.vae_decoder(tokenizer.vae(), shape).forward
    return found


def in_process(what: Measurement) -> dict[str, Any]:
    """Measures in a new process, so that nothing that ran before has a part in it.

    Raises:
        InputError: it could not be measured, or the process was ended from outside.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, what).result()
        except BrokenProcessPool as error:
            raise InputError("the process that measured was killed: out of memory?") from error


Lines = dict[tuple[str, str], list[tuple[int, float]]]  # (name, work) -> (side, value)


def _draw(lines: Lines, label: str, path: Path, title: str) -> Figure | None:
    """Encoding at the left, decoding at the right, on the same axes; both logarithmic."""
    if not lines:
        return None
    figure, axes = new_figure(columns=2, height=400)
    names = list(dict.fromkeys(name for name, _ in lines))
    sides = sorted({side for points in lines.values() for side, _ in points})
    for axis, work in zip(axes, ("encode", "decode"), strict=True):
        for index, name in enumerate(names):
            if (points := lines.get((name, work))) is not None:
                places, values = zip(*((side**2, value) for side, value in points), strict=True)
                axis.plot(places, values, label=name, **series(index))
        axis.set(xscale="log", yscale="log", xlabel="pixels", ylabel=label, title=work)
        axis.set_xticks([side**2 for side in sides], [f"{side}²" for side in sides])
        axis.minorticks_off()
    low = min(axis.get_ylim()[0] for axis in axes if axis.lines)
    high = max(axis.get_ylim()[1] for axis in axes if axis.lines)
    for axis in axes:
        axis.set_ylim(low, high)
    axes[0].legend()
    save_figure(figure, path)
    caption = f"{label} to encode and to decode one square picture, against its pixels, of each"
    return Figure(file=path.name, title=title, caption=f"{caption} model: {', '.join(names)}.")


def _of_run() -> tuple[Column, ...]:
    names = ("Model", "Picture", "Arithmetic", "Hardware", "Threads")
    return tuple(Column(name=name) for name in names)


def _key(side: int, dtype: str) -> str:
    return f"{side} {dtype}"


def _size(side: int) -> str:
    return f"{side} × {side}"


def _sum(parts: Mapping[str, int | None], names: Sequence[str]) -> int | None:
    some = [parts[name] for name in names]
    return None if None in some else sum(number for number in some if number is not None)


def _total(parts: Mapping[str, int | None]) -> int | None:
    """Of what decodes."""
    return _sum(parts, DECODES)


def _over(number: int | None, unit: float) -> float | None:
    return None if number is None else number / unit


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
