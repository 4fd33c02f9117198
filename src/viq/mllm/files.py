"""A multimodal model's folder: what is in it, how it is written and read.

``config.json``, ``model.safetensors`` (projector and embedder), the processor's files, and either a
reference to the language model with ``adapter/`` in peft's layout, or ``lm/``, the language model
itself. Each part gets its name when it is whole, ``config.json`` last.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from viq.errors import ModelError
from viq.mllm.config import FORMAT, MultimodalConfig

LM, ADAPTER = "lm", "adapter"  # folders inside it


def find_folder(where: str | Path, revision: str | None = None, **hub_options: Any) -> Path:
    """The folder itself, or what the hub has by that id, fetched if need be.

    Raises:
        ModelError: there is neither.
    """
    if Path(where).is_dir():
        return Path(where)
    unknown = ModelError("no such model: not a folder, and not a hub id (owner/name)", str(where))
    if "/" not in str(where) or str(where).startswith((".", "/")):
        raise unknown
    try:
        return Path(snapshot_download(str(where), revision=revision, **hub_options))
    except HFValidationError:
        raise unknown from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot be fetched from the hub ({reason})", str(where)) from error


def read_config(folder: Path) -> MultimodalConfig:
    """The config of a saved model; references that are relative to its folder are made whole.

    Raises:
        ModelError: there is none, or it is damaged, or of another format or kind of model.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError("no config.json here, so this is not a saved language model", folder)
    try:
        data = json.loads(path.read_bytes())
        if "network" in data:
            raise ModelError("this is a saved tokenizer, not a language model", folder)
        if data["format"] != FORMAT:
            raise ModelError(
                f"format {data['format']} is not known; this version reads {FORMAT}", path
            )
        if data["model_type"] != MultimodalConfig.model_type:
            raise ModelError(
                f"a model of type {data['model_type']!r}, not {MultimodalConfig.model_type!r}", path
            )
        config = MultimodalConfig.from_dict(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"not a config of this kind ({error!r})", path) from error
    if config.text_config is None or config.width is None:
        raise ModelError("not a config of this kind (text_config or width is missing)", path)
    config.lm = _whole(config.lm, folder)
    if config.tokenizer is not None:
        config.tokenizer = _whole(config.tokenizer, folder)
    return config


def write_config(folder: Path, config: MultimodalConfig) -> None:
    """Writes ``config.json``, with the language model's own settings beside ours."""
    temporary = folder / f".config.json.{os.getpid()}"
    temporary.write_text(config.to_json_string())
    temporary.replace(folder / "config.json")


def write_part(folder: Path, name: str, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a new folder, which then takes the place of an older one."""
    temporary = folder / f".{name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process of that number, cut off
    write(temporary)
    shutil.rmtree(folder / name, ignore_errors=True)
    temporary.replace(folder / name)


def write_files(folder: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a new folder, whose files then get their places in ``folder``."""
    temporary = folder / f".files.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    write(temporary)
    for path in sorted(temporary.iterdir()):
        path.replace(folder / path.name)
    temporary.rmdir()


def write_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Writes ``model.safetensors``."""
    temporary = folder / f".model.safetensors.{os.getpid()}"
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, temporary, metadata={"format": "pt"})
    temporary.replace(folder / "model.safetensors")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        ModelError: it is missing or damaged.
    """
    if not path.is_file():
        raise ModelError("no such file; the model was not saved whole", path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read ({error})", path) from error


def load_part(part: nn.Module, name: str, tensors: dict[str, Tensor], folder: Path) -> None:
    """Takes a part's tensors out of ``tensors`` and loads them.

    Raises:
        ModelError: they do not fit.
    """
    prefix = f"{name}."
    own = {k.removeprefix(prefix): tensors.pop(k) for k in list(tensors) if k.startswith(prefix)}
    try:
        part.load_state_dict(own)
    except RuntimeError as error:
        raise ModelError(f"the {name} does not fit its config ({error})", folder) from error


def reference(where: str, folder: Path) -> str:
    """How ``config.json`` names a model: relative inside its folder, else a folder's whole path."""
    path = Path(where).absolute()
    if not path.is_dir():
        return where
    inside = path.is_relative_to(folder.absolute())
    return f"./{path.relative_to(folder.absolute())}" if inside else str(path)


def _whole(reference: str, folder: Path) -> str:
    return str((folder / reference).resolve()) if reference.startswith(".") else reference
