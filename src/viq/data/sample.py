"""One sample of any source: an id, images, and a conversation about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from viq.image.load import Picture

Message = Mapping[str, Any]
"""As transformers' chat templates take it: {"role": ..., "content": [parts]}.

A part is {"type": "image"}, which stands for the next of the sample's images, or
{"type": "text", "text": ...}.
"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What every reader and generator gives; ``messages`` name as many images as there are."""

    id: str
    images: tuple[Picture | bytes, ...]  # bytes are an encoded file's; read when they are used
    messages: tuple[Message, ...]


class Source(Protocol):
    """Samples by number; nothing is decoded before it is asked for. Can be pickled."""

    name: str

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int) -> Sample:
        """One sample.

        Raises:
            InputError: it cannot be read or contradicts itself; names the sample.
        """


def caption_sample(id: str, image: Picture | bytes, question: str, caption: str) -> Sample:
    """A sample of one image, one question and one answer."""
    content: Sequence[Mapping[str, str]] = ({"type": "image"}, {"type": "text", "text": question})
    answer = ({"type": "text", "text": caption},)
    messages = ({"role": "user", "content": content}, {"role": "assistant", "content": answer})
    return Sample(id=id, images=(image,), messages=messages)
