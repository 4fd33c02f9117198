"""A tokenizer on disk: ``config.json``, ``model.safetensors``, and ``vae/`` in diffusers' layout.

The folder is local or on the Hugging Face hub, whose files are fetched one by one when they are
needed: encoding never fetches the VAE.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cattrs
import torch
from cattrs.v import format_exception
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from viq.errors import ModelError
from viq.image import ImageConfig
from viq.model.encoder import AttentionPool, Encoder, EncoderConfig, PoolConfig
from viq.model.network import NetworkConfig

C = TypeVar("C")
FORMAT = 1  # of config.json and of the tensors' names
WEIGHTS = Path(__file__).parent / "weights"  # the bundled models
# Settings that came after models had been saved. At these values fingerprints leave them out, and
# so stay what they were.
_LATER: dict[str, dict[str, Any]] = {
    "encoder": {"stem": (), "skip": False},
    "head": {"codebook_size": None, "position_side": 32},
}


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """What ``config.json`` holds: enough to build the tokenizer and to name its codes."""

    network: NetworkConfig
    image: ImageConfig
    fingerprint: str
    format: int = FORMAT
    model_type: str = "viq"

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.fingerprint):
            raise ValueError(f"fingerprint {self.fingerprint!r} is not 64 hex digits.")
        sizes = self.image.patch_size, self.network.encoder.patch_size
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"images have patches of {sizes[0]}, the encoder of {sizes[1]} pixels."
            )


@dataclass(frozen=True)
class ModelFiles:
    """The files of one saved tokenizer, by where they come from."""

    model: str  # a bundled name, a folder, or a hub id
    revision: str | None = None
    hub_options: tuple[tuple[str, Any], ...] = ()  # of huggingface_hub's downloads

    @property
    def local(self) -> Path | None:
        """The folder, where the model is bundled or a folder."""
        if self.model in bundled():
            return WEIGHTS / self.model
        return Path(self.model) if Path(self.model).is_dir() else None

    def file(self, name: str) -> Path:
        """One file, fetched if need be.

        Raises:
            ModelError: there is no such file, or no such model.
        """
        if (folder := self.local) is not None:
            if not (folder / name).is_file():
                raise ModelError(f"no {name} here, so this is not a saved tokenizer", folder)
            return folder / name
        return Path(self._fetch(hf_hub_download, filename=name))

    def vae(self) -> Path:
        """The folder of the VAE, fetched if need be."""
        folder = self.local or Path(self._fetch(snapshot_download, allow_patterns="vae/*"))
        return folder / "vae"

    def has_vae(self) -> bool:
        """Whether there is a VAE beside the weights."""
        return (self.vae() / "config.json").is_file()

    def config(self) -> TokenizerConfig:
        """Reads ``config.json``.

        Raises:
            ModelError: it is damaged, or of a format that this version does not know.
        """
        return read_config(self.file("config.json"), TokenizerConfig)

    def tensors(self, part: str) -> dict[str, Tensor]:
        """One part's tensors by their names inside the part.

        Raises:
            ModelError: the file is damaged.
        """
        path, prefix = self.file("model.safetensors"), f"{part}."
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot be read ({error})", path) from error

    def _fetch(self, download: Callable[..., str], **what: Any) -> str:
        unknown = ModelError(
            f"no such model: not a bundled name ({', '.join(bundled())}), not a folder, and not"
            " a hub id (owner/name)",
            self.model,
        )
        if "/" not in self.model:
            raise unknown
        try:
            return download(self.model, revision=self.revision, **what, **dict(self.hub_options))
        except HFValidationError:
            raise unknown from None
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"cannot be fetched from the hub ({reason})", self.model) from error


def save(
    folder: Path,
    config: TokenizerConfig,
    parts: Mapping[str, nn.Module],
    save_vae: Callable[[Path], None] | None,
) -> None:
    """Writes a tokenizer; each file under a temporary name first, ``config.json`` last."""
    if save_vae is not None:
        temporary = folder / f".vae.{os.getpid()}"
        save_vae(temporary)
        if (folder / "vae").exists():
            shutil.rmtree(folder / "vae")
        temporary.replace(folder / "vae")
    write_model(folder, config, parts)


def write_model(folder: Path, config: Any, parts: Mapping[str, nn.Module]) -> None:
    """Writes parts to ``model.safetensors`` and a config dataclass to ``config.json``."""
    tensors: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, part in parts.items():
        for key, tensor in part.state_dict().items():
            tensor = tensor.detach().cpu().contiguous()
            # Each part is read alone, so what two share is in the file twice.
            shared = tensor.data_ptr() in written
            written.add(tensor.data_ptr())
            tensors[f"{name}.{key}"] = tensor.clone() if shared else tensor
    temporary = folder / f".model.safetensors.{os.getpid()}"
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(folder / "model.safetensors")
    temporary = folder / f".config.json.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(config), indent=2) + "\n")
    temporary.replace(folder / "config.json")


def read_config(path: Path, kind: type[C]) -> C:
    """Reads a config dataclass that has a ``format``.

    Raises:
        ModelError: it is damaged, or of a format that this version does not know.
    """
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != FORMAT:
            raise ModelError(
                f"format {data['format']} is not known; this version reads {FORMAT}", path
            )
        return cattrs.Converter(forbid_extra_keys=True).structure(data, kind)
    except cattrs.BaseValidationError as error:
        reasons = "; ".join(cattrs.transform_error(error, format_exception=_reason))
        raise ModelError(f"not a config of this kind: {reasons}", path) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"not a config of this kind ({error!r})", path) from error


def _reason(error: BaseException, kind: type | None) -> str:
    """cattrs' words for its own errors, and those of our configs' own checks."""
    own = isinstance(error, ValueError) and not isinstance(error, cattrs.BaseValidationError)
    return str(error) if own else format_exception(error, kind)


class VisionTower(NamedTuple):
    """An encoder, and the pool that makes one semantic token of its features."""

    encoder: Encoder
    pool: AttentionPool


@dataclass(frozen=True, kw_only=True)
class VisionTowerConfig:
    """What ``config.json`` of a saved tower holds."""

    encoder: EncoderConfig
    pool: PoolConfig
    format: int = FORMAT
    model_type: str = "viq_vision_tower"

    def build(self) -> VisionTower:
        """A tower without weights, on the meta device.

        Raises:
            ValueError: the sizes do not fit together.
        """
        with torch.device("meta"):
            return VisionTower(Encoder(self.encoder), AttentionPool(self.pool))


def save_vision_tower(tower: VisionTower, folder: Path | str) -> None:
    """Writes ``config.json`` and ``model.safetensors``; each appears whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = VisionTowerConfig(encoder=tower.encoder.config, pool=tower.pool.config)
    write_model(folder, config, tower._asdict())


