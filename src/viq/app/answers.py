"""Answers to questions about a picture, from its codes alone, told while they are written."""

import sys
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList, TextStreamer

from viq.app.limits import Limits, RefusedError
from viq.app.pictures import Picture
from viq.app.work import Job
from viq.cli.language import quiet


class _Telling(TextStreamer):
    """Tells the page each word as soon as it is whole."""

    def __init__(self, tokenizer: Any, job: Job) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._job = job

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
        if text:
            self._job.tell(type="text", text=text)


class _Left(StoppingCriteria):
    """Ends an answer that nobody reads."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:  # noqa: ARG002
        return torch.full((len(input_ids),), self._job.left, device=input_ids.device)


def answer(job: Job, picture: Picture, question: str, limits: Limits) -> None:
    """Tells the answer.

    Raises:
        RefusedError: there is no language model, or no room for an answer.
        ModelError: the language model does not load.
        CodesError: it cannot read these codes.
    """
    checkpoint = picture.checkpoint
    if checkpoint.why_not is not None:
        raise RefusedError(400, checkpoint.why_not)
    if not checkpoint.is_language_loaded:
        job.tell(type="loading")
    model = checkpoint.language_model()
    job.tell(type="reading")
    content = [{"type": "image"}, {"type": "text", "text": question}]
    inputs = model.processor()([{"role": "user", "content": content}], [picture.codes])
    length = inputs["input_ids"].shape[1]
    limit = getattr(model.config.text_config, "max_position_embeddings", None) or sys.maxsize
    if length >= limit:
        raise RefusedError(
            400,
            f"The picture and the question take {length:,} tokens, and the language model reads"
            f" {limit:,} with its answer; take a smaller picture.",
        )
    with quiet():
        tokens = model.generate(
            **inputs.to(model.device),
            do_sample=False,
            max_new_tokens=min(limits.max_new_tokens, limit - length),
            stopping_criteria=StoppingCriteriaList([_Left(job)]),
            streamer=_Telling(model.tokenizer, job),
        )
    job.check()
    new = tokens.shape[1] - length
    job.tell(type="answered", cut=new >= min(limits.max_new_tokens, limit - length))
