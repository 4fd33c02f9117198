"""Files that are whole or not there."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a name beside ``path`` to write to, which becomes ``path`` when all went well.

    Raises:
        OSError: it cannot be written, naming it.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):  # of another file, which is read here
            raise
        raise unwritable(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unwritable(error: OSError, path: Path) -> OSError:
    """The error with the file in it, which that of a full disk does not name.

    No InputError: what is evaluated goes on after those of one picture.
    """
    reason = f"cannot be written: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason += "; free some and repeat the command"
    return OSError(error.errno, reason, str(path))


def whole_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with whole_file(path) as temporary:
        temporary.write_bytes(encoded(text))


def encoded(text: str) -> bytes:
    r"""UTF-8; what is no Unicode, in the name of some file, becomes \udcXX, as JSON has it."""
    return text.encode("utf-8", "backslashreplace")
