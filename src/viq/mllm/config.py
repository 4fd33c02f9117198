"""What is built around a language model, and what ``config.json`` of such a model holds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import cattrs
from transformers import AutoConfig
from transformers.configuration_utils import PretrainedConfig

from viq.image import ImageConfig
from viq.mllm.projector import POOLS, ProjectorKind
from viq.model.embedder import EmbedderConfig

Sees = Literal["codes", "continuous", "proximal"]
FORMAT = 2  # of a saved folder; 1 was without embedder and processor


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Low-rank changes of a frozen language model's linear maps; the official code's settings."""

    rank: int = 64
    alpha: int = 16  # the change is scaled by alpha / rank
    dropout: float = 0.05  # with DoRA it doubles the products; 0 spares that
    dora: bool = True  # DoRA, else LoRA
    targets: str = "all-linear"  # all but the output layer; else a pattern of modules' names


class MultimodalConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """A language model and what is built around it.

    Attributes:
        lm: the language model: a folder, a hub id, or "smollm2". In a saved folder's
            ``config.json`` one that begins with a dot is relative to that folder.
        width: of the features.
        pool: patches along each side of an image token, for whoever has no other wish.
        projector: "official" as in the official code, or "placed" (``ProjectorKind``).
        adapter: what trains in the language model; None: nothing, or all of it.
        train_lm: the whole language model trains, instead of adapters.
        sees: what the features are: "codes", "continuous" (of an encoder), "proximal" (of a
            tokenizer of stage 2-1), or None: others.
        embedder: makes features of codes; None: the model is given features.
        tokenizer: what makes codes or features of pixels: a bundled name, folder or hub id of a
            vision tokenizer, or of a tower; None: there are only codes, or features.
        fingerprint: of that tokenizer; codes of another are refused. None: unknown, all are taken.
        image: how pictures are prepared for it.
        text_config: of the language model, in transformers' own kind.
    """

    model_type = "viq_multimodal"

    def __init__(
        self,
        *,
        lm: str = "",
        width: int | None = None,
        pool: int = 2,
        projector: ProjectorKind = "official",
        adapter: AdapterConfig | Mapping[str, Any] | None = AdapterConfig(),
        train_lm: bool = False,
        sees: Sees | None = None,
        embedder: EmbedderConfig | Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        fingerprint: str | None = None,
        image: ImageConfig | Mapping[str, Any] | None = None,
        text_config: PretrainedConfig | Mapping[str, Any] | None = None,
        format: int = FORMAT,
        **common: Any,
    ) -> None:
        """``common``: what transformers has in every config.

        Raises:
            ValueError: two of the settings contradict each other.
        """
        self.lm = lm
        self.adapter = _structure(adapter, AdapterConfig)
        self.train_lm = train_lm
        self.embedder = _structure(embedder, EmbedderConfig)
        self.width = self.embedder.width if width is None and self.embedder else width
        self.pool = pool
        self.projector = projector
        self.sees: Sees | None = "codes" if sees is None and self.embedder else sees
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.image = _structure(image, ImageConfig)
        self.text_config = _text_config(text_config)
        self.format = format
        self._check()
        super().__init__(**common)

    def _check(self) -> None:
        if self.train_lm and self.adapter is not None:
            raise ValueError("train_lm trains all weights, so adapter must be None.")
        if self.embedder is not None and self.embedder.width != self.width:
            raise ValueError(
                f"width is {self.width}, but the embedder's features are {self.embedder.width}"
                " wide."
            )
        if self.sees not in (None, *get_args(Sees)):
            raise ValueError(f"sees is {self.sees!r}; it can be {', '.join(get_args(Sees))}.")
        if self.projector not in get_args(ProjectorKind):
            kinds = ", ".join(get_args(ProjectorKind))
            raise ValueError(f"projector is {self.projector!r}; it can be {kinds}.")
        if self.pool not in POOLS:
            raise ValueError(f"pool is {self.pool}; it can be {', '.join(map(str, POOLS))}.")

    @property
    def levels(self) -> tuple[int, ...] | None:
        """What codes are digits of; None where the model takes no codes."""
        return None if self.embedder is None else self.embedder.quantizer.code_levels

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        found: dict[str, Any] = super().to_dict()
        for name in ("adapter", "embedder", "image"):
            value = getattr(self, name)
            found[name] = None if value is None else asdict(value)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MultimodalConfig) and self._own() == other._own()

    __hash__ = None  # type: ignore[assignment]

    def _own(self) -> dict[str, Any]:
        """Our settings; transformers' note how the config came about, too."""
        names = ("lm", "width", "pool", "train_lm", "sees", "tokenizer", "fingerprint", "format")
        parts = ("adapter", "embedder", "image")
        return {name: getattr(self, name) for name in (*names, *parts)}


def _structure(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, Mapping):
        return value
    try:
        return cattrs.Converter(forbid_extra_keys=True).structure(value, kind)
    except cattrs.BaseValidationError as error:
        raise ValueError("; ".join(cattrs.transform_error(error))) from error


def _text_config(value: PretrainedConfig | Mapping[str, Any] | None) -> PretrainedConfig | None:
    if not isinstance(value, Mapping):
        return value
    settings = dict(value)
    return AutoConfig.for_model(settings.pop("model_type"), **settings)
