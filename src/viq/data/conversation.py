"""Conversations as data sets hold them, turned into the messages of chat templates.

Two spellings are read: LLaVA's {"from": "human" or "gpt", "value": text} and transformers'
{"role": ..., "content": text or parts}. In text of the user, ``<image>`` stands for an image.
"""

import hashlib
from collections.abc import Mapping, Sequence

from viq.chat import Message
from viq.errors import InputError

PLACEHOLDER = "<image>"

# What a picture with a caption is asked.
QUESTIONS = (
    "What does this picture show?",
    "Describe the image in a few words.",
    "Give this image a short caption.",
    "What can be seen here?",
    "Name what is shown.",
    "Write one line about this picture.",
)

_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}

_Part = Mapping[str, str]


def question_for(id: str) -> str:
    """One of ``QUESTIONS``, the same for the same id on every machine."""
    digest = hashlib.blake2b(id.encode(), digest_size=8).digest()
    return QUESTIONS[int.from_bytes(digest, "big") % len(QUESTIONS)]


def read_turns(turns: object, images: int, where: str) -> tuple[Message, ...]:
    """The messages of a conversation about as many images as given.

    Args:
        turns: what the data set holds; anything but a list of turns is an error.
        images: how many images the sample has.
        where: the file and the sample, for errors.

    Raises:
        InputError: a turn is not as above or an answer is empty, no turn is an answer, or
            another number of images is named than there are.
    """
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise InputError(f"its conversation is {_brief(turns)}, not a list of turns", where)
    messages = tuple(_message(turn, number, where) for number, turn in enumerate(turns, 1))
    if not any(message["role"] == "assistant" for message in messages):
        raise InputError("nothing in its conversation is an answer", where)
    check_images(messages, images, where)
    return messages


def question_messages(question: str, answer: str, images: int) -> tuple[Message, ...]:
    """All images, then the question, then the answer."""
    content = (*({"type": "image"} for _ in range(images)), _text(question))
    return (
        {"role": "user", "content": content},
        {"role": "assistant", "content": (_text(answer),)},
    )


def check_images(messages: Sequence[Message], images: int, where: str | None) -> None:
    """Raises InputError unless the messages name exactly this many images."""
    parts = [p for m in messages if not isinstance(m["content"], str) for p in m["content"]]
    if (named := sum(part["type"] == "image" for part in parts)) != images:
        raise InputError(
            f"its messages name {named} images but it has {images};"
            f" write {PLACEHOLDER} once for each, in what the user says",
            where,
        )


def _message(turn: object, number: int, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise InputError(f"turn {number} is {_brief(turn)}, not an object", where)
    spoken_by = turn.get("role", turn.get("from"))
    role = _ROLES.get(spoken_by) if isinstance(spoken_by, str) else None
    if role is None:
        known = ", ".join(_ROLES)
        raise InputError(f"turn {number} is by {_brief(spoken_by)}; there are: {known}", where)
    content = turn.get("content", turn.get("value"))
    if isinstance(content, str):
        parts = _split(content) if role == "user" else (_text(content),)
    elif isinstance(content, Sequence):
        parts = tuple(_part(part, number, where) for part in content)
    else:
        raise InputError(f"turn {number} holds {_brief(content)}, not text", where)
    if role == "assistant" and not any(part.get("text", "").strip() for part in parts):
        raise InputError(f"turn {number} is an empty answer", where)
    return {"role": role, "content": parts}


def _part(part: object, number: int, where: str) -> _Part:
    if isinstance(part, Mapping):
        if part.get("type") == "image":
            return {"type": "image"}
        if part.get("type") == "text" and isinstance(text := part.get("text"), str):
            return _text(text)
    raise InputError(f"turn {number} has a part that is neither text nor image", where)


def _split(text: str) -> tuple[_Part, ...]:
    parts: list[_Part] = []
    for place, piece in enumerate(text.split(PLACEHOLDER)):
        if place:
            parts.append({"type": "image"})
        if piece:
            parts.append(_text(piece))
    return tuple(parts)


def _text(text: str) -> _Part:
    return {"type": "text", "text": text}


def _brief(value: object) -> str:
    """A value in an error: what it is, and not more of it than fits a line."""
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
