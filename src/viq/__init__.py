"""Text-aligned visual quantized representations (https://arxiv.org/abs/2606.27313).

Any image, at its native resolution, as discrete codes, and the codes as an image again.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from viq.errors import (
    CodesError,
    ConversionError,
    FingerprintError,
    ImageError,
    InputError,
    ModelError,
    ViQError,
)
from viq.version import __version__

if TYPE_CHECKING:
    from viq.codes import Codes
    from viq.tokenizer import Tokenizer, load, load_embedder

__all__ = [
    "Codes",
    "CodesError",
    "ConversionError",
    "FingerprintError",
    "ImageError",
    "InputError",
    "ModelError",
    "Tokenizer",
    "ViQError",
    "__version__",
    "load",
    "load_embedder",
]

_LAZY = {  # loaded when used: they bring torch
    "Codes": "viq.codes",
    "Tokenizer": "viq.tokenizer",
    "load": "viq.tokenizer",
    "load_embedder": "viq.tokenizer",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'viq' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
