"""Conversations as a language model's tokens, with places for images and labels of the answers.

The tokenizer's own chat template writes the conversation; it is cut where answers begin and end
and where images stand, and each piece is tokenised alone. So a prompt has the same tokens in
training, with its answer behind it, and when the answer is generated.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from viq.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label of a token that is not supervised, as everywhere in transformers

Message = Mapping[str, Any]
"""As transformers' chat templates take it: {"role": ..., "content": [parts]}.

A part is {"type": "image"}, which stands for the next of the sample's images, or
{"type": "text", "text": ...}.
"""

CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + end_of_turn + '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\n' }}
{%- endif -%}
"""
"""For tokenizers without a chat template."""

# Stands for an image until the text is cut: characters for private use, which no text should have.
_IMAGE = "\ue0f1\ue0f2\ue0f3"


class ChatTokens(NamedTuple):
    """One sample's tokens."""

    input_ids: list[int]  # at the places of image tokens any valid id
    labels: list[int]  # the token itself where it is supervised, else IGNORED
    image_positions: list[int]  # places of image tokens, in order


class _Text(NamedTuple):
    """A conversation as the template writes it, with a mark for each image."""

    text: str
    answers: list[tuple[int, int]]  # where each begins, and where its end of turn ends


def filling_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """A token for places that are never read: behind the texts, and where images' tokens come."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(number for number in ids if isinstance(number, int))


def image_tokens(grid_size: tuple[int, int], pool: int) -> int:
    """Tokens of one image in the language model's sequence: begin, then rows with newlines, end."""
    h, w = grid_size
    return (h // pool) * (w // pool + 1) + 2


def encode_chat(
    messages: Sequence[Message],
    tokenizer: "PreTrainedTokenizerBase",
    image_tokens: Sequence[int],
    *,
    spell: bool = False,
    name: str | None = None,
) -> ChatTokens:
    """A whole conversation, of which the answers are supervised, each with its end-of-turn token.

    What the template writes between the generation prompt and the answer, such as an empty
    thought, belongs to the answer: a model that generates has to write it, too.

    Args:
        messages: as in ``viq.data.sample.Sample``.
        tokenizer: a tokenizer of transformers; without a chat template it gets ``CHATML``.
        image_tokens: how many tokens each image has, in order.
        spell: answers are tokenised letter by letter. A model that learns so reads words that it
            never saw, and what it writes is decoded as ever.
        name: the sample, for errors.

    Raises:
        InputError: there is no answer, the messages name another number of images, a text has
            the characters that stand for images here, the template cannot write the messages or
            does not let answers be told from prompts, or the tokenizer cannot spell.
    """
    written = _write(messages, tokenizer, len(image_tokens), False, name)
    if not written.answers:
        raise InputError("there is no answer to learn from", name)
    return _encode(written, tokenizer, image_tokens, spell)


def encode_prompt(
    messages: Sequence[Message],
    tokenizer: "PreTrainedTokenizerBase",
    image_tokens: Sequence[int],
    *,
    name: str | None = None,
) -> ChatTokens:
    """A conversation up to where the next answer begins; nothing is supervised.

    Raises:
        InputError: as of ``encode_chat``; and the last message is an answer.
    """
    if not messages or messages[-1]["role"] == "assistant":
        raise InputError("a prompt ends with what the user says", name)
    tokens = _encode(
        _write(messages, tokenizer, len(image_tokens), True, name), tokenizer, image_tokens
    )
    return tokens._replace(labels=[IGNORED] * len(tokens.labels))


def truncate(tokens: ChatTokens, max_length: int, *, name: str | None = None) -> ChatTokens:
    """The first ``max_length`` tokens, if no image and not all of the answers lie behind them.

    Raises:
        InputError: they do.
    """
    length = len(tokens.input_ids)
    if length <= max_length:
        return tokens
    labels = tokens.labels[:max_length]
    if tokens.image_positions and tokens.image_positions[-1] >= max_length:
        needed = tokens.image_positions[-1] + 1
        raise InputError(
            f"its images reach to token {needed:,}, but a sequence has {max_length:,};"
            " use a longer one (seq_len), or smaller images",
            name,
        )
    if all(label == IGNORED for label in labels):
        raise InputError(
            f"no answer lies in the first {max_length:,} of its {length:,} tokens;"
            " use a longer sequence (seq_len)",
            name,
        )
    return ChatTokens(tokens.input_ids[:max_length], labels, tokens.image_positions)


def end_of_turn(tokenizer: "PreTrainedTokenizerBase") -> str:
    """What ``CHATML`` closes a turn with: its own token if the tokenizer has it, or else EOS.

    Raises:
        InputError: there is neither.
    """
    own = "<|im_end|>"
    if own in _special_tokens(tokenizer):
        return own
    if not isinstance(tokenizer.eos_token, str):
        raise InputError(f"the tokenizer has no chat template, no {own} and no token for the end")
    return tokenizer.eos_token


def _write(
    messages: Sequence[Message],
    tokenizer: "PreTrainedTokenizerBase",
    images: int,
    prompt: bool,
    name: str | None,
) -> _Text:
    turns: list[dict[str, Any]] = [
        {"role": m["role"], "content": _content(m, name)} for m in messages
    ]
    if (named := sum(turn["content"].count(_IMAGE) for turn in turns)) != images:
        raise InputError(f"its messages name {named} images, but it has {images}", name)
    text = _render(turns, tokenizer, prompt, name)
    if (written := text.count(_IMAGE)) != images:
        raise InputError(f"the chat template writes {written} of {images} images", name)
    special = sorted(map(re.escape, _special_tokens(tokenizer)), key=len, reverse=True)
    end_token = re.compile(rf"\s*(?:{'|'.join(special) or '(?!)'})")  # (?!) matches nothing
    numbers = [number for number, turn in enumerate(turns) if turn["role"] == "assistant"]
    prompts = [_render(turns[:number], tokenizer, True, name) for number in numbers]
    stops = [*(len(before) for before in prompts), len(text)][1:]
    answers = []
    for number, before, stop in zip(numbers, prompts, stops, strict=True):
        if not text.startswith(before):
            raise InputError(
                f"the chat template writes turns 1 to {number} otherwise when more follow, so"
                f" answer {number + 1} cannot be told from its prompt",
                name,
            )
        content = turns[number]["content"].strip()  # many templates take off the blanks around it
        end = _answer_end(text[:stop], len(before), content, end_token)
        if end is None:
            raise InputError(
                f"the chat template changes answer {number + 1}, or closes it with no special"
                f" token: {text[len(before) : stop][-60:]!r}",
                name,
            )
        answers.append((len(before), end))
    return _Text(text, answers)


def _answer_end(text: str, start: int, content: str, end_token: re.Pattern[str]) -> int | None:
    """Where the token ends that closes the answer with this content; None if there is none."""
    while (start := text.find(content, start)) >= 0:
        if found := end_token.match(text, start + len(content)):
            return found.end()
        start += 1
    return None


def _content(message: Message, name: str | None) -> str:
    """The message's text, with a mark for each image."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if any(char in text for text in texts for char in _IMAGE):
        raise InputError(f"its text has one of the characters {_IMAGE!r}, used for images", name)
    return "".join(_IMAGE if part["type"] == "image" else part["text"] for part in parts)


def _render(
    turns: list[dict[str, Any]],
    tokenizer: "PreTrainedTokenizerBase",
    prompt: bool,
    name: str | None,
) -> str:
    from jinja2 import TemplateError

    own = not tokenizer.chat_template
    try:
        text = tokenizer.apply_chat_template(
            turns,
            chat_template=CHATML if own else None,
            end_of_turn=end_of_turn(tokenizer) if own else None,
            add_generation_prompt=prompt,
            tokenize=False,
        )
    except TemplateError as error:
        raise InputError(f"the chat template refuses the messages ({error})", name) from error
    assert isinstance(text, str)
    return text


def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> set[str]:
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


def _encode(
    written: _Text,
    tokenizer: "PreTrainedTokenizerBase",
    image_tokens: Sequence[int],
    spell: bool = False,
) -> ChatTokens:
    image_id = filling_id(tokenizer)
    ids: list[int] = []
    labels: list[int] = []
    places: list[int] = []
    counts = iter(image_tokens)
    cuts = [0, *(place for answer in written.answers for place in answer), len(written.text)]
    for number, (begin, end) in enumerate(pairwise(cuts)):  # by turns prompt and answer
        for place, piece in enumerate(written.text[begin:end].split(_IMAGE)):
            if place:
                count = next(counts)
                places += range(len(ids), len(ids) + count)
                ids += [image_id] * count
                labels += [IGNORED] * count
            if spell and number % 2:
                tokens = _spelled(piece, tokenizer)
            else:
                tokens = tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []
            ids += tokens
            labels += tokens if number % 2 else [IGNORED] * len(tokens)
    return ChatTokens(ids, labels, places)


def _spelled(text: str, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The tokens of each character alone, special tokens whole."""
    special, letters = _speller(tokenizer)
    ids: list[int] = []
    for piece in special.split(text):
        ids += (
            letters(piece) if special.fullmatch(piece) else [i for c in piece for i in letters(c)]
        )
    return ids


@lru_cache(maxsize=8)
def _speller(
    tokenizer: "PreTrainedTokenizerBase",
) -> tuple[re.Pattern[str], Callable[[str], list[int]]]:
    """What finds special tokens, and what tokenises one of them or one character.

    Raises:
        InputError: the tokenizer writes more than a character for a character.
    """
    names = sorted(map(re.escape, _special_tokens(tokenizer)), key=len, reverse=True)

    @cache
    def tokens(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return ids

    trial = "In 5 words."
    spelled = [number for letter in trial for number in tokens(letter)]
    if (found := tokenizer.decode(spelled, clean_up_tokenization_spaces=False)) != trial:
        raise InputError(
            f"this language model's tokenizer cannot spell: {trial!r} letter by letter reads"
            f" {found!r}; give --no-data.phases.0.spell-answers, and for every phase so"
        )
    return re.compile(rf"({'|'.join(names) or '(?!)'})"), tokens
