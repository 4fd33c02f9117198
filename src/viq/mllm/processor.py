"""Conversations and images as a multimodal model's inputs.

Axes: (B, T) padded texts, N patches of all images, I images, Q code heads, P patch side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, Self

import cattrs
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from viq.chat import (
    CHATML,
    IGNORED,
    ChatTokens,
    Message,
    encode_chat,
    encode_prompt,
    end_of_turn,
    filling_id,
    image_tokens,
)
from viq.codes import Codes
from viq.errors import InputError
from viq.image import ImageConfig, Picture, to_patches
from viq.mllm.config import MultimodalConfig
from viq.mllm.images import check_codes, prepare_picture, stack_codes

MARK = "<image>"  # stands for an image in a text; no token, and not in the vocabulary

Image = Picture | Codes
Conversation = Sequence[Message]


class Processor(ProcessorMixin):
    """Makes a model's inputs; saved beside the model, and read by ``AutoProcessor``."""

    attributes = ("tokenizer",)
    tokenizer_class = "AutoTokenizer"
    image_token = MARK
    model_input_names = [  # noqa: RUF012, as transformers has it
        *("input_ids", "attention_mask", "mm_token_type_ids"),
        *("codes", "pixel_values", "grid_sizes"),
    ]

    def __init__(
        self,
        tokenizer: Any = None,
        pool: int = 2,
        fingerprint: str | None = None,
        levels: Sequence[int] | None = None,
        image: ImageConfig | Mapping[str, Any] | None = None,
        chat_template: str | None = None,
    ) -> None:
        """Args as the fields of ``MultimodalConfig``; ``tokenizer`` is the language model's.

        ``chat_template``, where it is given, becomes the tokenizer's.
        """
        self.tokenizer = tokenizer  # which holds the template that is set now
        chat_template = chat_template or tokenizer.chat_template
        super().__init__(tokenizer, chat_template=chat_template)  # type: ignore[no-untyped-call]
        self.pool = pool
        self.fingerprint = fingerprint
        self.levels = None if levels is None else tuple(levels)
        self.image: ImageConfig | None = (
            cattrs.structure(image, ImageConfig) if isinstance(image, Mapping) else image
        )

    @classmethod
    def of(cls, config: MultimodalConfig, tokenizer: Any) -> Self:
        """The processor of a model."""
        return cls(tokenizer, config.pool, config.fingerprint, config.levels, config.image)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:
        """Nothing: otherwise transformers would copy this file to where a processor is saved."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        found: dict[str, Any] = super().to_dict()
        found["image"] = None if self.image is None else asdict(self.image)
        return found

    def __call__(
        self,
        text: str | Sequence[str] | Conversation | Sequence[Conversation],
        images: Image | Sequence[Image] | Sequence[Sequence[Image]] | None = None,
        *,
        labels: bool = False,
        padding_side: str = "left",
        **options: Any,
    ) -> BatchFeature:
        """Inputs of ``MultimodalModel``'s forward and generate, as tensors.

        Args:
            text: a conversation, as transformers' chat templates take it, or several. If it ends
                with an answer it is taken whole, else up to where an answer begins. Or a text, or
                several, written already, with ``<image>`` for each image; it gets no other tokens.
            images: pictures (paths, PIL images, arrays), or codes; in the order of the texts. They
                may stand in the conversation instead: {"type": "image", "image": ...}.
            labels: also the tokens that are supervised: each answer with the end of its turn.
            padding_side: of shorter texts; "left" to generate.
            options: what transformers gives every processor; of no meaning but its defaults.

        Returns:
            input_ids, attention_mask and mm_token_type_ids (B, T), labels too if asked for; where
            there are images, grid_sizes (I, 2), and codes (N, Q) or pixel_values (N, 3 * P * P).

        Raises:
            InputError: texts and images do not fit together, pictures and codes are mixed, or an
                image cannot be read.
            CodesError: codes are another tokenizer's.
        """
        if options.pop("return_tensors", "pt") not in ("pt", None):
            raise ValueError("inputs are PyTorch's tensors; return_tensors is 'pt'.")
        if (padding := options.pop("padding", True)) not in (True, "longest"):
            raise ValueError(f"padding is {padding!r}; texts are padded to the longest.")
        if options:
            raise TypeError(f"unknown options: {', '.join(options)}.")
        if padding_side not in ("left", "right"):
            raise ValueError(f"padding_side is {padding_side!r}; it is 'left' or 'right'.")
        if labels and isinstance(_batch(text)[0], str):
            raise InputError("labels are those of a conversation's answers; a text has none")
        texts = _batch(text)
        read = self._read(_per_text(texts, images))
        encoded = [
            self._encode(one, grids, labels, None if len(texts) == 1 else f"text {number}")
            for number, (one, grids) in enumerate(zip(texts, read.grids, strict=True))
        ]
        padded = _padded(encoded, filling_id(self.tokenizer), labels, padding_side)
        return BatchFeature(padded | read.tensors)

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Conversation | Sequence[Conversation],
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        return_tensors: str | None = "pt",
        processor_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """A conversation, or several, as the template writes it, with ``<image>`` for each image.

        Args:
            conversation: as in a call of the processor.
            chat_template: another than the tokenizer's.
            add_generation_prompt: whether the beginning of an answer follows.
            tokenize: makes inputs of the texts and the images that stand in the conversation.
            return_dict: whether all of these come back, not ``input_ids`` alone.
            return_tensors: "pt".
            processor_kwargs: of the call that makes inputs.
            options: of the template.

        Raises:
            InputError: a message has ``<image>`` in its text.
        """
        conversations = _batch(conversation)
        texts = [
            self._write(turns, chat_template, add_generation_prompt, options)
            for turns in conversations
        ]
        several = bool(conversation) and not isinstance(conversation[0], Mapping)
        if not tokenize:
            return texts if several else texts[0]
        images = [_images_in(turns) for turns in conversations]
        inputs = self(texts, images, return_tensors=return_tensors, **(processor_kwargs or {}))
        return inputs if return_dict else inputs["input_ids"]

    @property
    def chat_template(self) -> Any:
        """The tokenizer's, which also writes the conversations of training; there is one."""
        return self.tokenizer.chat_template

    @chat_template.setter
    def chat_template(self, template: Any) -> None:
        self.tokenizer.chat_template = template

    def _write(
        self,
        conversation: Conversation,
        template: str | None,
        prompt: bool,
        options: Mapping[str, Any],
    ) -> str:
        used: Any = template or self.chat_template
        turns = []
        for message in conversation:
            content = ""
            for part in _parts(message):
                if part["type"] == "text" and MARK in part["text"]:
                    raise InputError(f"a message's text has {MARK}, which stands for an image")
                content += MARK if part["type"] == "image" else part["text"]
            turns.append({"role": message["role"], "content": content})
        text: str = self.tokenizer.apply_chat_template(
            turns,
            chat_template=used or CHATML,
            end_of_turn=None if used else end_of_turn(self.tokenizer),
            add_generation_prompt=prompt,
            tokenize=False,
            **options,
        )
        return text

    def _read(self, images: Sequence[Sequence[Image]]) -> "_Images":
        """The images of each text: their grids, and the tensors of all."""
        flat = [image for some in images for image in some]
        codes = [image for image in flat if isinstance(image, Codes)]
        tensors: dict[str, Tensor] = {}
        if not flat:
            return _Images([[] for _ in images], tensors)
        if codes and len(codes) != len(flat):
            raise InputError(
                f"{len(codes)} of {len(flat)} images are codes and the others pictures; make codes"
                " of all, by the model's encode()"
            )
        if codes:
            for one in codes:
                check_codes(one, fingerprint=self.fingerprint, levels=self.levels, pool=self.pool)
            grids = [one.grid_size for one in codes]
            tensors["codes"] = stack_codes(codes)
        else:
            if self.image is None:
                raise InputError(
                    "this model names no vision tokenizer, so it takes codes or features, not"
                    " pictures"
                )
            pictures = [
                prepare_picture(image, self.image, self.pool)
                for image in flat
                if not isinstance(image, Codes)
            ]
            grids = [one.grid_size for one in pictures]
            tensors["pixel_values"] = torch.cat([to_patches(one, self.image) for one in pictures])
        tensors["grid_sizes"] = torch.tensor(grids)
        rest = iter(grids)
        return _Images([[next(rest) for _ in some] for some in images], tensors)

    def _encode(
        self,
        text: str | Conversation,
        grids: Sequence[tuple[int, int]],
        labels: bool,
        name: str | None,
    ) -> ChatTokens:
        counts = [image_tokens(grid, self.pool) for grid in grids]
        if not isinstance(text, str):
            whole = labels or (bool(text) and text[-1]["role"] == "assistant")
            encode = encode_chat if whole else encode_prompt
            return encode(text, self.tokenizer, counts, name=name)
        tokens, filling = ChatTokens([], [], []), filling_id(self.tokenizer)
        for number, piece in enumerate(text.split(MARK)):
            if number:
                start = len(tokens.input_ids)
                tokens.image_positions.extend(range(start, start + counts[number - 1]))
                tokens.input_ids.extend([filling] * counts[number - 1])
            if piece:
                tokens.input_ids.extend(
                    self.tokenizer(piece, add_special_tokens=False)["input_ids"]
                )
        return tokens


