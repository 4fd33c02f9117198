"""What one run has learned, on held-out data: text loss, PSNR and codes at several sizes.

python benchmarks/ablations/figures.py RUN --data CORPUS --sides 96 160 256 384 --json figures.json

The same pictures are seen at every size, none larger than it is. RUN is of stage quantize. With
--reader a model is written that `viq eval understanding` can ask.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from budget import TASKS
from tqdm import tqdm

from viq.data.config import PhaseConfig
from viq.data.packing import TextPacking
from viq.data.readers import patch_reader
from viq.data.sample import Sample, Source
from viq.data.sources import SourceConfig, open_source
from viq.evaluation.files import whole_text
from viq.external.vae import Vae
from viq.metrics.quality import psnr
from viq.metrics.rate import entropy
from viq.mllm import MultimodalModel
from viq.model.network import Network
from viq.tokenizer import load
from viq.training.handover import has, network_of
from viq.training.stages.text_aligned import by_size, images_of

CORPUS, DRAWN = 64, 48  # samples of the corpus, and of each kind that is drawn
AT_ONCE = 16
PATCH_LIMIT, TOKEN_LIMIT = 4096, 2048  # of a sample


class Held:
    """Sums over the held-out samples of one source."""

    def __init__(self) -> None:
        self.loss, self.tokens = 0.0, 0
        self.decibels: list[float] = []
        self.codes: list[np.ndarray] = []
        self.pixels = 0


def measure(
    network: Network,
    mllm: MultimodalModel,
    vae: Vae | None,
    sources: dict[str, list[Sample]],
    phase: PhaseConfig,
) -> dict[str, Any]:
    """The figures at one size."""
    packing = TextPacking(
        phase, mllm.tokenizer, patch_reader(phase, network.config.encoder.patch_size)
    )
    found = {name: _held(network, mllm, vae, some, packing) for name, some in sources.items()}
    codes = np.concatenate([part for held in found.values() for part in held.codes])
    quantizer = network.config.head.quantizer
    size = int(np.prod(quantizer.code_levels or ()))
    bits = entropy(codes, size)
    decibels = [value for held in found.values() for value in held.decibels]
    return {
        "text": {name: held.loss / held.tokens for name, held in found.items()},
        "psnr": {name: float(np.mean(h.decibels)) for name, h in found.items() if h.decibels},
        "psnr_all": float(np.mean(decibels)) if decibels else None,
        "entropy": float(bits.mean()),  # bits a code, the mean of the code heads
        "different": [len(np.unique(column)) for column in codes.T],  # codes of each head
        "codes": len(codes),  # of each head
        "information_bpp": float(bits.sum()) * len(codes) / sum(h.pixels for h in found.values()),
    }


@torch.no_grad()
def _held(
    network: Network,
    mllm: MultimodalModel,
    vae: Vae | None,
    samples: Sequence[Sample],
    packing: TextPacking,
) -> Held:
    held = Held()
    for start in range(0, len(samples), AT_ONCE):
        batch = packing.pack_one(samples[start : start + AT_ONCE])
        seen = network(batch.pixels, batch.packing)
        loss = mllm.packed_loss(
            seen.embedded,
            batch.packing,
            batch.pool,
            batch.input_ids,
            batch.labels,
            batch.lengths,
            batch.image_positions,
        )
        held.loss += float(loss.sum)
        held.tokens += batch.supervised
        held.codes.append(seen.codes.numpy())
        held.pixels += len(batch.pixels) * network.config.encoder.patch_size**2
        if network.latent_head is not None:
            images = images_of(batch.pixels, batch.packing, network.config.encoder.patch_size)
            predicted = network.latent_head(seen.embedded, batch.packing)
            rebuilt = predicted if vae is None else by_size(vae.decode, predicted)
            pairs = zip(images, rebuilt, strict=True)
            held.decibels += [psnr(image, other.clamp(-1, 1)) for image, other in pairs]
    return held


def spread(source: Source, count: int) -> list[Sample]:
    """So many samples, evenly over the source: a corpus may be sorted by kind."""
    return [source[int(i)] for i in np.linspace(0, len(source) - 1, min(count, len(source)))]


def held_out(data: Path | None) -> dict[str, list[Sample]]:
    """Captioned pictures, where there are any, and drawn ones."""
    configs = [
        (SourceConfig(name=task, kind="synthetic", tasks=(task,), split="validation"), DRAWN)
        for task in TASKS
    ]
    if data is not None:
        config = SourceConfig(name="captions", path=str(data), split="validation")
        configs.append((config, CORPUS))
    return {config.name: spread(open_source(config), count) for config, count in configs}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a run of stage quantize")
    parser.add_argument("--data", type=Path, help="the corpus")
    parser.add_argument("--sides", type=int, nargs="+", required=True, help="pixels")
    parser.add_argument("--lm", help="where its language model is now, if not where it was")
    parser.add_argument("--reader", type=Path, help="folder for a model that can be asked")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    tokenizer = load(args.run / "tokenizer")
    mllm = MultimodalModel.from_pretrained(args.run / "mllm", lm=args.lm).eval()
    last = json.loads((args.run / "run.json").read_text())["config"]["data"]["phases"][-1]
    network = network_of(tokenizer).eval()
    vae = tokenizer.vae() if has(str(args.run / "tokenizer"), "vae") else None
    sources = held_out(args.data)
    found = {}
    for side in tqdm(args.sides, unit="size", disable=None):
        phase = PhaseConfig(
            area=side**2,
            pool=mllm.config.pool,
            seq_len=TOKEN_LIMIT,
            max_patches=PATCH_LIMIT,
            weights=dict.fromkeys(sources, 1.0),
            tokens=TOKEN_LIMIT,
            spell_answers=last["spell_answers"],  # as the run has learned to answer
        )
        found[str(side)] = measure(network, mllm, vae, sources, phase)
    if args.reader is not None:
        mllm.read_codes_of(str((args.run / "tokenizer").resolve()))
        mllm.save_pretrained(args.reader / "mllm")
    quantizer = network.config.head.quantizer
    counts = {name: len(some) for name, some in sources.items()}
    whole = {
        "sides": found,
        "samples": counts,
        "code_heads": network.config.head.code_heads,
        "codebook_size": int(np.prod(quantizer.code_levels or ())),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    whole_text(args.json, json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
