"""Makes the bundled model of two runs: a tokenizer that decodes, and what a language model adds.

    python benchmarks/nano/ship.py --tokenizer runs/decoder --mllm runs/sft

Weights are rounded to bfloat16, which changes a few codes in a hundred, so the shipped tokenizer
has a fingerprint of its own. The run of stage sft must have read the codes of just this tokenizer,
before the rounding or after it. Without --mllm only the tokenizer is written, for example to
extract the codes of the rounded one and to train on those.

The folder is written whole beside its place, read again and tried, and only then takes it.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from viq.checkpoint import WEIGHTS, fingerprint, save
from viq.errors import FingerprintError, InputError, ModelError, ViQError
from viq.metrics.quality import psnr
from viq.mllm import MultimodalModel
from viq.mllm.files import MLLM
from viq.model.network import PARTS
from viq.tokenizer import Tokenizer, load

MOST = 40_000_000  # bytes of all files together
SAMPLES = WEIGHTS.parent / "samples"
QUESTION = "What is this?"
STORED = torch.bfloat16


class Change(NamedTuple):
    """What rounding did to sample pictures: means over them."""

    codes_equal: float  # share
    psnr_before: float  # dB
    psnr_after: float


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Makes the bundled model of two runs.")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a run of stage decoder")
    parser.add_argument("--mllm", type=Path, help="a run of stage sft")
    parser.add_argument("--lm", default="smollm2", help="the language model that it names")
    parser.add_argument("--rank", type=int, help="of its adapters, if lower than they trained with")
    parser.add_argument("--out", type=Path, default=WEIGHTS / "nano", help="the bundled folder")
    parser.add_argument("--most", type=int, default=MOST, help="bytes of all files together")
    args = parser.parse_args()
    try:
        ship(args.tokenizer, args.mllm, args.out, lm=args.lm, rank=args.rank, most=args.most)
    except (ViQError, OSError) as error:
        print(f"ship.py: error: {error}", file=sys.stderr)
        return 2
    return 0


def ship(
    run: Path,
    mllm: Path | None,
    out: Path,
    *,
    lm: str = "smollm2",
    rank: int | None = None,
    most: int = MOST,
) -> None:
    """Writes ``out`` anew and prints what is in it.

    Raises:
        InputError: a run lacks its part, the two do not belong together, or it all is too large.
    """
    # Two folders up, for beside ``out`` all folders are bundled models.
    new = out.parent.parent / f".{out.name}.new.{os.getpid()}"
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        source = part_of(run, "tokenizer")
        before, tokenizer = load(source), write_tokenizer(source, new)
        print(f"tokenizer {tokenizer.fingerprint[:12]}, {before.fingerprint[:12]} before rounding")
        change = compare(before, tokenizer)
        print(
            f"on {SAMPLES.name}: {change.codes_equal:.1%} of codes as before,"
            f" {change.psnr_before:.2f} dB before, {change.psnr_after:.2f} dB after"
        )
        if mllm is not None:
            write_mllm(mllm, new / MLLM, before, tokenizer, name=out.name, lm=lm, rank=rank)
            print(f"{QUESTION} {try_mllm(new, tokenizer)!r}")
        refuse_places(new)
        for path in files_of(new):
            path.chmod(0o644)  # safetensors writes for the owner alone
        sizes = {str(path.relative_to(new)): path.stat().st_size for path in files_of(new)}
        print_sizes(new, sizes)
        if (total := sum(sizes.values())) > most:
            raise InputError(f"the files take {total:,} bytes, more than {most:,}", out)
        take_place(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    print(f"written: {out}")


def part_of(run: Path, part: str) -> Path:
    """What a run has exported.

    Raises:
        InputError: it has not.
    """
    if not (run / part / "config.json").is_file():
        raise InputError(f"no {part}/ here; name the folder of a run that has ended", run)
    return run / part


def write_tokenizer(source: Path, folder: Path) -> Tokenizer:
    """Writes a tokenizer rounded; returns what is read from there."""
    rounded = load(source, dtype=STORED)
    config = rounded.config
    names = [name for name in PARTS if getattr(config.network, name) is not None]
    parts = {name: rounded.part(name) for name in names}
    own = fingerprint(config.image, parts["encoder"], parts["head"])
    vae = rounded.vae()
    vae.autoencoder.register_to_config(_name_or_path="")  # where it lay in training
    save(folder, replace(config, fingerprint=own), parts, vae.save)
    read = load(folder)
    if fingerprint(read.config.image, read.part("encoder"), read.part("head")) != own:
        raise ModelError("what was written is read as another tokenizer", folder)
    return read


def write_mllm(
    run: Path,
    folder: Path,
    before: Tokenizer,
    tokenizer: Tokenizer,
    *,
    name: str,
    lm: str,
    rank: int | None,
) -> None:
    """Writes adapters, projector, embedder and processor, rounded; they name ``name`` and ``lm``.

    Raises:
        InputError: the model reads no codes, or another tokenizer's; or its adapters cannot have
            that rank.
    """
    source = part_of(run, MLLM)
    model = MultimodalModel.from_pretrained(source, lm=lm)
    config = model.config
    if config.sees != "codes" or config.adapter is None or config.lm != lm:
        raise InputError(
            f"reads {config.sees}, with adapter {config.adapter} in {config.lm}; what ships reads"
            f" codes, with adapters in {lm}",
            source,
        )
    if config.fingerprint not in (before.fingerprint, tokenizer.fingerprint):
        raise FingerprintError(before.fingerprint, str(config.fingerprint), source)
    config.fingerprint, config.image = tokenizer.fingerprint, tokenizer.config.image
    config.tokenizer = name
    config.text_config._name_or_path = lm  # not where its files are on this machine
    for adapter in model.lm.peft_config.values():
        adapter.base_model_name_or_path = lm
    state = model.state_dict()
    if rank is not None:
        state |= lowered(model, rank, source)
    rounded = {k: v.to(STORED) if v.is_floating_point() else v for k, v in state.items()}
    model.save_pretrained(folder, state_dict=rounded)
    for path in folder.rglob("*.json"):  # the vocabulary takes less than half as much so
        content = json.loads(path.read_bytes())
        path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


def lowered(model: MultimodalModel, rank: int, source: Path) -> dict[str, torch.Tensor]:
    """The nearest adapters of a lower rank, of which ``model``'s configs tell from here on.

    Raises:
        InputError: they have DoRA's magnitudes, or no higher rank.
    """
    adapter = model.config.adapter
    assert adapter is not None
    if adapter.dora or not 0 < rank <= adapter.rank:
        raise InputError(f"has {adapter}, which cannot be lowered to rank {rank}", source)
    state, found = model.state_dict(), {}
    for name in [name for name in state if ".lora_A." in name]:
        other = name.replace(".lora_A.", ".lora_B.")
        left, values, right = torch.linalg.svd(
            state[other].float() @ state[name].float(), full_matrices=False
        )
        root = (values[:rank] * rank / adapter.rank).sqrt()  # alpha / rank multiplies them again
        found[name], found[other] = root[:, None] * right[:rank], left[:, :rank] * root
    model.config.adapter = replace(adapter, rank=rank)
    for config in model.lm.peft_config.values():
        config.r = rank
    return found


def compare(before: Tokenizer, after: Tokenizer) -> Change:
    """What rounding did to the sample pictures."""
    found = []
    for path in sorted(SAMPLES.glob("*.png")):
        picture = np.asarray(Image.open(path).convert("RGB"))
        first, second = before.encode(path), after.encode(path)
        equal = (first.values == second.values).mean()
        decoded = before.decode(first), after.decode(second)
        found.append([equal, *(psnr(picture, np.asarray(one)) for one in decoded)])
    return Change(*np.mean(found, axis=0).tolist())


def try_mllm(folder: Path, tokenizer: Tokenizer) -> str:
    """What the model that was written says of a sample picture.

    Raises:
        InputError: it does not load, or does not read the tokenizer's codes.
    """
    model = MultimodalModel.from_pretrained(folder / MLLM)
    codes = tokenizer.encode(SAMPLES / "cat.png")
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    inputs = model.processor()([{"role": "user", "content": content}], [codes])
    answer = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    words = model.tokenizer.decode(
        answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return str(words).strip()


def refuse_places(folder: Path) -> None:
    """Sees that no file names a place of this machine.

    Raises:
        InputError: one does.
    """
    for path in folder.rglob("*.json"):
        if path.name == "tokenizer.json":  # words of a language, some with a slash
            continue
        places = [text for text in texts_in(json.loads(path.read_bytes())) if text.startswith("/")]
        if places:
            raise InputError(f"would be shipped with {places[0]} in it", path.name)


def texts_in(content: Any) -> Iterator[str]:
    """All texts in a JSON document."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping | list):
        for part in content.values() if isinstance(content, Mapping) else content:
            yield from texts_in(part)


def files_of(folder: Path) -> list[Path]:
    """All files below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def print_sizes(folder: Path, sizes: Mapping[str, int]) -> None:
    """A line for each file, and what is there twice."""
    for name, size in sizes.items():
        print(f"{size:>12,}  {name}")
    print(f"{sum(sizes.values()):>12,}  bytes together")
    if (folder / MLLM).is_dir():
        embedder = load(folder, dtype=STORED).part("embedder")
        twice = sum(p.numel() * p.element_size() for p in embedder.state_dict().values())
        print(f"{twice:>12,}  bytes of these are the embedder in {MLLM}/, which stands alone so")


def take_place(new: Path, out: Path) -> None:
    """Puts a folder where another may be, which stays until then."""
    old = out.parent.parent / f".{out.name}.old.{os.getpid()}"
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
