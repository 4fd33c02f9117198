"""A model's answers to questions about pictures, or to the same ones without them, in batches.

Texts of a batch are padded at the left, and pictures are encoded one by one, so an answer does not
depend on what else is in its batch, beyond the noise of floating-point sums.

Axes: B questions, T tokens of the longest, M choices of all questions, C tokens of the longest.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from viq.chat import IGNORED, encode_chat, filling_id
from viq.data.images import as_picture
from viq.errors import InputError
from viq.evaluation.task import Item
from viq.mllm import MultimodalModel

# Greedy, whatever the language model's own settings are.
_GREEDY: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "temperature": None,
    "top_p": None,
    "top_k": None,
}


@dataclass(frozen=True)
class Question:
    """The model's inputs for one item, as tensors of one row.

    Attributes:
        tensors: as the processor makes them.
        choices: tokens of each, if they are ranked.
        too_long: why the language model cannot read it all; None: it can.
    """

    tensors: dict[str, Tensor]
    choices: tuple[tuple[int, ...], ...] = ()
    too_long: str | None = None

    @property
    def length(self) -> int:
        """Tokens before the answer, with those of pictures."""
        return self.tensors["input_ids"].shape[1]

    @property
    def pictures(self) -> int:
        """How many there are."""
        return len(self.tensors.get("grid_sizes", ()))

    @property
    def picture_tokens(self) -> int:
        """Of all pictures."""
        return int(self.tensors["mm_token_type_ids"].sum())

    @property
    def same_as(self) -> Hashable:
        """Equal for questions that are the same; None where there are pictures."""
        if "pixel_values" in self.tensors:
            return None
        return tuple(self.tensors["input_ids"][0].tolist()), self.choices


class Answerer:
    """Answers by one model."""

    def __init__(
        self, model: MultimodalModel, *, max_pixels: int | None = None, sees: bool = True
    ) -> None:
        """Puts the model in evaluation mode.

        Args:
            model: that answers.
            max_pixels: larger pictures are scaled down to so many; by default the model's limit.
            sees: whether it is given the pictures; else questions are asked without them.

        Raises:
            InputError: the model has no such limit.
        """
        model.eval()  # type: ignore[no-untyped-call]
        self.model = model
        self.sees = sees
        self._processor = model.processor()
        if max_pixels is not None and self._processor.image is not None:
            try:
                self._processor.image = replace(self._processor.image, max_pixels=max_pixels)
            except ValueError as error:
                raise InputError(str(error), f"--max-pixels {max_pixels}") from error
        self._filling = filling_id(model.tokenizer)

    def read(self, item: Item, room: int) -> Question:
        """The inputs for an item, whose answer may have ``room`` tokens.

        Raises:
            InputError: a picture cannot be read.
        """
        content = [dict(part) for part in item.content if self.sees or part["type"] != "image"]
        pictures = [as_picture(image, item.id) for image in item.images] if self.sees else []
        inputs = self._processor([{"role": "user", "content": content}], pictures)
        choices = tuple(map(self._answer, item.choices))
        question = Question(dict(inputs), choices)
        room = max(map(len, choices), default=room)
        limit = getattr(self.model.config.text_config, "max_position_embeddings", None)
        if limit is None or question.length + room <= limit:
            return question
        too_long = (
            f"takes {question.length:,} tokens with its pictures and {room:,} for the answer, but"
            f" the language model reads {limit:,}"
        )
        return replace(question, too_long=too_long)

    def write(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """The likeliest next token, again and again, up to where the model ends its turn."""
        batch = self._together(questions)
        tokens = self.model.generate(
            **batch,
            **_GREEDY,
            max_new_tokens=max_new_tokens,
            # As a tensor: of a slice torch copies the output layer's weights for each text.
            logits_to_keep=torch.tensor([-1], device=self.model.device),
        )
        new = tokens[:, batch["input_ids"].shape[1] :]
        texts = self.model.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in texts]

    @torch.no_grad()
    def rank(self, questions: Sequence[Question]) -> list[list[float]]:
        """The mean log-likelihood of each choice's tokens, with the one that ends the turn.

        The questions are read once, and each choice goes on from there.
        """
        batch = self._together(questions)
        mask: Tensor = batch.pop("attention_mask")  # (B, T)
        last = torch.tensor([-1], device=mask.device)
        before = self.model(
            inputs_embeds=self.model.embed_inputs(**batch),
            attention_mask=mask,
            use_cache=True,
            logits_to_keep=last,
        )
        counts = [len(question.choices) for question in questions]
        of_row = torch.arange(len(questions)).repeat_interleave(torch.tensor(counts)).to(last)  # M
        labels = _padded([c for question in questions for c in question.choices]).to(last)  # (M, C)
        before.past_key_values.batch_select_indices(of_row)
        ids = labels[:, :-1].clamp_min(0)  # the last one of a choice, its end, predicts nothing
        lengths = mask.sum(1)[of_row, None]
        after = self.model(
            inputs_embeds=self.model.get_input_embeddings()(ids),
            attention_mask=torch.cat([mask[of_row], torch.ones_like(ids)], 1),
            position_ids=lengths + torch.arange(ids.shape[1], device=ids.device),
            past_key_values=before.past_key_values,
        )
        first = _losses(before.logits[of_row, -1:], labels[:, :1])
        losses = torch.cat([first, _losses(after.logits, labels[:, 1:])], 1)  # (M, C)
        means = -losses.sum(1) / (labels != IGNORED).sum(1)
        return [some.tolist() for some in means.split(counts)]

    def _answer(self, text: str) -> tuple[int, ...]:
        """The tokens that the model would have to write, as in training."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]
        tokens = encode_chat(turns, self.model.tokenizer, ())
        return tuple(token for token in tokens.labels if token != IGNORED)

    def _together(self, questions: Sequence[Question]) -> dict[str, Any]:
        """A batch, padded at the left to (B, T)."""
        longest = max(question.length for question in questions)
        batch: dict[str, Tensor] = {}
        for name in dict.fromkeys(name for q in questions for name in q.tensors):
            rows = [q.tensors[name] for q in questions if name in q.tensors]
            if name not in ("pixel_values", "grid_sizes"):
                value = self._filling if name == "input_ids" else 0
                rows = [F.pad(row, (longest - row.shape[1], 0), value=value) for row in rows]
            batch[name] = torch.cat(rows).to(self.model.device)
        return batch


def fix_adapters(model: MultimodalModel, dtype: torch.dtype | None = None) -> None:
    """Adds adapters to the weights that they change, and gives the language model another dtype.

    It answers faster so: 1.4 times, with SmolLM2-135M on CPU. The sums are in the dtype that the
    weights were loaded in: exact in float32, before they are cast.
    """
    if model.config.adapter is not None:
        model.lm.merge_adapter()
    if dtype is not None:
        model.lm.to(dtype)


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(M, C), at the right where there is nothing ``IGNORED``."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[IGNORED] * (longest - len(row))] for row in rows])


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """(M, C), 0 where the label is ``IGNORED``."""
    return F.cross_entropy(logits.float().mT, labels, ignore_index=IGNORED, reduction="none")