def load_vision_tower(folder: Path | str) -> VisionTower:
    """Reads what ``save_vision_tower`` wrote, for inference.

    Raises:
        ModelError: a file is missing or damaged, or of a format that this version does not know.
    """
    folder = Path(folder)
    path = folder / "model.safetensors"
    config = read_config(folder / "config.json", VisionTowerConfig)
    try:
        tower = config.build()
    except ValueError as error:
        raise ModelError(f"not a saved vision tower ({error})", folder) from error
    if not path.is_file():
        raise ModelError("no such file", path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read ({error})", path) from error
    for name, part in tower._asdict().items():
        prefix = f"{name}."
        own = {
            k.removeprefix(prefix): tensors.pop(k) for k in list(tensors) if k.startswith(prefix)
        }
        if missing := [f"{prefix}{key}" for key in part.state_dict() if key not in own]:
            count = f"{len(missing)} tensor{'s' if len(missing) > 1 else ''}"
            raise ModelError(f"{count} missing: {', '.join(missing[:5])}", path)
        try:
            part.load_state_dict(own, strict=True, assign=True)
        except RuntimeError as error:
            raise ModelError(f"weights and config.json do not fit: {error}", path) from error
        part.eval().requires_grad_(False)
    return tower


def bundled() -> list[str]:
    """Names of the models inside this package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def fingerprint(image: ImageConfig, encoder: nn.Module, head: nn.Module) -> str:
    """sha256 of what decides a code's meaning: preprocessing, encoder, head up to the rounding.

    Values are widened to float32, so the same numbers in another dtype count the same. How many
    pixels a picture may have is left out: it says which picture is encoded, not what codes mean.
    """
    settings = asdict(image)
    del settings["max_pixels"]
    digest = hashlib.sha256()
    for name, config, part in (
        ("image", settings, None),
        ("encoder", asdict(encoder.config), encoder),  # type: ignore[call-overload]
        ("head", asdict(head.config), head),  # type: ignore[call-overload]
    ):
        config = _without(config, _LATER.get(name, {}))
        digest.update(f"{name} {json.dumps(config, sort_keys=True)}\n".encode())
        for key, tensor in sorted(part.state_dict().items()) if part is not None else ():
            digest.update(f"{name}.{key} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _without(settings: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Settings without those of ``later`` that are at the values there."""
    kept = {k: v for k, v in settings.items() if k not in later or v != later[k]}
    return {k: _without(v, later) if isinstance(v, dict) else v for k, v in kept.items()}
