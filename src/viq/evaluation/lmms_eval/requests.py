"""What a harness asks, as our models take it; nothing here needs lmms-eval.

Axes: B requests, T tokens of the longest, K tokens of the longest continuation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from viq.errors import InputError
from viq.image import Picture

if TYPE_CHECKING:
    from viq.mllm import MultimodalModel
    from viq.mllm.processor import Processor

MARK = "<image>"  # in a text of the harness, the place of a picture
MAX_NEW_TOKENS = 1024  # where a task names no limit; as other models of lmms-eval have it
_OWN_STOP = "\n\n"  # the harness's wherever a task names none; it would cut longer answers


class Asked(NamedTuple):
    """A conversation up to an answer, and its pictures in order."""

    messages: list[dict[str, Any]]
    pictures: list[Picture]


class Likelihood(NamedTuple):
    """How likely a continuation is."""

    loss: float  # the mean of its tokens' negative log-probabilities, in nats
    greedy: bool  # whether each of its tokens is the likeliest


def from_messages(messages: Sequence[Mapping[str, Any]]) -> Asked:
    """Chat messages of the harness, whose pictures stand in their places.

    Raises:
        InputError: there is something else than texts and pictures.
    """
    found = Asked([], [])
    for message in messages:
        content: list[dict[str, Any]] = []
        for part in message["content"]:
            if part["type"] == "text":
                content.append({"type": "text", "text": part["text"]})
                continue
            if part["type"] != "image":
                raise InputError(f"it has {part['type']}; this model reads texts and pictures")
            content.append({"type": "image"})
            found.pictures.append(_picture(part["url"]))
        found.messages.append({"role": message["role"], "content": content})
    return found


def from_text(text: str, visuals: Sequence[Any]) -> Asked:
    """A text with ``<image>`` where each picture belongs; pictures without places come first.

    Raises:
        InputError: there are other numbers of places and pictures, or other things than pictures.
    """
    pictures = [_picture(visual) for visual in visuals]
    places = text.count(MARK)
    if places not in (0, len(pictures)):
        raise InputError(f"its text has {places} places for images, but there are {len(pictures)}")
    content: list[dict[str, Any]] = [] if places else [{"type": "image"} for _ in pictures]
    for number, piece in enumerate(text.split(MARK)):
        content += [{"type": "image"}] if number else []
        content += [{"type": "text", "text": piece}] if piece or not places else []
    return Asked([{"role": "user", "content": content}], pictures)


def generation_options(asked: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options of ``generate``, and what ends an answer, from a request's ``generation_kwargs``.

    An answer is drawn where the temperature is above 0, or where drawing is asked for without one.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    temperature = float(given.get("temperature", 1.0 if given.get("do_sample") else 0.0))
    drawn = temperature > 0
    options = {
        "max_new_tokens": int(given.get("max_new_tokens", MAX_NEW_TOKENS)),
        "num_beams": int(given.get("num_beams", 1)),
        "do_sample": drawn,
        # All are given, for else the language model's own settings would count.
        "repetition_penalty": float(given.get("repetition_penalty", 1.0)),
        "temperature": temperature if drawn else None,
        "top_p": given.get("top_p") if drawn else None,
        "top_k": given.get("top_k") if drawn else None,
    }
    until = given.get("until", [])
    stops = [until] if isinstance(until, str) else list(until)
    return options, tuple(stop for stop in stops if stop and stop != _OWN_STOP)


def answers(
    model: "MultimodalModel",
    processor: "Processor",
    asked: Sequence[Asked],
    options: Mapping[str, Any],
    stops: Sequence[str] = (),
) -> list[str]:
    """Answers to several at once, each up to the first of ``stops``.

    Raises:
        InputError: one is too long for the language model, or a picture cannot be read.
    """
    inputs = processor([one.messages for one in asked], [one.pictures for one in asked])
    length = inputs["input_ids"].shape[1]
    _check_room(model, length, options["max_new_tokens"])
    last = torch.tensor([-1], device=model.device)  # a slice would copy the output layer's weights
    tokens = model.generate(**inputs.to(model.device), **options, logits_to_keep=last)
    texts = model.tokenizer.batch_decode(tokens[:, length:], skip_special_tokens=True)
    return [_until(text, stops) for text in texts]


@torch.no_grad()
def likelihoods(
    model: "MultimodalModel",
    processor: "Processor",
    asked: Sequence[Asked],
    continuations: Sequence[str],
) -> list[Likelihood]:
    """How likely each answer is, with the end of its turn.

    Raises:
        InputError: as of ``answers``; or an answer has no text.
    """
    conversations = [
        [*one.messages, {"role": "assistant", "content": text.strip()}]
        for one, text in zip(asked, continuations, strict=True)
    ]
    inputs = processor(conversations, [one.pictures for one in asked], labels=True)
    _check_room(model, inputs["input_ids"].shape[1], 0)
    labels: Tensor = inputs.pop("labels")  # (B, T), texts at the right
    supervised = labels >= 0
    kept = int(supervised.shape[1] - supervised.any(0).nonzero()[0])
    logits = model(**inputs.to(model.device), logits_to_keep=kept + 1).logits  # (B, K + 1, ...)
    log_probabilities = logits[:, :-1].float().log_softmax(-1).cpu()
    labels, supervised = labels[:, -kept:], supervised[:, -kept:]
    own = log_probabilities.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    right = (log_probabilities.argmax(-1) == labels) | ~supervised
    losses = -(own * supervised).sum(1) / supervised.sum(1)
    return [
        Likelihood(float(loss), bool(all_right))
        for loss, all_right in zip(losses, right.all(1), strict=True)
    ]


def with_max_pixels(processor: "Processor", max_pixels: int | None) -> "Processor":
    """Changes how many pixels a picture has at most.

    Raises:
        InputError: the model reads no pictures, or the limit is too small.
    """
    if max_pixels is not None:
        if processor.image is None:
            raise InputError("max_pixels limits pictures, but this model reads none")
        try:
            processor.image = replace(processor.image, max_pixels=max_pixels)
        except ValueError as error:
            raise InputError(str(error)) from error
    return processor


def _picture(visual: Any) -> Picture:
    from PIL import Image

    if isinstance(visual, Image.Image):
        return visual
    raise InputError(
        f"it has a {type(visual).__name__}, such as a video's or sound's name; this model reads"
        " texts and pictures"
    )


def _check_room(model: "MultimodalModel", length: int, more: int) -> None:
    limit = getattr(model.config.text_config, "max_position_embeddings", None)
    if limit is not None and length + more > limit:
        raise InputError(
            f"it takes {length:,} tokens with its images and {more:,} for the answer, but the"
            f" language model reads {limit:,}; give a smaller max_pixels or max_new_tokens"
        )


def _until(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text
