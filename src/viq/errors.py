"""Everything that can go wrong by name. Each error carries its data and reads as one line."""

from collections.abc import Iterable
from os import PathLike


class ViQError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(ViQError):
    """An input could not be used.

    Attributes:
        source: the file, or what else the input is called; None for a value without a name.
        reason: what was wrong and what to do, without the source.
    """

    def __init__(self, reason: str, source: str | PathLike[str] | None = None) -> None:
        self.reason = " ".join(reason.split())  # libraries' messages may have many lines
        self.source = None if source is None else str(source)
        super().__init__(self.reason if source is None else f"{self.source}: {self.reason}")


class ImageError(InputError):
    """An image could not be read, or cannot be encoded."""


class CodesError(InputError):
    """Codes could not be read or written, or are not what a tokenizer can take."""


class FingerprintError(CodesError):
    """Codes of another tokenizer.

    Attributes:
        expected: the fingerprint of the tokenizer that was asked.
        found: the fingerprint that the codes carry.
    """

    def __init__(
        self, expected: str, found: str, source: str | PathLike[str] | None = None
    ) -> None:
        self.expected, self.found = expected, found
        super().__init__(
            f"these codes were made by tokenizer {found[:12]}, this tokenizer is {expected[:12]};"
            " load the tokenizer that made them, or encode the images again",
            source,
        )


class ModelError(InputError):
    """A model could not be found or loaded, or cannot do what was asked."""


class ConversionError(InputError):
    """A foreign checkpoint does not have the layout that its format has.

    Attributes:
        keys: the tensors that are missing, left over or of the wrong shape.
    """

    def __init__(
        self,
        reason: str,
        source: str | PathLike[str] | None = None,
        keys: Iterable[str] = (),
    ) -> None:
        self.keys = tuple(keys)
        super().__init__(reason, source)
