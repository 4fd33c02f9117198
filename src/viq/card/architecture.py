"""What a model's folder holds: its parts, their sizes on disk, and what its config says.

The folder is a saved tokenizer, a multimodal model, or a tokenizer with the latter in ``mllm/``.
Only the heads of the files are read.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from viq.card.page import table
from viq.checkpoint import TokenizerConfig, read_config
from viq.errors import ModelError

MLLM = "mllm"
# In the order of what happens to a picture.
NAMES = {
    "encoder": "encoder: pixels to features",
    "pool": "pool: features to one semantic token",
    "head": "quantisation head: features to codes",
    "embedder": "code embedder: codes to features",
    "latent_head": "latent head: features to VAE latents",
    "vae decoder": "pixel decoder: VAE latents to pixels",
    "vae encoder": "VAE encoder: used in training alone",
    "mllm projector": "projector: features to the language model's width",
    "mllm adapter": "adapters in the language model",
    "mllm embedder": "code embedder, once more, so that mllm/ stands alone",
    "mllm lm": "language model",
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Tensors that belong together."""

    name: str  # of NAMES
    parameters: int
    dtypes: tuple[str, ...]  # as safetensors names them
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a folder holds."""

    folder: Path
    tokenizer: TokenizerConfig | None
    mllm: Mapping[str, Any] | None  # config.json of the multimodal model, as it is
    parts: tuple[Part, ...]
    total_bytes: int  # of all files

    @property
    def levels(self) -> tuple[int, ...] | None:
        """What codes are digits of; None: it makes none."""
        return None if self.tokenizer is None else _levels(self.tokenizer)

    @property
    def decodes(self) -> bool:
        """Whether there are pixels at the end."""
        return any(part.name == "vae decoder" for part in self.parts) and (
            self.tokenizer is not None and self.tokenizer.network.latent_head is not None
        )

    @property
    def lm(self) -> str | None:
        """The language model that it needs besides; None: none, or it is in the folder."""
        lm = None if self.mllm is None else str(self.mllm["lm"])
        return None if lm is None or lm.startswith(".") else lm

    def markdown(self) -> str:
        """Facts, then a table of the parts."""
        rows = [
            [NAMES[p.name], f"{p.parameters:,}", ", ".join(p.dtypes), f"{p.num_bytes:,}"]
            for p in self.parts
        ]
        together = sum(p.parameters for p in self.parts), sum(p.num_bytes for p in self.parts)
        rows.append(["all", f"{together[0]:,}", "", f"{together[1]:,}"])
        sizes = table(["part", "parameters", "stored as", "bytes"], rows, numbers=3)
        files = f"All files of the folder together take {self.total_bytes / 1e6:,.1f} MB."
        facts = "\n".join(f"- {fact}" for fact in self.facts())
        return f"{facts}\n\n{sizes}\n\n{files}"

    def facts(self) -> list[str]:
        """What the configs say, in sentences."""
        return [*_tokenizer_facts(self.tokenizer), *_mllm_facts(self.mllm)]


def read_model(folder: Path) -> Model:
    """Reads a folder.

    Raises:
        ModelError: it is no model, or a file is damaged.
    """
    path = folder / "config.json"
    is_tokenizer = _config(path).get("model_type") == "viq"
    tokenizer = read_config(path, TokenizerConfig) if is_tokenizer else None
    mllm = folder if tokenizer is None else folder / MLLM
    config = None
    if (mllm / "config.json").is_file():
        config = _config(mllm / "config.json")
        if config.get("model_type") != "viq_multimodal" or "lm" not in config:
            raise ModelError("not a model that this version knows", mllm)
    found: dict[str, tuple[int, set[str], int]] = {}
    for name, dtype, count, size in _tensors(folder, mllm if config is not None else None):
        before = found.get(name, (0, set(), 0))
        found[name] = (before[0] + count, before[1] | {dtype}, before[2] + size)
    return Model(
        folder=folder,
        tokenizer=tokenizer,
        mllm=config,
        parts=tuple(
            Part(
                name=n,
                parameters=found[n][0],
                dtypes=tuple(sorted(found[n][1])),
                num_bytes=found[n][2],
            )
            for n in NAMES
            if n in found
        ),
        total_bytes=sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        reason = "no config.json here, so this is not a saved model"
        raise ModelError(reason, path.parent) from None
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"not a model's config ({error!r})", path) from error
    return found


def _tensors(folder: Path, mllm: Path | None) -> Iterator[tuple[str, str, int, int]]:
    """(name of its part, dtype, numbers, bytes) of each tensor."""
    if mllm != folder:
        yield from (_named(name, "", rest) for name, *rest in _heads(folder / "model.safetensors"))
        for path in sorted((folder / "vae").glob("*.safetensors")):
            for name, *rest in _heads(path):
                yield _named(name if name.startswith("encoder.") else "decoder.", "vae ", rest)
    if mllm is not None:
        heads = _heads(mllm / "model.safetensors")
        yield from (_named(name, "mllm ", rest) for name, *rest in heads)
        for part in ("adapter", "lm"):
            for path in sorted((mllm / part).glob("*.safetensors")):
                yield from (_named(part, "mllm ", rest) for _, *rest in _heads(path))


def _named(tensor: str, prefix: str, rest: list[Any]) -> tuple[str, str, int, int]:
    return (prefix + tensor.partition(".")[0], *rest)


def _heads(path: Path) -> Iterator[tuple[str, str, int, int]]:
    """(name, dtype, numbers, bytes) of each tensor of a file."""
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_slice(name)
                count = math.prod(tensor.get_shape())
                yield name, tensor.get_dtype(), count, count * _bytes_of(tensor.get_dtype())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read ({error})", path) from error


def _bytes_of(dtype: str) -> int:
    """Of a safetensors name: F32, BF16, I64, F8_E4M3, BOOL."""
    digits = "".join(c for c in dtype.partition("_")[0] if c.isdigit())
    return int(digits) // 8 if digits else 1


def _levels(config: TokenizerConfig) -> tuple[int, ...] | None:
    return config.network.head.quantizer.code_levels


def _tokenizer_facts(config: TokenizerConfig | None) -> list[str]:
    if config is None:
        return []
    network, image = config.network, config.image
    side, heads = image.patch_size, network.head.code_heads
    facts = [
        f"Pictures of any size, up to {image.max_pixels:,} pixels (larger ones are scaled down),"
        f" padded to multiples of {image.pad_multiple} pixels; patches of {side} x {side} pixels.",
        f"Encoder: {_count(network.encoder.depth, 'block')}, {network.encoder.width} wide,"
        f" {_count(network.encoder.attention_heads, 'attention head')}.",
    ]
    levels = _levels(config)
    if levels is None:
        facts.append("No quantiser: it gives continuous latents, no codes.")
    else:
        size = math.prod(levels)
        bits = heads * (16 if size <= 2**16 else 32)
        kind = "entries of a learned codebook" if len(levels) == 1 else "FSQ, levels "
        kind += "" if len(levels) == 1 else ", ".join(map(str, levels))
        facts.append(
            f"{_count(heads, 'code')} a patch, each one of {size:,} ({kind}):"
            f" {bits / side**2:.3g} bits per pixel as stored,"
            f" {heads * math.log2(size) / side**2:.3g} at most as information."
        )
    facts.append(f"Fingerprint, which its codes carry: `{config.fingerprint}`.")
    return facts


def _mllm_facts(config: Mapping[str, Any] | None) -> list[str]:
    if config is None:
        return []
    text = config.get("text_config") or {}
    inside = "in the folder" if str(config["lm"]).startswith(".") else f"`{config['lm']}`"
    facts = [
        f"Language model: {inside}, {_count(text.get('num_hidden_layers'), 'layer')},"
        f" {text.get('hidden_size')} wide; it reads {config.get('sees')},"
        f" {config.get('pool')} x {config.get('pool')} patches a token."
    ]
    if adapter := config.get("adapter"):
        kind = "DoRA" if adapter["dora"] else "LoRA"
        facts.append(f"Adapters: {kind} of rank {adapter['rank']} in {adapter['targets']} layers.")
    return facts


def _count(number: Any, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
