"""What is evaluated: how a model sees and at what rate, and what tells it from others."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from viq.errors import InputError
from viq.evaluation.document import Cell, Column, Table
from viq.evaluation.samples import Samples
from viq.evaluation.task import Task
from viq.evaluation.understanding.results import answered, seen_part
from viq.mllm import MultimodalModel
from viq.mllm.images import load_vision
from viq.mllm.vision import FeatureNetwork

MODELS = "models"  # the part of samples that says what each model is
VALUE_BITS = 16  # of a stored code, and of a feature in bfloat16


def describe(model: MultimodalModel) -> dict[str, Any]:
    """What tables say of a model, with its ``fingerprint`` and its limit of ``max_pixels``.

    Raises:
        ModelError: the network that makes its features is not there.
    """
    config, image = model.config, model.config.image
    values = config.width if config.embedder is None else config.embedder.code_heads
    assert values is not None  # a model does not begin without a width
    parameters = sum(weight.numel() for weight in model.causal_lm.parameters())
    return {
        "fingerprint": fingerprint(model),
        "sees": config.sees,
        "width": config.width,
        "bits_per_pixel": None if image is None else VALUE_BITS * values / image.patch_size**2,
        "max_pixels": None if image is None else image.max_pixels,
        "lm": f"{Path(config.lm).name} ({parameters / 1e6:,.1f} M)",
    }


def fingerprint(model: MultimodalModel) -> str:
    """Tells a model from others: of its weights, its settings and what it sees with.

    Codes are those of a tokenizer, whose own fingerprint is checked when it is loaded. Of a network
    that makes features the weights count.
    """
    config, digest = model.config, hashlib.sha256()
    for fact in (config.sees, config.fingerprint, config.pool, config.image):
        digest.update(f"{fact}\n".encode())
    _add(digest, model)
    if config.sees in ("continuous", "proximal"):
        network = load_vision(config)
        assert isinstance(network, FeatureNetwork)
        _add(digest, network)
    return digest.hexdigest()


def check_same(samples: Samples, name: str, found: Mapping[str, Any], where: str) -> None:
    """Keeps what a model is, or sees that it is what it was.

    Raises:
        InputError: it has changed.
    """
    known = samples.of(MODELS).get(name)
    if known is None:
        samples.add(MODELS, {name: found})
    elif known["fingerprint"] != found["fingerprint"]:
        raise InputError(
            "this model has changed since the evaluation was begun; give another --out", where
        )


def common_limit(samples: Samples, models: Sequence[str]) -> int | None:
    """The least number of pixels to which a model scales pictures; None: all have the same."""
    limits = {samples.of(MODELS)[name]["max_pixels"] for name in models} - {None}
    return min(limits) if len(limits) > 1 else None


def limit_note(samples: Samples, models: Sequence[str]) -> str | None:
    """What is to be said of pictures' sizes where models have different limits."""
    if (least := common_limit(samples, models)) is None:
        return None
    limits = [(name, samples.of(MODELS)[name]["max_pixels"]) for name in models]
    all = ", ".join(f"{name} {limit:,}" for name, limit in limits if limit is not None)
    return (
        f"Pictures of more than {least:,} pixels were scaled down for all models, as they have"
        f" different limits ({all}) and are to see the same."
    )


def model_table(samples: Samples, models: Sequence[str], tasks: Sequence[Task]) -> Table:
    """How each model sees, and at what rate."""
    rows: list[tuple[Cell, ...]] = []
    for name in models:
        found = samples.of(MODELS)[name]
        records = [
            record
            for task in tasks
            for record in answered(samples, seen_part(name, task.name)).values()
        ]
        pictures = sum(record.get("pictures", 0) for record in records)
        tokens = sum(record.get("picture_tokens", 0) for record in records)
        rate = found["bits_per_pixel"], tokens / pictures if pictures else None
        rows.append((name, found["sees"], found["width"], *rate, found["lm"]))
    return Table(
        title="Models",
        columns=(
            Column(name="Model"),
            Column(name="Sees"),
            Column(name="Width"),
            Column(name="Stored", unit="bits per pixel", digits=3),
            Column(name="Tokens", unit="per picture", digits=1),
            Column(name="Language model"),
        ),
        rows=tuple(rows),
        note="Stored is what would be kept of a picture that is neither padded nor scaled down:"
        " codes of 16 bits, a few of each patch; of continuous and proximal features each number in"
        " bfloat16, 16 bits, too, as many as the features are wide. Tokens are what the language"
        " model reads of a picture, with those that begin it, end it and break its rows; the mean"
        " of all that were asked about.",
    )


def _add(digest: "hashlib._Hash", module: nn.Module) -> None:
    for name, weight in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
