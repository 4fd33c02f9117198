"""Conversations in LLaVA's JSON: a list of samples, or one sample a line.

A sample is {"id", "image": path or list of paths, "conversations": [turns]}; without "image" it is
text alone. Only where each sample lies in the file is kept in memory.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from viq.data.conversation import read_turns
from viq.data.rows import RowSource, read_images, row_repeats
from viq.data.sample import Sample
from viq.errors import InputError

_MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark


class LlavaSource(RowSource):
    """Samples of one JSON or JSONL file, whatever its suffix."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        image_root: Path | None = None,
        need_text: bool = True,
        weight_column: str = "kind",
        row_weights: Mapping[str, int] | None = None,
    ) -> None:
        """Finds the samples.

        Args:
            name: begins every sample's id.
            path: the file.
            image_root: where image paths begin; the file's folder if None.
            need_text: whether conversations are read; without, messages are ().
            weight_column: the key whose values ``row_weights`` weighs.
            row_weights: how often an epoch has samples of a value; once where none is given.

        Raises:
            InputError: there is no such file, a list of samples is damaged, there is none in it,
                or no sample has the key.
        """
        self._root = path.parent if image_root is None else image_root
        self._need_text = need_text
        self._places = np.array(list(_places(path)), dtype=np.int64).reshape(-1, 3)
        self.name, self.path = name, path  # what _parse needs
        repeats = None
        if row_weights:
            samples = [self._parse_if_whole(row) for row in range(len(self._places))]
            if not any(weight_column in sample for sample in samples):
                keys = ", ".join(samples[0]) if samples else "none"
                raise InputError(f"no sample has {weight_column!r}; there are: {keys}", path)
            repeats = row_repeats((sample.get(weight_column) for sample in samples), row_weights)
        super().__init__(name, path, np.ones(len(self._places), dtype=np.bool_), repeats)

    def _read(self, row: int) -> Sample:
        sample = self._parse(row)
        id = self._id(sample.get("id"), row)
        where = self._where(id)
        images = read_images(sample.get("image", sample.get("images")), self._root, where)
        messages = (
            read_turns(sample.get("conversations", sample.get("messages")), len(images), where)
            if self._need_text
            else ()
        )
        return Sample(id=id, images=images, messages=messages)

    def _parse_if_whole(self, row: int) -> dict[str, Any]:
        try:
            return self._parse(row)
        except InputError:  # raised again when the sample is asked for
            return {}

    def _parse(self, row: int) -> dict[str, Any]:
        start, length, line = map(int, self._places[row])
        with self.path.open("rb") as file:
            file.seek(start)
            text = file.read(length)
        where = f"{self.path}: line {line}, sample {self._id(None, row)}"
        try:
            sample = json.loads(text.decode())
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
            raise InputError(f"is not JSON ({error})", where) from error
        if not isinstance(sample, dict):
            raise InputError(f"is a {type(sample).__name__}, not an object", where)
        return sample


def _places(path: Path) -> Iterator[tuple[int, int, int]]:
    """Each sample's first byte, number of bytes, and line."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
            start = len(_MARK) if head.startswith(_MARK) else 0
            first = head[start:].lstrip()[:1]
            file.seek(start)
            if first == b"[":
                yield from _places_in_list(file.read(), start, path)
            elif first in (b"{", b""):
                for line, text in enumerate(file, 1):
                    if text.strip():
                        yield start, len(text), line
                    start += len(text)
            else:
                raise InputError("is neither a JSON list of samples nor one sample a line", path)
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror}", path) from error


def _places_in_list(data: bytes, start: int, path: Path) -> Iterator[tuple[int, int, int]]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 ({error})", path) from error
    line, at = 1, 0
    try:
        for begin, end in _spans(text):
            start += len(text[at:begin].encode())
            line += text.count("\n", at, begin)
            size = len(text[begin:end].encode())
            yield start, size, line
            start += size
            line += text.count("\n", begin, end)
            at = end
    except json.JSONDecodeError as error:
        raise InputError(f"line {error.lineno}: is not JSON ({error.msg})", path) from error
    except RecursionError as error:
        raise InputError(f"line {line}: is nested too deep to be read", path) from error


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each item of a JSON list begins and ends; one item is held at a time."""
    decoder = json.JSONDecoder()
    at = _after_blanks(text, text.index("[") + 1)
    while text[at : at + 1] != "]":
        _, end = decoder.raw_decode(text, at)
        yield at, end
        at = _after_blanks(text, end)
        if text[at : at + 1] == ",":
            at = _after_blanks(text, at + 1)
        elif text[at : at + 1] != "]":
            raise json.JSONDecodeError("a comma or the end of the list is missing", text, at)


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
