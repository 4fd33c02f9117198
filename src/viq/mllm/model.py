"""A language model that reads images, given as codes, as pixels that become codes, or as features.

Of the language model only adapters train (https://arxiv.org/abs/2402.09353), unless it trains as
a whole. It is one of transformers' models: ``forward`` and ``generate`` take padded batches. Stages
train it on packed sequences, by ``packed_loss``.

Axes: N patches of all images, I images, Q code heads, P patch side, L tokens of all texts, (B, T)
padded texts, V tokens of images, S supervised tokens, C channels of features, D of the language
model.
"""

import copy
import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from viq.codes import Codes
from viq.errors import ModelError
from viq.external.language_model import LanguageModel, load_language_model
from viq.image import Picture
from viq.mllm import packed
from viq.mllm.adapters import add_adapters, answering
from viq.mllm.config import AdapterConfig, MultimodalConfig
from viq.mllm.embed import embed_padded, no_features
from viq.mllm.files import find_folder
from viq.mllm.images import (
    Grids,
    Vision,
    load_vision,
    prepare_picture,
    read_images,
    see,
)
from viq.mllm.language import generation_config, random_language_model
from viq.mllm.packed import Prompt, TextLoss
from viq.mllm.packed_attention import set_attention
from viq.mllm.processor import Processor
from viq.mllm.projector import Projector, ProjectorConfig
from viq.mllm.saving import Saving, read_model
from viq.mllm.vision import FeatureNetwork
from viq.model.embedder import CodeEmbedder
from viq.model.packing import Packing
from viq.tokenizer import Tokenizer, load

__all__ = [
    "AdapterConfig",
    "MultimodalConfig",
    "MultimodalModel",
    "Prompt",
    "TextLoss",
]