class _Images:
    """Images of several texts."""

    def __init__(self, grids: list[list[tuple[int, int]]], tensors: dict[str, Tensor]) -> None:
        self.grids, self.tensors = grids, tensors


def _batch(text: Any) -> list[Any]:
    """Several texts or conversations, of one or several."""
    if not text or not isinstance(text, Sequence):
        raise InputError("there is no text: give a conversation, a text, or a list of either")
    if isinstance(text, str) or isinstance(text[0], Mapping):
        return [text]
    return list(text)


def _per_text(texts: Sequence[Any], images: Any) -> list[list[Image]]:
    """The images of each text, wherever they were given.

    Raises:
        InputError: a text names another number of images.
    """
    inside = [[] if isinstance(text, str) else _images_in(text) for text in texts]
    named = [
        text.count(MARK)
        if isinstance(text, str)
        else sum(part["type"] == "image" for message in text for part in _parts(message))
        for text in texts
    ]
    if images is None:
        found = inside
    elif any(inside):
        raise InputError("images stand in the conversation and are given beside it; give them once")
    elif _is_list(images) and images and all(map(_is_list, images)):
        found = [list(some) for some in images]
    else:
        rest = iter(images if _is_list(images) else [images])
        found = [list(islice(rest, count)) for count in named]
        found[-1] += rest
    for number, (some, count) in enumerate(zip(found, named, strict=False)):
        if len(some) != count:
            raise InputError(
                f"text {number} has {count} places for images, but there are {len(some)}; write"
                f' {MARK} in a text, or {{"type": "image"}} in a message, where each stands'
            )
    if len(found) != len(texts):
        raise InputError(f"{len(texts)} texts with images of {len(found)}")
    return found


