"""A multimodal model written to a folder or to the hub, and read from one."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from huggingface_hub import HfApi
from torch import Tensor

from viq.card.saved import base_model, keeps_card, saved_card
from viq.checkpoint import bundled
from viq.errors import ModelError
from viq.external.language_model import load_language_model, split_layers
from viq.mllm import files
from viq.mllm.adapters import load_adapters, merged, save_adapters

if TYPE_CHECKING:
    from viq.mllm.config import MultimodalConfig
    from viq.mllm.model import MultimodalModel

M = TypeVar("M", bound="MultimodalModel")

# By these two transformers' Auto classes find ours in a process that has not imported them. A file
# of code beside the weights is run only by whoever says trust_remote_code=True.
CODE = "modeling_viq.py"
CODE_TEXT = '''"""Lets transformers' Auto classes find those of this model, in the package viq.

    AutoModelForCausalLM.from_pretrained(..., trust_remote_code=True)

Where viq.mllm is imported, this file is not run and the option not needed.
"""

from viq.mllm import MultimodalConfig, MultimodalModel, Processor

__all__ = ["MultimodalConfig", "MultimodalModel", "Processor"]
'''
AUTO_MAP = {
    "AutoConfig": "modeling_viq.MultimodalConfig",
    "AutoModelForCausalLM": "modeling_viq.MultimodalModel",
    "AutoModelForImageTextToText": "modeling_viq.MultimodalModel",
    "AutoProcessor": "modeling_viq.Processor",
}
PROCESSOR_CONFIG = "processor_config.json"


class Saving:
    """How a multimodal model is written; in the place of transformers' own methods."""

    def save_pretrained(
        self: Any,
        save_directory: str | Path,
        *,
        full: bool = False,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Writes what is not in the language model already, and a reference to that.

        Adapters, projector, embedder, processor, config, the file by which transformers' Auto
        classes find ours, and a model card; a language model that trained as a whole is written,
        too. Written over another one, that stays until all of this is written; cut off while the
        two change places, the folder is no model.

        Args:
            save_directory: of the files; ``viq.mllm.files`` says what they are.
            full: writes the language model with the adapters merged into its weights, so that
                the folder needs nothing else. For that it is copied in memory.
            model_card_kwargs: what the card says: ``license``, ``data``, ``scores`` and what else
                ``viq.card.saved_card`` takes. Without it a card that is not ours is kept.
            options: of transformers': ``state_dict``, ``is_main_process``, ``max_shard_size``.

        Raises:
            TypeError: ``push_to_hub`` is among the options; it is a method.
        """
        if options.get("push_to_hub"):
            raise TypeError("to push a model to the hub, call its push_to_hub(repo_id).")
        if options.get("is_main_process", True):
            write_model(
                self,
                Path(save_directory),
                full=full,
                state=options.get("state_dict") or self.state_dict(),
                max_shard_size=options.get("max_shard_size", "5GB"),
                card=model_card_kwargs,
            )

    def push_to_hub(
        self: Any,
        repo_id: str,
        *,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Writes what ``save_pretrained`` does to a repository on the hub; returns the commit.

        Args:
            repo_id: owner/name.
            private: whether a new repository is.
            token: of the hub.
            revision: the branch.
            commit_message: of the commit.
            create_pr: makes it a pull request.
            model_card_kwargs: as for ``save_pretrained``.
            options: of ``save_pretrained``: ``full`` and the others.

        Raises:
            ModelError: it names a language model or a tokenizer that is a folder of this machine.
        """
        _refuse_folders(self.config, full=options.get("full", False))
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            told = dict(model_card_kwargs or {}) | {"where": repo_id}
            self.save_pretrained(folder, model_card_kwargs=told, **options)
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                revision=revision,
                create_pr=create_pr,
            )


def write_model(
    model: "MultimodalModel",
    folder: Path,
    *,
    full: bool,
    state: Mapping[str, Tensor],
    max_shard_size: int | str,
    card: Mapping[str, Any] | None = None,
) -> None:
    """See ``MultimodalModel.save_pretrained``; ``state`` is the model's, ``card`` for its card."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.auto_map = AUTO_MAP
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
            _add_auto_map(new / PROCESSOR_CONFIG)
        own = ("projector.", "embedder.")
        files.write_tensors(new, {k: v for k, v in state.items() if k.startswith(own)})
        (new / CODE).write_text(CODE_TEXT)
        (new / files.CONFIG).write_text(config.to_json_string())
        if card or not keeps_card(folder):
            told: dict[str, Any] = {"where": str(folder), **base_model(config.lm), **(card or {})}
            (new / "README.md").write_text(saved_card(new, **told), "utf-8")


def _add_auto_map(path: Path) -> None:
    """Names the processor's class in its own config, where the Auto class looks for it."""
    settings = json.loads(path.read_text("utf-8"))
    settings["auto_map"] = {"AutoProcessor": AUTO_MAP["AutoProcessor"]}
    path.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _refuse_folders(config: "MultimodalConfig", *, full: bool) -> None:
    """That nothing is named which is on this machine alone.

    Raises:
        ModelError: the language model or the vision tokenizer is a folder.
    """
    if not (full or config.train_lm) and Path(split_layers(config.lm)[0]).is_dir():
        raise ModelError(
            f"its language model is the folder {config.lm}, which is on this machine alone; push it"
            " with full=True, or set config.lm to its hub id"
        )
    vision = config.tokenizer
    if vision is not None and vision not in bundled() and Path(vision).is_dir():
        raise ModelError(
            f"its vision tokenizer is the folder {vision}, which is on this machine alone; push"
            " that, too, and set config.tokenizer to its hub id"
        )


def read_model(
    kind: type[M], folder: Path, *, lm: str | None, dtype: torch.dtype | None, attention: str
) -> M:
    """See ``MultimodalModel.from_pretrained``; ``folder`` is on this machine."""
    config = files.read_config(folder)
    if lm is not None and not Path(config.lm).is_relative_to(folder.resolve()):
        config.lm = lm
    found = load_language_model(
        config.lm,
        dtype=dtype,
        attention=attention,
        tokenizer_folder=folder if (folder / "tokenizer.json").is_file() else None,
    )
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
