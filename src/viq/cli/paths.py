"""Which files a command reads and which it writes, settled before any work is done."""

import glob
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from viq.errors import InputError

CODES = (".viq",)

# What a folder is searched for. A file that is named is tried whatever its suffix.
PICTURES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".dib", ".avif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".qoi", ".pcx", ".sgi", ".tga"),
)

INPUTS_HELP = "files, folders (with all that is in them, hidden files apart), or quoted globs"


class Found(NamedTuple):
    """An input file."""

    path: Path
    relative: Path  # where it was in the folder that was named, or just its name


class Job(NamedTuple):
    """An input file and the output file that it becomes."""

    source: Path
    target: Path


def find(inputs: Iterable[str], suffixes: Sequence[str]) -> list[Found]:
    """The files that ``inputs`` name, each once, in order; a folder's sorted by path.

    Args:
        inputs: files, folders, which are searched for ``suffixes``, and globs, whose files count.
        suffixes: in lower case, with the dot.

    Raises:
        InputError: a folder or glob has no such file, or of the named files there is none.
    """
    files = list(dict.fromkeys(found for text in inputs for found in _find(text, suffixes)))
    if not any(os.path.lexists(file.path) for file in files):
        raise InputError("no such file or folder", ", ".join(str(file.path) for file in files))
    return files


def plan(
    inputs: Iterable[str], out: str | os.PathLike[str], suffix: str, suffixes: Sequence[str]
) -> list[Job]:
    """Gives each file of ``find`` its output: the folder ``out``, the relative path, ``suffix``.

    Raises:
        InputError: as for ``find``; or two inputs would become the same output, or an output is an
            input.
    """
    jobs: dict[str, Job] = {}
    for found in find(inputs, suffixes):
        job = Job(found.path, (Path(out) / found.relative).with_suffix(suffix))
        other = jobs.setdefault(_key(job.target), job)
        if _key(other.source) != _key(job.source):
            raise InputError(
                f"{other.source} and {job.source} would both be written to {job.target}; rename"
                " one, or give each its own --out"
            )
    refuse_inputs([job.target for job in jobs.values()], [job.source for job in jobs.values()])
    return list(jobs.values())


def refuse_inputs(targets: Iterable[Path], sources: Iterable[Path]) -> None:
    """Sees to it that no output is an input.

    Raises:
        InputError: one is.
    """
    inputs = {_key(source) for source in sources}
    for target in targets:
        if _key(target) in inputs:
            raise InputError("is an input and would be overwritten; choose another --out", target)


def make_folder(folder: Path) -> None:
    """Makes a folder for outputs, and the ones above it.

    Raises:
        InputError: it cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError("is a file, so it cannot be the folder for the results", folder) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the folder cannot be made: {reason}", folder) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError("the folder cannot be written to", folder)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a name to write to, which becomes ``path`` when all went well.

    Raises:
        InputError: the file cannot be written.
    """
    temporary = path.parent / f".{uuid.uuid4().hex}{path.suffix}"
    try:
        yield temporary
        temporary.replace(path)
    except (OSError, ValueError) as error:  # ValueError: the picture is too large for the format
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be written: {reason}", path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _find(text: str, suffixes: Sequence[str]) -> list[Found]:
    if not text:
        raise InputError("an input is empty text")  # an unset variable, not the current folder
    path = Path(text)
    if os.path.isdir(path):
        if not (found := sorted(_walk(path, suffixes))):
            raise InputError(f"no file here ends in {', '.join(suffixes)}", path)
        return found
    if os.path.lexists(path) or not glob.has_magic(text):
        return [Found(path, Path(path.name))]  # if it is not there, whoever reads it says so
    files = [name for name in sorted(glob.glob(text, recursive=True)) if os.path.isfile(name)]
    if not files:
        raise InputError("no file matches this pattern", text)
    return [Found(Path(name), Path(Path(name).name)) for name in files]


def _walk(folder: Path, suffixes: Sequence[str]) -> Iterator[Found]:
    def refuse(error: OSError) -> None:
        raise InputError(f"cannot be listed: {error.strerror}", error.filename)

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if path.suffix.lower() in suffixes and not name.startswith("."):
                yield Found(path, path.relative_to(folder))


def _key(path: Path) -> str:
    """Equal for two ways to write one file's name."""
    return os.path.normcase(os.path.realpath(path))
