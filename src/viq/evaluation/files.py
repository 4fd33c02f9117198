"""Files that are whole or not there."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a name beside ``path`` to write to, which becomes ``path`` when all went well."""
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def whole_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with whole_file(path) as temporary:
        temporary.write_bytes(encoded(text))


def encoded(text: str) -> bytes:
    r"""UTF-8; what is no Unicode, in the name of some file, becomes \udcXX, as JSON has it."""
    return text.encode("utf-8", "backslashreplace")
