"""A language model that reads features of images, whole or made of codes.

Of the language model only adapters train (https://arxiv.org/abs/2402.09353), unless it trains as
a whole. It is given texts as one packed sequence; only answers are generated in padded batches.

Axes: N patches of all images, L tokens of all texts, V tokens of images, S supervised tokens,
C channels of features, D of the language model.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from viq.chat import IGNORED
from viq.checkpoint import FORMAT, ModelFiles, read_config, write_model
from viq.errors import ModelError
from viq.external.language_model import LanguageModel, load_language_model
from viq.mllm.packed_attention import NAME, packed_logits, use_packed_attention
from viq.mllm.projector import Projector, ProjectorConfig
from viq.model.packing import Packing

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Low-rank changes of a frozen language model's linear maps; the official code's settings."""

    rank: int = 64
    alpha: int = 16  # the change is scaled by alpha / rank
    dropout: float = 0.05  # with DoRA it doubles the products; 0 spares that
    dora: bool = True  # DoRA, else LoRA
    targets: str = "all-linear"  # all but the output layer; else a pattern of modules' names


@dataclass(frozen=True, kw_only=True)
class MultimodalConfig:
    """A language model and what is built around it."""

    lm: str  # a folder, a hub id, or "smollm2"
    width: int  # of the features
    pool: int = 2  # patches along each side of an image token, for whoever has no other wish
    adapter: AdapterConfig | None = AdapterConfig()
    train_lm: bool = False  # the whole language model, instead of adapters

    def __post_init__(self) -> None:
        if self.train_lm and self.adapter is not None:
            raise ValueError("train_lm trains all weights, so adapter must be None.")


@dataclass(frozen=True, kw_only=True)
class SavedConfig:
    """What ``config.json`` holds."""

    model: MultimodalConfig
    projector: ProjectorConfig
    format: int = FORMAT


@dataclass(frozen=True)
class TextLoss:
    """What the model makes of the S supervised tokens."""

    losses: Tensor  # (S,) float32
    places: Tensor  # (S,) int64, in the sequence
    logits: Tensor  # (S, vocabulary) float32

    @property
    def sum(self) -> Tensor:
        """All losses together."""
        return self.losses.sum()

    @property
    def count(self) -> int:
        """S, how many tokens are supervised."""
        return len(self.losses)

    @property
    def predictions(self) -> Tensor:
        """The likeliest tokens (S,)."""
        return self.logits.argmax(-1)


class Prompt(NamedTuple):
    """One text to go on with."""

    input_ids: Tensor  # (L,) int64; at the places of image tokens any valid id
    image_positions: Tensor  # (V,) int64 places of image tokens, in order


