"""What ``mllm_step.py`` trains on: its rows, their FLOPs, and a code data set.

Axes: N patches of a step's images, Q code heads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mllm_sizes
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from viq.chat import image_tokens
from viq.codes import Codes
from viq.evaluation import flops
from viq.evaluation.flops import Flops
from viq.store import COLUMNS, CodeDataset, CodesInfo, CodeWriter, codes_of_row

GRID, POOL, PATCH = (48, 48), 2, 16  # 768^2 pixels
PATCHES = GRID[0] * GRID[1]
IMAGE_TOKENS = image_tokens(GRID, POOL)
TEXT_TOKENS = 192
RANK = 64
WAYS = ("pixels", "codes")
FORWARD = ("vision", "projector", "language model")
PARTS = ("reading", *FORWARD, "backward", "optimizer")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the benchmark."""

    lm: str
    tokens: int = 4096
    share: float | None = None  # of image tokens; None: what 192 tokens of text leave
    lora: bool = False
    train_embedder: bool = False

    @property
    def name(self) -> str:
        """What it differs in."""
        share = None if self.share is None else f"share {self.share}"
        kinds = (share, "LoRA" * self.lora, "embedder trains" * self.train_embedder)
        return ", ".join(kind for kind in kinds if kind) or "full"

    @property
    def text(self) -> int:
        """Tokens of text a sample."""
        if self.share is None:
            return TEXT_TOKENS
        return round(IMAGE_TOKENS * (1 - self.share) / self.share)

    @property
    def samples(self) -> int:
        """How many are packed into a sequence."""
        fitting = self.tokens / (IMAGE_TOKENS + self.text)
        # For a given share the sequence is as long as its whole samples, without filling.
        return int(fitting) if self.share is None else max(1, round(fitting))

    @property
    def lengths(self) -> list[int]:
        """Of the sequence's texts; the last one is filling, as in training."""
        lengths = [IMAGE_TOKENS + self.text] * self.samples
        filling = self.tokens - sum(lengths) if self.share is None else 0
        return [*lengths, filling] if filling else lengths

    @property
    def supervised(self) -> int:
        """Tokens that have a loss, in all samples."""
        return self.samples * (self.text // 2)


MAIN = [Case(lm=lm, tokens=tokens) for tokens in (4096, 16384) for lm in mllm_sizes.LMS]
BESIDE = [
    *(Case(lm="0.5B", share=share) for share in (0.25, 0.5, 0.75, 0.9)),
    Case(lm="0.5B", lora=True),
    Case(lm="0.5B", train_embedder=True),
]


def counted(case: Case, scale: str) -> dict[str, dict[str, Flops]]:
    """FLOPs of each part of each way's step."""
    network, config = mllm_sizes.vision(scale), mllm_sizes.language_model(scale, case.lm)
    images, patches = [PATCHES] * case.samples, PATCHES * case.samples
    trains = case.train_embedder
    visions = {
        "pixels": flops.encoder(network.encoder, images),
        "codes": flops.embedder(network.embedder, patches, folded=not trains, trains=trains),
    }
    rank = RANK if case.lora else None
    lm = flops.language_model(config, case.lengths, case.supervised, rank=rank)
    return {
        way: {
            "vision": vision,
            "projector": flops.projector(
                network.encoder.width,
                config.hidden_size,
                patches,
                POOL,
                input=trains and way == "codes",
            ),
            "language model": lm,
        }
        for way, vision in visions.items()
    }


def saved(seconds: dict[str, float]) -> float:
    """The share of the pixels' time that codes save."""
    return 1 - seconds["codes"] / seconds["pixels"]


def counted_savings(case: Case, scale: str) -> tuple[float, float]:
    """Of a forward pass and of a step, by FLOPs."""
    ways = {way: Flops().plus(*parts.values()) for way, parts in counted(case, scale).items()}
    forward = saved({way: total.forward for way, total in ways.items()})
    return forward, saved({way: total.both for way, total in ways.items()})


def write_codes(folder: Path, images: int, levels: tuple[int, ...], heads: int) -> CodeDataset:
    """A code data set of random codes."""
    rng = np.random.default_rng(0)
    info = CodesInfo(fingerprint="0" * 64, levels=levels, code_heads=heads, patch_size=PATCH)
    pixels = (GRID[0] * PATCH, GRID[1] * PATCH)
    (folder / "data").mkdir(parents=True)
    path = folder / "data" / "train-00000-of-00001.parquet"
    with CodeWriter(path, info, pa.schema([("id", pa.string())])) as writer:
        for number in range(images):
            codes = Codes(
                rng.integers(info.codebook_size, size=(PATCHES, heads)).astype(np.uint16),
                grid_size=GRID,
                original_size=pixels,
                encoded_size=pixels,
                levels=info.levels,
                fingerprint=info.fingerprint,
            )
            writer.write(pa.table({"id": [str(number)]}), [[codes]])
    return CodeDataset(folder)


def code_batches(dataset: CodeDataset, images: int) -> Iterator[Tensor]:
    """Codes int32 (N, Q) of so many images at a time, without end."""
    while True:
        for batch in dataset.batches(columns=COLUMNS, batch_size=images):
            if batch.num_rows == images:
                rows = [_codes_of(batch, row, dataset.info) for row in range(images)]
                yield torch.from_numpy(np.concatenate(rows).astype(np.int32))


def _codes_of(batch: pa.RecordBatch, row: int, info: CodesInfo) -> np.ndarray:
    cells = {name: batch.column(name)[row] for name in COLUMNS}
    values = {"codes": cells.pop("codes").values.to_numpy()}
    values |= {name: cell.as_py() for name, cell in cells.items()}
    (codes,) = codes_of_row(values, info, f"row {row}")
    return codes.values
