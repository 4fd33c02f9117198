"""A multimodal model's folder: what is in it, how it is written and read.

``config.json``, ``model.safetensors`` (projector and embedder), the processor's files, and either a
reference to the language model with ``adapter/`` in peft's layout, or ``lm/``, the language model
itself. ``config.json`` is there only while all of this belongs together.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from viq import checkpoint
from viq.errors import ModelError
from viq.external.language_model import split_layers
from viq.mllm.config import FORMAT, MultimodalConfig

LM, ADAPTER = "lm", "adapter"  # folders inside it
MLLM = "mllm"  # the folder of a model beside its tokenizer, in this package and in a run
CONFIG = "config.json"


def find_folder(where: str | Path, revision: str | None = None, **hub_options: Any) -> Path:
    """The folder itself, a bundled one, or what the hub has by that id, fetched if need be.

    Each of them may be a tokenizer's or a run's, with the model in ``mllm/``.

    Raises:
        ModelError: there is none of these, or no language model comes with a bundled tokenizer.
    """
    if str(where) in checkpoint.bundled():
        if (own := bundled_folder(str(where))) is None:
            raise ModelError(
                "no language model comes with it yet; name a folder, or a hub id (owner/name)",
                str(where),
            )
        return own
    if Path(where).is_dir():
        return _inside(Path(where))
    unknown = ModelError("no such model: not a folder, and not a hub id (owner/name)", str(where))
    if "/" not in str(where) or str(where).startswith((".", "/")):
        raise unknown
    try:
        return _inside(Path(snapshot_download(str(where), revision=revision, **hub_options)))
    except HFValidationError:
        raise unknown from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot be fetched from the hub ({reason})", str(where)) from error


def bundled_folder(name: str) -> Path | None:
    """The folder of the language model that comes with a bundled tokenizer; None: none does."""
    folder = checkpoint.WEIGHTS / name / MLLM
    return folder if (folder / CONFIG).is_file() else None


def read_config(folder: Path) -> MultimodalConfig:
    """The config of a saved model; references that are relative to its folder are made whole.

    Raises:
        ModelError: there is none, or it is damaged, or of another format or kind of model.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError("no config.json here, so this is not a saved language model", folder)
    try:
        data = json.loads(path.read_bytes())
        if "network" in data:
            raise ModelError("this is a saved tokenizer, not a language model", folder)
        if (
            kind := data.get("model_type", MultimodalConfig.model_type)
        ) != MultimodalConfig.model_type:
            raise ModelError(f"a model of type {kind!r}, not {MultimodalConfig.model_type!r}", path)
        if data["format"] != FORMAT:
            raise ModelError(
                f"format {data['format']} is not known; this version reads {FORMAT}", path
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


@contextmanager
def new_content(folder: Path) -> Iterator[Path]:
    """A new folder to fill, whose files and folders then take the places of those in ``folder``.

    Until it is full, what was there stays as it was. Cut off after that, there is no
    ``config.json``: the old one goes first and the new one comes last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".new.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process of that number, cut off
    temporary.mkdir()
    try:
        yield temporary
        (folder / CONFIG).unlink(missing_ok=True)
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == CONFIG):
            place(path, folder)
    finally:
        shutil.rmtree(temporary)


def place(path: Path, folder: Path) -> None:
    """Moves a file or a folder into ``folder``, where it replaces one of the same name."""
    if (folder / path.name).is_dir():
        shutil.rmtree(folder / path.name)
    path.replace(folder / path.name)


def write_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Writes ``model.safetensors``."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})


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
    """How ``config.json`` names a model: relative inside its folder, else a folder's whole path.

    A bundled name stays one, also where there is a folder of that name.
    """
    place, _ = split_layers(where)
    path = Path(place).absolute()
    if place in checkpoint.bundled() or not path.is_dir():
        return where
    inside = path.is_relative_to(folder.absolute())
    found = f"./{path.relative_to(folder.absolute())}" if inside else str(path)
    return found + where.removeprefix(place)


def _inside(folder: Path) -> Path:
    return folder / MLLM if (folder / MLLM / CONFIG).is_file() else folder


def _whole(reference: str, folder: Path) -> str:
    return str((folder / reference).resolve()) if reference.startswith(".") else reference