def _images_in(conversation: Conversation) -> list[Image]:
    parts = [part for message in conversation for part in _parts(message)]
    places = [part for part in parts if part["type"] == "image"]
    given = [part[key] for part in places for key in ("image", "path") if key in part]
    if given and len(given) != len(places):
        raise InputError(f"{len(given)} of {len(places)} images stand in the conversation")
    return given


def _parts(message: Message) -> list[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts: list[Any] = list(content) if isinstance(content, Sequence) else [content]
    for part in parts:
        held = part if isinstance(part, Mapping) else {}
        is_text = held.get("type") == "text" and isinstance(held.get("text"), str)
        if not is_text and held.get("type") != "image":
            raise InputError(
                f"a message's content has {str(part)[:80]}; it is a text, or a list of"
                ' {"type": "image"} and {"type": "text", "text": ...}'
            )
    return parts


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _padded(
    encoded: Sequence[ChatTokens], filling: int, labels: bool, side: str
) -> dict[str, Tensor]:
    """Tensors (B, T)."""
    longest = max(len(one.input_ids) for one in encoded)

    def stack(rows: Sequence[Sequence[int]], value: int) -> Tensor:
        padded = []
        for row in rows:
            missing = longest - len(row)
            pad = (missing, 0) if side == "left" else (0, missing)
            padded.append(F.pad(torch.tensor(row, dtype=torch.int64), pad, value=value))
        return torch.stack(padded)

    kinds = []
    for one in encoded:
        kind = [0] * len(one.input_ids)
        for place in one.image_positions:
            kind[place] = 1
        kinds.append(kind)
    tensors = {
        "input_ids": stack([one.input_ids for one in encoded], filling),
        "attention_mask": stack([[1] * len(one.input_ids) for one in encoded], 0),
        "mm_token_type_ids": stack(kinds, 0),
    }
    if labels:
        tensors["labels"] = stack([one.labels for one in encoded], IGNORED)
    return tensors
