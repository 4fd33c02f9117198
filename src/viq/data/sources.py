"""Sources by config: what there is, and which reader takes it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from viq.data.codes import CodesSource
from viq.data.folder import LISTS, SUFFIXES, FolderSource
from viq.data.llava import LlavaSource
from viq.data.sample import Source
from viq.data.table import TableSource
from viq.errors import InputError
from viq.store import is_code_dataset

ShardKind = Literal["parquet", "webdataset", "codes"]
FileKind = Literal["llava", "folder"] | ShardKind
Kind = Literal["auto", "synthetic"] | FileKind

_CONVERSATIONS = (".json", ".jsonl")
_SHARDS: dict[ShardKind, str] = {"parquet": ".parquet", "webdataset": ".tar", "codes": ".parquet"}
KINDS: dict[str, Literal["llava", "parquet", "webdataset"]] = {  # of files, by their suffixes
    ".json": "llava",
    ".jsonl": "llava",
    ".parquet": "parquet",
    ".tar": "webdataset",
}
SPLIT = re.compile(r"(train|validation|valid|val|dev|test)([-_.]|$)")  # names that mean a split


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where samples come from."""

    name: str  # begins every sample's id, and is what a mixture's weights are given by
    path: str | None = None  # a file or folder; None for synthetic samples
    kind: Kind = "auto"  # auto: by suffix, or by what lies in the folder
    split: str = "train"  # of a folder: SPLIT-*.parquet, SPLIT.jsonl, SPLIT/ ...; a file is whole
    image_root: str | None = (
        None  # where image paths begin; beside the file that names them if None
    )
    need_text: bool = True  # False: every image counts, captioned or not, and messages may be ()
    row_weights: dict[str, int] = field(default_factory=dict)  # how often rows of a kind come
    weight_column: str = "kind"  # the column whose values row_weights names; others weigh 1
    tasks: tuple[str, ...] = ()  # of synthetic samples; () for all
    size: int = 1_000_000  # synthetic samples an epoch
    seed: int = 0  # of synthetic samples

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a source needs a name.")
        if negative := sorted(k for k, v in self.row_weights.items() if v < 0):
            raise ValueError(f"row weights of source {self.name} are negative: {negative}.")


def open_source(config: SourceConfig) -> Source:
    """Opens the source; samples are read when they are asked for.

    Raises:
        InputError: there is no such file or folder, nothing in it is of a kind that is read, or
            it cannot be opened; see the readers.
    """
    if config.kind == "synthetic":
        from viq.data.synthetic.source import SyntheticSource

        return SyntheticSource(
            name=config.name,
            tasks=config.tasks,
            split=config.split,  # type: ignore[arg-type]  # it says which there are
            seed=config.seed,
            size=config.size,
        )
    if config.path is None:
        raise InputError(f"a source of kind {config.kind} needs a path", config.name)
    path = Path(config.path).expanduser()
    if not path.exists():
        raise InputError("no such file or folder", path)
    kind = _kind(path, config.split) if config.kind == "auto" else config.kind
    need_text, column, weights = config.need_text, config.weight_column, config.row_weights
    if kind == "folder":
        folder = _image_folder(path, config.split)
        return FolderSource(
            config.name, folder, need_text=need_text, weight_column=column, row_weights=weights
        )
    image_root = None if config.image_root is None else Path(config.image_root).expanduser()
    if kind == "llava":
        return LlavaSource(
            config.name,
            path if path.is_file() else _conversations(path, config.split),
            image_root=image_root,
            need_text=need_text,
            weight_column=column,
            row_weights=weights,
        )
    files = [path] if path.is_file() else _shards(path, config.split, kind)
    if kind == "codes":
        return CodesSource(
            config.name,
            path,
            files,
            need_text=need_text,
            weight_column=column,
            row_weights=weights,
        )
    return TableSource(
        config.name,
        path,
        files,
        kind,
        image_root=image_root,
        need_text=need_text,
        weight_column=column,
        row_weights=weights,
    )


def _kind(path: Path, split: str) -> FileKind:
    if is_code_dataset(path):
        return "codes"
    if path.is_file():
        if (suffix := path.suffix.lower()) not in KINDS:
            raise InputError(f"unknown kind of file; there are: {', '.join(KINDS)}", path)
        return KINDS[suffix]
    for kind in ("parquet", "webdataset"):
        if any(_places(path, split, kind)):
            return kind
    if any((path / f"{split}{suffix}").is_file() for suffix in _CONVERSATIONS):
        return "llava"
    if any(p.name in LISTS or p.suffix.lower() in SUFFIXES for p in path.rglob("*")):
        return "folder"
    raise InputError(f"has no Parquet files, shards, images or {split}.jsonl", path)


def _shards(path: Path, split: str, kind: ShardKind) -> list[Path]:
    """A split's files: in a folder of its name, or those named after it; or those of no split."""
    if kind == "codes" and (path / "data").is_dir():
        path /= "data"  # beside it may lie a list of rows that could not be encoded
    for folder, files in _places(path, split, kind):
        if folder.name == split:
            return files
        if named := [f for f in files if re.match(rf"{re.escape(split)}([-_.])", f.name)]:
            return named
        if split == "train" and (rest := [f for f in files if not SPLIT.match(f.name)]):
            return rest
    raise InputError(f"no {split}-*{_SHARDS[kind]} here", path)


def _places(path: Path, split: str, kind: ShardKind) -> Iterator[tuple[Path, list[Path]]]:
    """Folders in which files of this kind lie, and the files."""
    for folder in (path / split, path, path / "data"):
        if files := sorted(folder.glob(f"*{_SHARDS[kind]}")):
            yield folder, files


def _conversations(path: Path, split: str) -> Path:
    for suffix in _CONVERSATIONS:
        if (file := path / f"{split}{suffix}").is_file():
            return file
    raise InputError(f"no {split}.json or {split}.jsonl here", path)


def _image_folder(path: Path, split: str) -> Path:
    if not path.is_dir():
        raise InputError("is a file, not a folder of images", path)
    if (path / split).is_dir():
        return path / split
    splits = sorted(p.name for p in path.iterdir() if p.is_dir() and SPLIT.fullmatch(p.name))
    if splits or split != "train":
        there = ", ".join(splits) or "none"
        raise InputError(f"no folder {split!r} in it; of splits there are: {there}", path)
    return path
