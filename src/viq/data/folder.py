"""A folder of images, with captions beside them or in one list.

``name.txt`` beside ``name.jpg`` is its caption, or ``metadata.jsonl`` or ``captions.jsonl`` in the
folder holds lines {"file_name", "text" or "caption"}, as imagefolders of ``datasets`` have them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from viq.data.conversation import question_for, question_messages
from viq.data.rows import RowSource, read_images, row_repeats
from viq.data.sample import Sample
from viq.errors import InputError

LISTS = ("metadata.jsonl", "captions.jsonl")
SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".j2k", ".jp2", ".jpeg", ".jpg", ".png"),
    *(".ppm", ".qoi", ".tif", ".tiff", ".webp"),
}


class FolderSource(RowSource):
    """The lines of a folder's list, then all other images in it and its folders, by path.

    Images without a caption are left out.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        need_text: bool = True,
        weight_column: str = "kind",
        row_weights: Mapping[str, int] | None = None,
    ) -> None:
        """Lists the folder.

        Args:
            name: begins every sample's id.
            path: the folder.
            need_text: whether captions are read; without, all images count and messages are ().
            weight_column: the key of the list whose values ``row_weights`` weighs.
            row_weights: how often an epoch has images of a value; once where none is given.

        Raises:
            InputError: the list is damaged or has no such key, or no image is left.
        """
        self._need_text = need_text
        lines = _lines(path)
        keys = list(lines[0]) if lines else []
        listed = {line["file_name"] for line in lines}
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        files = [file.relative_to(path).as_posix() for file in found]
        lines += [{"file_name": file} for file in files if file not in listed]
        self._files: list[str] = [line["file_name"] for line in lines]
        self._captions = [_caption(line) for line in lines]  # blank: see the file beside
        usable = [
            not need_text or bool(caption) or _has_text((path / file).with_suffix(".txt"))
            for file, caption in zip(self._files, self._captions, strict=True)
        ]
        repeats = None
        if row_weights:
            if weight_column not in keys:
                there = ", ".join(keys) or "none, since there is no list of captions"
                raise InputError(f"no column {weight_column!r}; there are: {there}", path)
            repeats = row_repeats((line.get(weight_column) for line in lines), row_weights)
        super().__init__(name, path, np.array(usable, dtype=np.bool_), repeats)

    def _read(self, row: int) -> Sample:
        file = self._files[row]
        id = self._id(file, row)
        where = self._where(id)
        images = read_images(file, self.path, where)
        if not self._need_text:
            return Sample(id=id, images=images, messages=())
        caption = self._captions[row] or _read_text((self.path / file).with_suffix(".txt"), where)
        messages = question_messages(question_for(id), caption, 1)
        return Sample(id=id, images=images, messages=messages)


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of the folder's list; [] without one."""
    path = next((folder / name for name in LISTS if (folder / name).is_file()), None)
    if path is None:
        return []
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        if not text.strip():
            continue
        where = f"{path}: line {number}"
        try:
            line = json.loads(text)
        except ValueError as error:  # not JSON, or not UTF-8
            raise InputError(f"is not JSON ({error})", where) from error
        if not isinstance(line, dict) or not isinstance(line.get("file_name"), str):
            raise InputError("is not an object with a 'file_name'", where)
        if not isinstance(_caption(line), str):
            raise InputError("its caption is not text", where)
        lines.append(line)
    return lines


def _caption(line: Mapping[str, Any]) -> Any:
    caption = line.get("text", line.get("caption")) or ""
    return caption.strip() if isinstance(caption, str) else caption


def _has_text(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _read_text(path: Path, where: str) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"its caption cannot be read ({error})", where) from error
    if not text:
        raise InputError(f"its caption is blank: {path}", where)
    return text
