"""A multimodal model written to a folder, and read from one or from the hub."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from viq.errors import ModelError
from viq.external.language_model import load_language_model
from viq.mllm import files
from viq.mllm.adapters import load_adapters, merged, save_adapters

if TYPE_CHECKING:
    from viq.mllm.model import MultimodalModel

M = TypeVar("M", bound="MultimodalModel")


def write_model(
    model: "MultimodalModel",
    folder: Path,
    *,
    full: bool,
    state: Mapping[str, Tensor],
    max_shard_size: int | str,
) -> None:
    """See ``MultimodalModel.save_pretrained``; ``state`` is the model's."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.lm = files.reference(config.lm, folder)
    if config.tokenizer is not None:
        config.tokenizer = files.reference(config.tokenizer, folder)
    weights = {k.removeprefix("lm."): v for k, v in state.items() if k.startswith("lm.")}
    with files.new_content(folder) as new:
        if full or config.train_lm:
            lm, tensors = model.lm, weights
            if config.adapter is not None:
                lm = merged(lm, weights)
                tensors = lm.state_dict()
            lm.save_pretrained(new / files.LM, state_dict=tensors, max_shard_size=max_shard_size)
            if model.tokenizer is not None:
                model.tokenizer.save_pretrained(new / files.LM)
            config.adapter, config.lm = None, f"./{files.LM}"
        elif config.adapter is not None:
            save_adapters(model.lm, new / files.ADAPTER, weights)
        if model.tokenizer is not None:
            model.processor().save_pretrained(new)
        own = ("projector.", "embedder.")
        files.write_tensors(new, {k: v for k, v in state.items() if k.startswith(own)})
        (new / files.CONFIG).write_text(config.to_json_string())


def read_model(
    kind: type[M], folder: Path, *, lm: str | None, dtype: torch.dtype | None, attention: str
) -> M:
    """See ``MultimodalModel.from_pretrained``; ``folder`` is on this machine."""
    config = files.read_config(folder)
    if lm is not None and not Path(config.lm).is_relative_to(folder.resolve()):
        config.lm = lm
    found = load_language_model(config.lm, dtype=dtype, attention=attention)
    expected, own = config.text_config, found.model.config.get_text_config()
    for name in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size"):
        values = getattr(expected, name), getattr(own, name)
        if values[0] != values[1]:
            raise ModelError(
                f"its language model has {name} {values[0]}, but {config.lm} has {values[1]}",
                folder,
            )
    model = kind(config, found)
    path = folder / "model.safetensors"
    tensors = files.read_tensors(path)
    files.load_part(model.projector, "projector", tensors, folder)
    if model.embedder is not None:
        files.load_part(model.embedder, "embedder", tensors, folder)
    if tensors:
        raise ModelError(f"tensors left over: {', '.join(sorted(tensors)[:3])}", path)
    if config.adapter is not None:
        load_adapters(model.lm, folder / files.ADAPTER)
    model.eval()  # type: ignore[no-untyped-call]
    return model