class MultimodalModel(Saving, PreTrainedModel, GenerationMixin):  # type: ignore[misc,no-untyped-call]
    """Embedder, projector and language model; ``build`` makes one, ``from_pretrained`` reads one.

    It holds no encoder: pixels load the vision tokenizer that the config names when they come.
    """

    config_class = MultimodalConfig
    config: MultimodalConfig
    supports_gradient_checkpointing = True

    def __init__(
        self,
        config: MultimodalConfig,
        lm: LanguageModel | None = None,
        embedder: CodeEmbedder | None = None,
    ) -> None:
        """Adds a new projector, and inside ``lm``, which is changed, new adapters.

        Args:
            config: gets the language model's own settings as ``text_config``, and the embedder's.
            lm: without one, ``text_config`` gives a random one, which has no tokenizer.
            embedder: without one, a random one, where the config has the shape of one.

        Raises:
            ModelError: the adapters do not fit, or the config lacks something.
        """
        model: Any = random_language_model(config) if lm is None else lm.model
        config.text_config = model.config.get_text_config()
        super().__init__(config)
        self.tokenizer: Any = None if lm is None else lm.tokenizer
        self._own_attention: str = model.config._attn_implementation or "sdpa"
        model.requires_grad_(config.train_lm)
        self.lm: Any = model  # with adapters, peft's wrapper around it
        if config.adapter is not None:
            self.lm = add_adapters(model, config.adapter)
        if embedder is None and config.embedder is not None:
            embedder = CodeEmbedder(config.embedder)
        self.embedder: CodeEmbedder | None = None
        if config.width is None and embedder is None:
            raise ModelError("the config has no width: how wide the features are")
        if embedder is not None:
            self._take(embedder)
        width = int(config.text_config.hidden_size)
        assert config.width is not None
        self.projector = Projector(
            ProjectorConfig(width=config.width, lm_width=width, kind=config.projector)
        )
        self.generation_config = generation_config(model, self.tokenizer)
        self._vision: Vision | None = None  # no module, and so no part of this one
        self.post_init()  # type: ignore[no-untyped-call]

    def init_weights(self) -> None:
        """Nothing: each part has begun as it should."""

    @classmethod
    def build(cls, config: MultimodalConfig, *, dtype: torch.dtype | None = None) -> Self:
        """A new one around the language model that ``config`` names, its weights in ``dtype``.

        Args:
            config: where it names a vision tokenizer, the model gets that one's embedder, frozen
                unless it is made to train.
            dtype: of the language model's weights; as they were saved unless given.

        Raises:
            ModelError: see ``load_language_model`` and the constructor; or the vision tokenizer
                does not load.
        """
        config = copy.deepcopy(config)
        lm = load_language_model(config.lm, dtype=dtype)
        if config.tokenizer is None:
            return cls(config, lm)
        vision = load(config.tokenizer)
        model = cls(config, lm, vision.part("embedder"))
        model._note(vision)
        return model

    def read_codes_of(self, where: str, vision: Tokenizer | None = None) -> None:
        """Makes a model read the codes of a vision tokenizer: by that one's embedder, if by none.

        Args:
            where: the tokenizer: a bundled name, folder or hub id.
            vision: the same, where it is loaded already.

        Raises:
            ModelError: it does not load, has no codes, or its features have another width.
        """
        vision = load(where) if vision is None else vision
        if vision.config.network.head.quantizer.code_levels is None:
            raise ModelError("this tokenizer is proximal: it has latents but no codes", where)
        if self.embedder is None or self.config.fingerprint not in (None, vision.fingerprint):
            self._take(vision.part("embedder").to(self.device))
        self.config.tokenizer, self._vision = where, None
        self._note(vision)

    def read_features_of(self, where: str, network: FeatureNetwork) -> None:
        """Makes a model read the features of a network, which ``load_features`` finds there."""
        self.read_features()
        self.config.sees, self.config.tokenizer = network.kind, where
        self.config.fingerprint, self.config.image = network.fingerprint, network.image

    def read_features(self) -> None:
        """Makes a model that reads codes one of features, without embedder and tokenizer."""
        self.embedder = self._vision = None
        self.config.sees = self.config.embedder = self.config.tokenizer = None
        self.config.fingerprint = self.config.image = None

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The language model itself, with adapters inside."""
        lm: PreTrainedModel = self.lm if self.config.adapter is None else self.lm.get_base_model()
        return lm

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mm_token_type_ids: Tensor | None = None,
        codes: Tensor | Sequence[Codes] | None = None,
        features: Tensor | None = None,
        pixel_values: Tensor | None = None,
        grid_sizes: Grids | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        """The language model's output, with a loss where there are labels.

        Args:
            input_ids: (B, T); at the places of image tokens any valid id.
            attention_mask: (B, T), 0 at padding.
            mm_token_type_ids: (B, T), 1 at image tokens; None: there are no images.
            codes: (N, Q) integers of all images in order, or one ``Codes`` an image.
            features: (N, C), in their place.
            pixel_values: (N, 3 * P * P), in their place: patches of prepared pictures, uint8, or
                float in [-1, 1].
            grid_sizes: (I, 2) patches (h, w) of each image; ``Codes`` know theirs.
            position_ids: (B, T); by default each text's tokens are counted without the padding.
            past_key_values: the language model's cache.
            inputs_embeds: (B, T, D), in the place of all that is above but the mask.
            labels: (B, T), -100 where nothing is supervised.
            logits_to_keep: how many of the last logits are made, or their places; 0: all.
            options: more of the language model's own.

        Raises:
            ValueError: the sizes do not fit together.
            CodesError: the codes are another tokenizer's, or out of bounds.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("there are neither input_ids nor inputs_embeds.")
            inputs_embeds = self.embed_inputs(
                input_ids, mm_token_type_ids, codes, features, pixel_values, grid_sizes
            )
        if position_ids is None and past_key_values is None and attention_mask is not None:
            position_ids = (attention_mask.cumsum(-1) - 1).clamp_min(0)
        set_attention(self.causal_lm, self._own_attention)
        out: CausalLMOutputWithPast = self.causal_lm(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **options,
        )
        return out

    def embed_inputs(
        self,
        input_ids: Tensor,
        mm_token_type_ids: Tensor | None = None,
        codes: Tensor | Sequence[Codes] | None = None,
        features: Tensor | None = None,
        pixel_values: Tensor | None = None,
        grid_sizes: Grids | None = None,
    ) -> Tensor:
        """The language model's input (B, T, D): embeddings, and images' tokens in their places.

        Arguments and errors as of ``forward``.
        """
        images = read_images(
            self.config, codes, features, pixel_values, grid_sizes, self._load_vision
        )
        return embed_padded(self, images, input_ids, mm_token_type_ids)

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        *,
        mm_token_type_ids: Tensor | None = None,
        codes: Tensor | Sequence[Codes] | None = None,
        features: Tensor | None = None,
        pixel_values: Tensor | None = None,
        grid_sizes: Grids | None = None,
        inputs_embeds: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Goes on with texts, as transformers' ``generate`` does with all its options.

        Images are read once. Texts of several lengths are padded at the left, with a mask. Inputs
        as of ``forward``; what comes back begins with ``input_ids``, if those were given.
        """
        if inputs_embeds is None and input_ids is not None:
            inputs_embeds = self.embed_inputs(
                input_ids, mm_token_type_ids, codes, features, pixel_values, grid_sizes
            )
        with answering(self, adapted=self.config.adapter is not None):
            return super().generate(  # type: ignore[misc]
                input_ids, inputs_embeds=inputs_embeds, **options
            )

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Tensor, inputs_embeds: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The inputs of one step of generation, as the language model wants them."""
        lm: Any = self.causal_lm
        inputs: dict[str, Any] = lm.prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, **kwargs
        )
        return inputs

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Features (N, C) of codes (N, Q), or of none.

        Raises:
            ModelError: the model has no embedder.
        """
        if self.embedder is None:
            raise ModelError("this language model reads features; it has no code embedder")
        return self.embedder(codes.to(self.device)) if len(codes) else no_features(self)

    def encode(self, images: Iterable[Picture]) -> list[Codes]:
        """The codes of pictures, as this model reads them.

        Raises:
            ImageError: one cannot be read.
            ModelError: the config names no vision tokenizer, or another than that of training.
        """
        vision, pool = self._load_vision(), self.config.pool
        if not isinstance(vision, Tokenizer):
            raise ModelError(f"this language model reads {self.config.sees} features, no codes")
        image = self.config.image or vision.config.image
        return vision.encode([prepare_picture(one, image, pool) for one in images])

    @torch.no_grad()
    def features(self, pictures: Iterable[Picture], max_pixels: int | None = None) -> list[Tensor]:
        """The features (N, C) of each picture, as the projector reads them.

        Pictures of more than ``max_pixels`` are scaled down. Errors as of ``encode``.
        """
        vision, pool = self._load_vision(), self.config.pool
        return [
            self.embed_codes(seen) if isinstance(vision, Tokenizer) else seen
            for seen in see(vision, pictures, self.config.image, pool, max_pixels)
        ]

    def processor(self) -> Processor:
        """What makes this model's inputs of conversations and images."""
        return Processor.of(self.config, self.tokenizer)

    def packed_loss(
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
        return packed.packed_loss(
            self, features, packing, pool, input_ids, labels, lengths, image_positions
        )

    def answer(
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
        options |= {"max_new_tokens": max_new_tokens, "do_sample": do_sample}
        return packed.answer(self, features, packing, pool, prompts, **options)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What trains: "projector", and "lm" and "embedder" unless all of that is frozen."""
        parts = {"projector": self.projector, "lm": self.lm, "embedder": self.embedder}
        groups = {
            name: [p for p in part.parameters() if p.requires_grad]
            for name, part in parts.items()
            if part is not None
        }
        return {name: group for name, group in groups.items() if group}

    def checkpoint_gradients(self) -> None:
        """Trains with less memory: the language model's layers run again for their gradients."""
        lm: Any = self.causal_lm
        if hasattr(lm, "activation_checkpointing_enable"):  # its name of late
            lm.activation_checkpointing_enable({"use_reentrant": False})
        else:
            lm.gradient_checkpointing_enable({"use_reentrant": False})

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        embeddings: nn.Module = self.causal_lm.get_input_embeddings()
        return embeddings

    def get_output_embeddings(self) -> nn.Module | None:
        """The language model's."""
        embeddings: nn.Module | None = self.causal_lm.get_output_embeddings()  # type: ignore[no-untyped-call]
        return embeddings

    def set_attn_implementation(  # type: ignore[override]
        self, attn_implementation: str, **options: Any
    ) -> None:
        """Changes the attention of padded batches."""
        self.causal_lm.set_attn_implementation(attn_implementation, **options)
        self._own_attention = self.causal_lm.config._attn_implementation

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        lm: str | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        attn_implementation: str | None = None,
        **hub_options: Any,
    ) -> Self:
        """Reads what ``save_pretrained`` wrote, for inference; what trained then can train again.

        Args:
            pretrained_model_name_or_path: a folder, or a hub id.
            lm: where the language model is now, if not where it was; a folder that holds its own
                needs none.
            dtype: of the language model's weights; as they were saved unless given.
            revision: of a hub id.
            attn_implementation: of the language model, in padded batches.
            hub_options: huggingface_hub's: ``token``, ``cache_dir``, ``local_files_only`` ...

        Raises:
            ModelError: something is missing or damaged, or the language model is another one.
        """
        for name in ("config", "_from_auto", "trust_remote_code", "adapter_kwargs"):
            hub_options.pop(name, None)  # of the auto classes; config.json is read here, checked
        dtype = hub_options.pop("torch_dtype", dtype)  # its old name
        if isinstance(dtype, str):
            name, dtype = dtype, None if dtype == "auto" else getattr(torch, dtype, dtype)
            if not isinstance(dtype, torch.dtype | None):
                raise ValueError(f"dtype is {name!r}, which torch does not know.")
        if unknown := hub_options.keys() - inspect.signature(snapshot_download).parameters:
            raise TypeError(
                f"unknown options: {', '.join(sorted(unknown))}; what device it is on says"
                " .to(device), after loading."
            )
        return read_model(
            cls,
            find_folder(pretrained_model_name_or_path, revision, **hub_options),
            lm=lm,
            dtype=dtype,
            attention=attn_implementation or "sdpa",
        )

    def _take(self, embedder: CodeEmbedder) -> None:
        width = embedder.config.width
        self.config.width = self.config.width or width
        if self.config.width != width:
            raise ModelError(
                f"the embedder's features are {width} wide, the language model reads features of"
                f" {self.config.width}"
            )
        self.config.sees, self.config.embedder = "codes", embedder.config
        self.embedder = embedder.requires_grad_(False)

    def _note(self, vision: Tokenizer) -> None:
        self.config.fingerprint = vision.fingerprint
        self.config.image = vision.config.image

    def _load_vision(self) -> Vision:
        if self._vision is None:
            self._vision = load_vision(self.config)
        return self._vision.to(self.device)
