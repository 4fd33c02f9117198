"""What is evaluated: tokenizers, folders of decoded pictures, and codecs; all give back a picture.

Axes: N patches, Q code heads.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from viq.codes import Codes
from viq.errors import ImageError, InputError, ModelError
from viq.evaluation.coding import digest, encode
from viq.evaluation.pictures import listing, picture_files
from viq.image import load_image
from viq.metrics.codecs import CODECS, at_bytes, why_not
from viq.tokenizer import Tokenizer

RATES = "rates.json"  # in a folder of decoded pictures: bytes of each, by its name


class Rebuilt(NamedTuple):
    """What became of a picture."""

    image: Image.Image
    num_bytes: int | None  # that it was stored in; None where that is not known
    codes: Codes | None = None


class Request(NamedTuple):
    """A picture, as a subject gets it."""

    name: str
    image: Image.Image
    num_bytes: int | None  # that codecs may take; None where there is nothing to go by
    other_sizes: Sequence[tuple[int, int]] = ()  # (width, height) of it in the other protocols


class Subject(ABC):
    """Something that stores pictures.

    Attributes:
        name: what rows are called.
    """

    name: str

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """All that decides what comes out."""

    @abstractmethod
    def rebuild(self, request: Request) -> Rebuilt | None:
        """The picture as it comes back; None where there is none, which is no error.

        Raises:
            InputError: it cannot be; names the picture.
        """


class Model(Subject):
    """A tokenizer: encode, store, decode."""

    def __init__(self, name: str, tokenizer: Tokenizer) -> None:
        """For a tokenizer with codes and a decoder.

        Raises:
            ModelError: it is proximal, so there is nothing to store.
        """
        if tokenizer.config.network.head.quantizer.code_levels is None:
            raise ModelError("this tokenizer is proximal: it has latents but no codes", name)
        self.name, self.tokenizer = name, tokenizer

    def identity(self) -> Mapping[str, Any]:
        tokenizer = self.tokenizer
        parts = [tokenizer.part("embedder"), tokenizer.part("latent_head"), tokenizer.vae()]
        return {
            "kind": "model",
            "name": self.name,
            "tokenizer": tokenizer.fingerprint,
            "decoder": digest(parts),  # the fingerprint is of what encodes
            "max_pixels": tokenizer.config.image.max_pixels,
            "dtype": str(tokenizer.dtype),
            "device": tokenizer.device.type,
        }

    def rebuild(self, request: Request) -> Rebuilt:
        codes = encode(self.tokenizer, request.image, request.name)
        return Rebuilt(self.tokenizer.decode(codes), codes.nbytes, codes)


class Decoded(Subject):
    """A folder of pictures that were decoded elsewhere, found by their names but for the suffix.

    ``rates.json`` in it may say how many bytes each took: {"a/b": 1234, "a/c.png": 567}.
    """

    def __init__(self, name: str, folder: Path) -> None:
        """Lists the folder.

        Raises:
            InputError: it is no folder or has no pictures, two have one name, or its rates are
                damaged.
        """
        if not folder.is_dir():
            raise InputError("no such folder of decoded pictures", folder)
        self.name, self.folder = name, folder
        self._files: dict[str, Path] = {}
        for file in picture_files(folder):
            other = self._files.setdefault(stem := _stem(file.relative_to(folder)), file)
            if other != file:
                raise InputError(f"{other.name} and {file.name} are both called {stem!r}", folder)
        if not self._files:
            raise InputError("has no pictures", folder)
        self._rates = _rates(folder / RATES)

    def check(self, names: Sequence[str]) -> None:
        """Sees to it that no two originals would be one picture here.

        Raises:
            InputError: two would; names both.
        """
        originals: dict[str, str] = {}
        for name in names:
            other = originals.setdefault(stem := _stem(Path(name)), name)
            if other != name:
                raise InputError(
                    f"{other} and {name} would both be {stem!r} in {self.folder}; rename one",
                    "--decoded " + self.name,
                )

    def identity(self) -> Mapping[str, Any]:
        names = [str(file.relative_to(self.folder)) for file in self._files.values()]
        files = listing(self.folder, names)
        return {"kind": "decoded", "name": self.name, **files, "rates": self._rates}

    def rebuild(self, request: Request) -> Rebuilt | None:
        stem = _stem(Path(request.name))
        if (file := self._files.get(stem)) is None:
            raise ImageError(f"no picture called {stem!r}", self.folder)
        image = load_image(file)
        if image.size != request.image.size:
            if image.size in request.other_sizes:
                return None  # it is of the other protocol
            found, expected = ("{} x {}".format(*of.size) for of in (image, request.image))
            raise ImageError(f"is {found}, but the original is {expected}", file)
        num_bytes = self._rates.get(file.relative_to(self.folder).as_posix())
        return Rebuilt(image, self._rates.get(stem) if num_bytes is None else num_bytes)


class Codec(Subject):
    """A file format at as many bytes as codes take, or at so many bits per pixel."""

    def __init__(self, codec: str, *, bpp: float | None, beside: str | None) -> None:
        """For one of ``CODECS``; ``beside`` names what the bytes are taken from without ``bpp``.

        Raises:
            InputError: the codec cannot be used here.
        """
        assert (bpp is None) != (beside is None)
        if (reason := why_not(CODECS[codec])) is not None:
            raise InputError(reason, CODECS[codec].name)
        self.codec, self.bpp, self.beside = codec, bpp, beside
        at = f"as large as {beside}" if bpp is None else f"at {bpp:g} bpp"
        self.name = f"{CODECS[codec].name} {at}"

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "codec", "codec": self.codec, "bpp": self.bpp, "beside": self.beside}

    def rebuild(self, request: Request) -> Rebuilt | None:
        budget = request.num_bytes
        if self.bpp is not None:
            budget = int(self.bpp * math.prod(request.image.size) / 8)
        assert budget is not None
        found = at_bytes(request.image, CODECS[self.codec], budget)
        return None if found is None else Rebuilt(found.image, found.num_bytes)


def check(names: Sequence[str], taken: Sequence[str] = ()) -> None:
    """Sees to it that no two subjects have one name, and none that of something beside them.

    Raises:
        InputError: two have, or one has.
    """
    if clash := next((name for name in names if name in taken), None):
        raise InputError("something else is called so here; give it another name", clash)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError("is evaluated twice; give each another name", twice)


def _stem(path: Path) -> str:
    return PurePosixPath(path.as_posix()).with_suffix("").as_posix()


def _rates(path: Path) -> dict[str, int]:
    """Bytes by stem; none where there is no file."""
    if not path.exists():
        return {}
    try:
        rates = json.loads(path.read_text("utf-8"))
        if not all(type(value) is int and value >= 0 for value in rates.values()):
            raise ValueError("a value is no number of bytes")
        return dict(rates)
    except (ValueError, AttributeError, OSError) as error:
        raise InputError(
            f"does not say how many bytes each picture takes ({error})", path
        ) from error