class MultimodalModel(nn.Module):
    """Projector and language model; ``build`` makes one and ``load`` reads one."""

    def __init__(self, lm: LanguageModel, config: MultimodalConfig) -> None:
        """Adds a new projector, and inside ``lm``, which is changed, new adapters.

        Raises:
            ModelError: the language model cannot take packed texts, or these adapters.
        """
        super().__init__()
        self.config, self.tokenizer = config, lm.tokenizer
        self._own_attention: str = lm.model.config._attn_implementation or "sdpa"
        use_packed_attention(lm.model)
        lm.model.requires_grad_(config.train_lm)
        self.lm: Any = lm.model  # with adapters, peft's wrapper around it
        if config.adapter is not None:
            self.lm = _with_adapters(lm.model, config.adapter)
        width = int(lm.model.config.get_text_config().hidden_size)
        self.projector = Projector(ProjectorConfig(width=config.width, lm_width=width))
        self._stops = _ends_of_answers(lm)

    @classmethod
    def build(cls, config: MultimodalConfig, *, dtype: torch.dtype | None = None) -> Self:
        """A new one around the language model that ``config`` names, its weights in ``dtype``.

        Raises:
            ModelError: see ``load_language_model`` and the constructor.
        """
        return cls(load_language_model(config.lm, dtype=dtype), config)

    @property
    def causal_lm(self) -> "PreTrainedModel":
        """The language model itself, with adapters inside."""
        return self.lm if self.config.adapter is None else self.lm.get_base_model()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.projector.begin.device

    def forward(
        self,
        features: Tensor,
        packing: Packing,
        pool: int,
        input_ids: Tensor,
        labels: Tensor,
        lengths: Sequence[int],
        image_positions: Tensor,
    ) -> TextLoss:
        """The cross-entropy of each supervised token of packed texts.

        Args:
            features: (N, C) of all images, or of none.
            packing: the images.
            pool: patches along each side of an image token.
            input_ids: (L,) int64; at the places of image tokens any valid id.
            labels: (L,) the token itself where it is supervised, else -100. As in transformers
                a text's first token, which nothing precedes, never counts.
            lengths: tokens of each text; no text sees another.
            image_positions: (V,) int64 places of image tokens, in order.

        Raises:
            ValueError: the sizes do not fit together.
            ModelError: the language model has an attention that cannot be packed.
        """
        if not sum(lengths) == len(input_ids) == len(labels):
            raise ValueError(
                f"{len(input_ids)} tokens with {len(labels)} labels, but texts of"
                f" {sum(lengths)} tokens in all."
            )
        firsts = torch.tensor(_starts(lengths)).to(labels.device, non_blocking=True)
        labels = labels.index_fill(0, firsts, IGNORED)
        places = (labels != IGNORED).nonzero().flatten()
        embedded = self._embed(features, packing, pool, input_ids, image_positions)
        before = places - 1  # what comes before a token predicts it
        logits = packed_logits(self.causal_lm, embedded, lengths, before).float()
        return TextLoss(F.cross_entropy(logits, labels[places], reduction="none"), places, logits)

    @torch.no_grad()
    def generate(
        self,
        features: Tensor,
        packing: Packing,
        pool: int,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        do_sample: bool = False,
        **options: Any,
    ) -> list[str]:
        """Answers to several prompts at once, each up to where the model ends its turn.

        Args:
            features: (N, C) of the images of all prompts in order, or of none.
            packing: the images.
            pool: patches along each side of an image token.
            prompts: of any lengths, with any number of images each.
            max_new_tokens: of each answer at most.
            do_sample: whether to draw tokens; else the likeliest is taken.
            options: more of transformers' ``generate``: temperature, top_p, streamer ...

        Raises:
            ValueError: the prompts do not have the places that the images' tokens need.
        """
        if not prompts:
            return []
        lengths = [len(prompt.input_ids) for prompt in prompts]
        starts = _starts(lengths)
        ids = torch.cat([prompt.input_ids for prompt in prompts]).to(self.device)
        places = torch.cat([p.image_positions + s for p, s in zip(prompts, starts, strict=True)])
        with self._answering():
            embedded = self._embed(features, packing, pool, ids, places.to(self.device))
            longest = max(lengths)
            padded = [F.pad(e, (0, 0, longest - len(e), 0)) for e in embedded.split(lengths)]
            mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
            tokens = self.causal_lm.generate(  # type: ignore[operator]
                inputs_embeds=torch.stack(padded),  # (B, longest, D), texts at the right
                attention_mask=mask.to(self.device, torch.int64),
                max_new_tokens=max_new_tokens,
                do_sample=do_sample,
                eos_token_id=self._stops,
                pad_token_id=self._stops[0],
                **options,
            )
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What trains: "projector", and "lm" unless all of that is frozen."""
        parts = {"projector": self.projector, "lm": self.lm}
        groups = {k: [p for p in v.parameters() if p.requires_grad] for k, v in parts.items()}
        return {name: group for name, group in groups.items() if group}

    def checkpoint_gradients(self) -> None:
        """Trains with less memory: the language model's layers run again for their gradients."""
        lm: Any = self.causal_lm
        if hasattr(lm, "activation_checkpointing_enable"):  # its name of late
            lm.activation_checkpointing_enable({"use_reentrant": False})
        else:
            lm.gradient_checkpointing_enable({"use_reentrant": False})

    def save(self, folder: Path) -> None:
        """Writes what is not in the language model already: adapters, projector, config.

        Each part gets its name when it is whole, ``config.json`` last. A language model that
        trained as a whole is written as ``lm/`` with its tokenizer.
        """
        folder.mkdir(parents=True, exist_ok=True)
        part = "lm" if self.config.train_lm else "adapter"
        if self.config.train_lm or self.config.adapter is not None:
            temporary = folder / f".{part}.{os.getpid()}"
            if self.config.train_lm:
                self.lm.save_pretrained(temporary)
                self.tokenizer.save_pretrained(temporary)
            else:
                # Otherwise peft asks the hub whether the vocabulary has grown.
                self.lm.save_pretrained(temporary, save_embedding_layers=False)
                (temporary / "README.md").unlink()  # a form with nothing filled in
            if (folder / part).exists():
                shutil.rmtree(folder / part)
            temporary.replace(folder / part)
        config = SavedConfig(model=self.config, projector=self.projector.config)
        write_model(folder, config, {"projector": self.projector})

    @classmethod
    def load(cls, folder: Path, *, lm: str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Reads what ``save`` wrote; trains what trained then.

        Args:
            folder: of the files.
            lm: where the language model is now, if not where it was.
            dtype: of its weights.

        Raises:
            ModelError: something is missing or damaged, or the language model is another one.
        """
        if not (folder / "config.json").is_file():
            raise ModelError("no config.json here, so this is not a saved language model", folder)
        saved = read_config(folder / "config.json", SavedConfig)
        where = lm or saved.model.lm
        if saved.model.train_lm:
            where = str(folder / "lm")
        model = cls(load_language_model(where, dtype=dtype), saved.model)
        found, expected = model.projector.config.lm_width, saved.projector.lm_width
        if found != expected:
            raise ModelError(
                f"its language model is {expected} wide, but {where} is {found} wide", folder
            )
        tensors = ModelFiles(str(folder)).tensors("projector")
        try:
            model.projector.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelError(f"the projector does not fit its config ({error})", folder) from error
        if saved.model.adapter is not None:
            _load_adapters(model.lm, folder / "adapter")
        return model

    def _embed(
        self,
        features: Tensor,
        packing: Packing,
        pool: int,
        input_ids: Tensor,
        image_positions: Tensor,
    ) -> Tensor:
        """The language model's input (L, D): embeddings, and images' tokens in their places."""
        tokens = self.projector(features, packing, pool)
        if len(tokens) != len(image_positions):
            raise ValueError(
                f"{len(packing)} images give {len(tokens)} tokens, but the texts have"
                f" {len(image_positions)} places for them."
            )
        embedded = self.causal_lm.get_input_embeddings()(input_ids)
        return embedded.index_copy(0, image_positions, tokens.to(embedded.dtype))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Evaluation mode, and transformers' own attention, which knows its cache."""
        from peft.helpers import DoraCaching

        training = self.training
        self.eval()
        self.causal_lm.set_attn_implementation(self._own_attention)
        try:
            # Otherwise DoRA multiplies its matrices again for each token, which took 3.4 times as
            # long. What is kept is as large as the linear maps.
            with DoraCaching():
                yield
        finally:
            self.causal_lm.set_attn_implementation(NAME)
            self.train()  # drops what DoRA kept
            self.train(training)


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where each text begins in the sequence of all."""
    return [0, *accumulate(lengths)][:-1]


def _with_adapters(lm: "PreTrainedModel", config: AdapterConfig) -> nn.Module:
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


def _load_adapters(lm: nn.Module, folder: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise ModelError("no such file; the model was not saved whole", path)
    try:
        tensors = load_file(path)
        own = get_peft_model_state_dict(lm, save_embedding_layers=False)
        if missing := set(own) ^ set(tensors):
            some = ", ".join(sorted(missing)[:3])
            raise ModelError(f"{len(missing)} tensors missing or left over: {some} ...", path)
        set_peft_model_state_dict(lm, tensors)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"the adapters do not fit ({error})", path) from error


def _ends_of_answers(lm: LanguageModel) -> list[int]:
    """Tokens after which there is no more: the model's, the tokenizer's, the chat template's."""
    tokenizer: Any = lm.tokenizer
    ends = [tokenizer.eos_token_id]
    of_model: Any = getattr(lm.model.generation_config, "eos_token_id", None)
    ends += of_model if isinstance(of_model, list) else [of_model]
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "answer"}]
    if tokenizer.chat_template is not None:
        # Base models' own end is that of a document; a turn ends by what the template writes.
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        after = tokenizer(text.rpartition("answer")[2], add_special_tokens=False)["input_ids"]
        special = {
            number for number, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        ends += special.intersection(after[:1])
    known = sorted({end for end in ends if end is not None})
    if not known:
        raise ModelError(f"{type(lm.model).__name__} has no token that ends an answer")
    return known
