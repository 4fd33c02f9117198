"""Adapters in a frozen language model, by peft: added, written, read, merged."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from viq.errors import ModelError
from viq.mllm.config import AdapterConfig
from viq.mllm.files import read_tensors

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def add_adapters(lm: "PreTrainedModel", config: AdapterConfig) -> "PeftModel":
    """Puts new adapters inside ``lm`` and wraps it.

    Raises:
        ModelError: they fit nowhere.
    """
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_dora=config.dora,
        target_modules=config.targets,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(lm, lora)
    except ValueError as error:
        raise ModelError(f"these adapters do not fit {type(lm).__name__} ({error})") from error


def save_adapters(lm: "PeftModel", folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Writes the adapters alone; ``weights`` are of all of ``lm``."""
    # Otherwise peft asks the hub whether the vocabulary has grown.
    lm.save_pretrained(str(folder), save_embedding_layers=False, state_dict=dict(weights))
    (folder / "README.md").unlink()  # a form with nothing filled in


def load_adapters(lm: nn.Module, folder: Path) -> None:
    """Reads what ``save_adapters`` wrote into a model that has such adapters.

    Raises:
        ModelError: they are missing, damaged or do not fit.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    path = folder / "adapter_model.safetensors"
    tensors = read_tensors(path)
    own = get_peft_model_state_dict(lm, save_embedding_layers=False)
    if missing := set(own) ^ set(tensors):
        some = ", ".join(sorted(missing)[:3])
        raise ModelError(f"{len(missing)} tensors missing or left over: {some} ...", path)
    try:
        set_peft_model_state_dict(lm, tensors)
    except RuntimeError as error:
        raise ModelError(f"the adapters do not fit ({error})", path) from error


@contextmanager
def answering(model: nn.Module, *, adapted: bool) -> Iterator[None]:
    """Evaluation mode of all parts, and with adapters what DoRA multiplies kept for that long."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        if not adapted:
            yield
            return
        from peft.helpers import DoraCaching

        # Otherwise DoRA multiplies its matrices again for each token, which took 3.4 times as
        # long. What is kept is as large as the linear maps.
        with DoraCaching():
            yield
    finally:
        model.train()  # drops what DoRA kept
        for module, training in modes.items():
            module.training = training


def merged(lm: "PeftModel", weights: Mapping[str, Tensor]) -> Any:
    """A copy of the language model whose own weights do what they did with the adapters."""
    whole: Any = copy.deepcopy(lm)
    whole.load_state_dict(weights)
    return whole.merge_and_unload()
