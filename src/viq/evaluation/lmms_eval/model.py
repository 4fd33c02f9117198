"""The models that lmms-eval runs; only lmms-eval imports this module.

Written for version 0.7.3. Answers are given one after the other, not as one list at the end: so
the harness's own cache (``--use_cache``) has each as soon as it is there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from lmms_eval.api.instance import GenerationResult, Instance  # type: ignore[import-not-found]
from lmms_eval.api.model import lmms  # type: ignore[import-not-found]
from tqdm import tqdm

from viq.errors import InputError
from viq.evaluation.lmms_eval.requests import (
    Asked,
    answers,
    from_messages,
    from_text,
    generation_options,
    likelihoods,
    with_max_pixels,
)
from viq.evaluation.understanding.answerer import fix_adapters
from viq.mllm import MultimodalModel


class SimpleViQ(lmms):  # type: ignore[misc]
    """Takes a text and its pictures; also ranks choices."""

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        *,
        lm: str | None = None,
        dtype: str | None = None,
        max_pixels: int | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        """Loads a model; the arguments are those of ``--model_args``.

        Args:
            pretrained: what ``MultimodalModel.from_pretrained`` takes, or a run's folder with
                mllm/ in it.
            lm: where its language model is now, if not where it was.
            dtype: of the language model's weights; as they were saved unless given.
            max_pixels: larger pictures are scaled down to so many.
            batch_size: requests at once.
            max_batch_size: not used; the harness gives it.
            device: for example "cuda"; by default accelerate's choice.
        """
        del max_batch_size
        super().__init__()
        try:
            self.batch_size = int(batch_size)
        except ValueError:
            raise InputError(f"batch_size is {batch_size!r}; give a number") from None
        inside = Path(pretrained) / "mllm"
        where = inside if inside.is_dir() else pretrained
        self.accelerator = Accelerator()
        self.device = torch.device(device) if device else self.accelerator.device
        model: Any = MultimodalModel.from_pretrained(where, lm=lm, dtype=dtype)
        self.viq = model.to(self.device).eval()
        fix_adapters(self.viq)
        self.processor = with_max_pixels(model.processor(), max_pixels)

    def generate_until(self, requests: Sequence[Instance]) -> Iterator[str]:
        """Answers, in the order of the requests."""
        for kwargs, some in self._batches(requests, _kwargs):
            asked = [self._asked(request) for request in some]
            options, stops = generation_options(kwargs)
            with _naming(some):
                yield from answers(self.viq, self.processor, asked, options, stops)

    def loglikelihood(self, requests: Sequence[Instance]) -> Iterator[GenerationResult]:
        """A pair for each request: its continuation's mean loss, and whether that is greedy.

        The harness takes the choice of the least loss. Its version 0.7.3 makes texts of pairs
        that come as such, but not of what a ``GenerationResult`` holds.
        """
        for _, some in self._batches(requests, lambda _: None):
            asked, continuations = [], []
            for request in some:
                text, continuation, *rest = request.args
                document = self._document(*rest[1:]) if rest else None
                asked.append(self._with_pictures(text, rest[0] if rest else None, document))
                continuations.append(
                    str(continuation(document)) if callable(continuation) else continuation
                )
            with _naming(some):
                found = likelihoods(self.viq, self.processor, asked, continuations)
            yield from (GenerationResult(text=tuple(pair)) for pair in found)

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuses: conversations of several rounds are not supported."""
        del requests
        raise InputError("this model does not take tasks of several rounds")

    def _asked(self, request: Instance) -> Asked:
        text, _, visuals, *document = request.args
        return self._with_pictures(text, visuals, self._document(*document))

    def _with_pictures(
        self, text: str, visuals: Callable[[Any], Any] | None, document: Any
    ) -> Asked:
        found = None if visuals is None else visuals(document)
        return from_text(text, list(found or []))

    def _document(self, number: int, task: str, split: str) -> Any:
        return self.task_dict[task][split][number]

    def _batches(
        self, requests: Sequence[Instance], key: Callable[[Instance], Any]
    ) -> Iterator[tuple[Any, list[Instance]]]:
        """Runs of requests with the same key, of so many at most; and a bar for the terminal."""
        with tqdm(total=len(requests), desc="viq", disable=self.rank != 0) as bar:
            for value, group in groupby(requests, key):
                some = list(group)
                for start in range(0, len(some), self.batch_size):
                    batch = some[start : start + self.batch_size]
                    yield value, batch
                    bar.update(len(batch))


class ViQ(SimpleViQ):
    """Takes conversations, with pictures in their places."""

    is_simple = False

    def _asked(self, request: Instance) -> Asked:
        _, messages, _, *document = request.args
        return from_messages(messages(self._document(*document)))


def _kwargs(request: Instance) -> dict[str, Any]:
    """The options of a request, which are its only dictionary."""
    return next((part for part in request.args if isinstance(part, dict)), {})


@contextmanager
def _naming(requests: Sequence[Instance]) -> Iterator[None]:
    """Says which documents an error is about."""
    try:
        yield
    except InputError as error:
        numbers = ", ".join(dict.fromkeys(str(request.doc_id) for request in requests))
        name = f"task {requests[0].task_name}, document {numbers}"
        raise InputError(error.reason, name) from error
