"""The rows of a JSON list or of a file of one object a line, one at a time from any of them on."""

import codecs
import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, BinaryIO, NamedTuple, NoReturn

from viq.errors import InputError

MARK = codecs.BOM_UTF8

_CHUNK = 1 << 20  # bytes
_MAX_ITEM = 64 << 20  # characters; a list's item without an end is not looked for any further
_NEAR_END = 16  # characters before a chunk's end in which an error may only be the cut
_BLANKS = re.compile(r"[ \t\n\r]*")


class Layout(Enum):
    """How rows lie in a file."""

    LIST = "list"
    LINES = "lines"


class JsonRow(NamedTuple):
    """One row of the file."""

    start: int  # its first byte, or a blank before it
    line: int  # from 1; of a list's item 0, since its lines are not counted
    value: Any  # None if it cannot be read
    error: str | None  # why it cannot be read, or is not an object


def layout_of(file: BinaryIO, name: str) -> tuple[Layout, int]:
    """How rows lie in the file, and at which byte they begin.

    Raises:
        InputError: it is neither a list nor lines of objects.
    """
    head = file.read(1 << 16)
    start = len(MARK) if head.startswith(MARK) else 0
    first = head[start:].lstrip()[:1]
    if first == b"[":
        return Layout.LIST, head.index(first) + 1
    if first in (b"{", b""):
        return Layout.LINES, 0
    raise InputError("is neither a JSON list of rows nor one row a line", name)


def read_lines(file: BinaryIO, start: int = 0, line: int = 1) -> Iterator[JsonRow]:
    """The rows from a byte on, which is the first of this line; blank lines are no rows."""
    file.seek(start)
    if not start and file.read(len(MARK)) == MARK:
        start = len(MARK)
    file.seek(start)
    for text in file:
        if not text.isspace():
            yield _parsed(text, start, line)
        start += len(text)
        line += 1


def read_list(file: BinaryIO, start: int, name: str) -> Iterator[JsonRow]:
    """The items of a list from a byte on, that of an item or the one after the list's bracket.

    Raises:
        InputError: it is damaged; what comes after that cannot be told apart.
    """
    text = _Text(file, start, name)
    while text.next_item():
        begin = text.byte()
        value = text.take()
        yield JsonRow(begin, 0, value, _fault(value))
    text.check_end()


def _parsed(text: bytes, start: int, line: int) -> JsonRow:
    try:
        value = json.loads(text.decode())
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
        return JsonRow(start, line, None, f"is not JSON ({error})")
    return JsonRow(start, line, value, _fault(value))


def _fault(value: object) -> str | None:
    if type(value) is dict:
        return None
    text = json.dumps(value, ensure_ascii=False)
    return f"is {text if len(text) <= 40 else text[:37] + '...'}, not an object"


class _Text:
    """A window on a list's text, which moves on by chunks."""

    def __init__(self, file: BinaryIO, start: int, name: str) -> None:
        file.seek(start)
        self._file, self._name = file, name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._scan = json.JSONDecoder().raw_decode
        self._text, self._at = "", 0
        self._counted, self._byte = 0, start  # a place in the window, and the byte that it is
        self._first, self._ended = True, False

    def byte(self) -> int:
        """The byte of the file at which the window's reader is."""
        self._byte += len(self._text[self._counted : self._at].encode())
        self._counted = self._at
        return self._byte

    def next_item(self) -> bool:
        """Moves to the next item; whether there is one."""
        character = self._next_character()
        if not self._first and character == ",":
            self._at += 1
            character = self._next_character()
        elif not self._first and character != "]":
            self._refuse("a comma or the end of the list is missing")
        self._first = False
        return character != "]"

    def take(self) -> Any:
        """The item that begins here."""
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _NEAR_END or "Unterminated" in error.msg
                if not cut or self._ended or len(self._text) - self._at > _MAX_ITEM:
                    self._refuse(error.msg)
            except RecursionError:
                self._refuse("an item is nested too deep")
            else:
                if end < len(self._text) or self._ended:  # else a number may go on
                    self._at = end
                    return value
            self._read(max(_CHUNK, len(self._text)))  # doubled: long items take their time

    def check_end(self) -> None:
        """Sees that nothing comes after the list, at whose bracket the reader is."""
        self._at += 1
        if self._skip_blanks():
            self._refuse("more comes after the end of the list")

    def _next_character(self) -> str:
        if not (character := self._skip_blanks()):
            self._refuse("the end of the list is missing")
        return character

    def _skip_blanks(self) -> str:
        """The next character that is none; "" at the end of the file."""
        while True:
            self._at = _BLANKS.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read(_CHUNK)

    def _read(self, size: int) -> None:
        """Reads on and forgets what is behind."""
        chunk = self._file.read(size)
        self.byte()
        try:
            more = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            self._refuse(f"not UTF-8: {error.reason}")
        self._text = self._text[self._at :] + more
        self._at = self._counted = 0
        self._ended = not chunk

    def _refuse(self, reason: str) -> NoReturn:
        reason = f"is not a JSON list (in the item at byte {self.byte():,}: {reason})"
        raise InputError(reason, self._name)
