"""A language model's answers to held-out questions, beside the right ones.

Axes: N patches of all images, C width.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from viq.chat import IGNORED
from viq.data.batch import Batch
from viq.mllm.model import MultimodalModel, Prompt


def answers(
    mllm: MultimodalModel, batch: Batch, features: Tensor, *, max_new_tokens: int
) -> tuple[float, str]:
    """The share of last answers that are right to the letter, and a table of all in Markdown.

    ``features`` (N, C) are those of the batch's images.
    """
    turns = last_turns(batch)
    prompts = [turn.prompt for turn in turns]
    found = mllm.answer(features, batch.packing, batch.pool, prompts, max_new_tokens=max_new_tokens)
    right, asked = (
        mllm.tokenizer.batch_decode([ids.tolist() for ids in texts], skip_special_tokens=True)
        for texts in ([t.answer for t in turns], [t.question for t in turns])
    )
    same = [a.strip() == b.strip() for a, b in zip(right, found, strict=True)]
    head = ("question", "right answer", "answer")
    return sum(same) / len(same), _table(head, zip(asked, right, found, strict=True))


class Turn(NamedTuple):
    """A sample's last answer and what comes before it."""

    prompt: Prompt
    question: Tensor  # the prompt's tokens that are text
    answer: Tensor


def last_turns(batch: Batch) -> list[Turn]:
    """The last answer of each sample, in order; samples without one are an error."""
    turns, start = [], 0
    labels, places = batch.labels.cpu(), batch.image_positions.cpu()
    for length in batch.lengths[: len(batch.samples)]:
        supervised = (labels[start : start + length] != IGNORED).tolist()
        end = length - supervised[::-1].index(True)
        begin = end - supervised[:end][::-1].index(False)
        ids = batch.input_ids[start : start + begin]
        images = places[(places >= start) & (places < start + begin)] - start
        is_text = torch.ones(begin, dtype=torch.bool).index_fill(0, images, False)
        prompt = Prompt(ids, images.to(ids.device))
        answer = batch.input_ids[start + begin : start + end]
        turns.append(Turn(prompt, ids[is_text.to(ids.device)], answer))
        start += length
    return turns


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of any text."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"
