"""Pictures as the page shows them: uploads become codes, and codes pictures with their numbers."""

import base64
import io
import math
import secrets
import warnings
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from PIL import Image, UnidentifiedImageError

from viq.app.limits import Limits, RefusedError
from viq.app.models import Checkpoint
from viq.app.work import Job
from viq.cli.compare import Result, measure
from viq.codes import Codes
from viq.errors import CodesError, ImageError
from viq.image import load_image, scaled_size
from viq.image.load import readable_formats
from viq.metrics.codecs import CODECS, at_bytes
from viq.metrics.rate import bits_per_pixel

METHODS = ("jpeg", "webp")
SAMPLES = files("viq") / "samples"
PNG_LEVEL = 3  # of 9; the higher ones take long and save little


@dataclass(eq=False)
class Source:
    """What was loaded; edits and other checkpoints share it."""

    name: str
    png: bytes | None  # the picture, at most as large as is encoded; None: codes came alone
    file_size: tuple[int, int] | None = None  # (H, W) that the file had
    rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict)  # codecs' by bytes

    @property
    def nbytes(self) -> int:
        """Of the picture."""
        return len(self.png or b"")

    def image(self) -> Image.Image:
        """The picture, decoded anew: kept as a PNG it takes a fraction of the memory."""
        assert self.png is not None
        with Image.open(io.BytesIO(self.png)) as file:
            return file.convert("RGB")


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """Codes of one checkpoint and what they decode to; never changed, an edit makes another."""

    source: Source
    checkpoint: Checkpoint
    codes: Codes
    png: bytes  # decoded
    quality: Result | None  # None where there is no original
    number: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    @property
    def nbytes(self) -> int:
        """Of the codes and of what they decode to."""
        return len(self.png) + self.codes.nbytes

    def view(self) -> dict[str, Any]:
        """What the page needs to draw it, as JSON has it; codes are uint16, little-endian."""
        codes, source = self.codes, self.source
        little = codes.values.astype("<u2").tobytes()
        return {
            "picture": self.number,
            "name": source.name,
            "model": self.checkpoint.name,
            "has_original": source.png is not None,
            "file_size": source.file_size,
            "size": codes.original_size,
            "encoded_size": codes.encoded_size,
            "grid_size": codes.grid_size,
            "patch_size": codes.patch_size,
            "code_heads": codes.code_heads,
            "levels": codes.levels,
            "codes": base64.b64encode(little).decode("ascii"),
            "row": self._row(),
        }

    def _row(self) -> dict[str, Any]:
        if self.quality is not None:
            return row(self.quality)
        nbytes = self.codes.nbytes
        bpp = bits_per_pixel(nbytes, self.codes.original_size)
        return {"method": "viq", "bytes": nbytes, "bpp": bpp, "psnr": None, "ssim": None}


@dataclass(frozen=True)
class Upload:
    """A file as it came: a picture whose header was read, or codes."""

    name: str
    content: Image.Image | Codes


def row(result: Result) -> dict[str, Any]:
    """A row of the table as JSON has it, without infinity, the PSNR of what lost nothing."""
    found = result._asdict()
    found["lossless"] = math.isinf(result.psnr)
    found["psnr"] = None if found["lossless"] else result.psnr
    return found


def open_upload(data: bytes, name: str, limits: Limits) -> Upload:
    """Reads codes, or a picture's header, without decoding its pixels.

    Raises:
        RefusedError: it is neither, or too large.
    """
    name = _short_name(name)
    if not data:
        raise RefusedError(400, f"{name}: the file is empty.")
    try:
        if PurePath(name).suffix.lower() == ".viq":
            codes = Codes.from_bytes(data, name)
            _check_codes(codes, name, limits)
            return Upload(name, codes)
        image = _open(data, name)
    except (CodesError, ImageError) as error:
        raise RefusedError(415, f"{error}.") from error
    width, height = image.size
    if (pixels := width * height) > limits.max_file_pixels:
        raise RefusedError(
            413,
            f"{name}: {width} x {height} are {pixels / 1e6:,.1f} million pixels; at most"
            f" {limits.max_file_pixels / 1e6:,.0f} million are taken.",
        )
    return Upload(name, image)


def open_sample(name: str, limits: Limits) -> Upload:
    """One of the bundled pictures.

    Raises:
        RefusedError: there is none by that name.
    """
    if name not in samples():
        raise RefusedError(404, "There is no such sample.")
    return open_upload((SAMPLES / name).read_bytes(), name, limits)


def samples() -> list[str]:
    """The names of the bundled pictures."""
    return sorted(file.name for file in SAMPLES.iterdir() if file.name.endswith(".png"))


def encode(job: Job, upload: Upload, checkpoints: list[Checkpoint], limits: Limits) -> Picture:
    """An upload as the page shows it.

    Args:
        job: to see whether anybody still waits.
        upload: from ``open_upload``.
        checkpoints: the one to take first; codes are decoded by the one that made them.
        limits: how large a picture may be.

    Raises:
        ImageError: the picture is damaged.
        CodesError: none of the checkpoints made the codes.
    """
    if isinstance(upload.content, Codes):
        source = Source(upload.name, None)
        return show(job, source, _maker(upload.content, upload.name, checkpoints), upload.content)
    image = load_image(upload.content, name=upload.name)
    size = (image.height, image.width)
    scaled = scaled_size(size, limits.max_pixels)
    if scaled != size:
        image = image.resize(scaled[::-1], Image.Resampling.LANCZOS)
    return recode(job, Source(upload.name, _png(image), size), checkpoints[0], image)


def recode(
    job: Job, source: Source, checkpoint: Checkpoint, image: Image.Image | None = None
) -> Picture:
    """A picture by a checkpoint's codes."""
    image = source.image() if image is None else image
    job.check()
    codes = checkpoint.tokenizer.encode(checkpoint.tokenizer.prepare(image))
    return show(job, source, checkpoint, codes, image)


def show(
    job: Job,
    source: Source,
    checkpoint: Checkpoint,
    codes: Codes,
    image: Image.Image | None = None,
) -> Picture:
    """Decodes codes, and measures the result where there is an original."""
    job.check()
    decoded = checkpoint.tokenizer.decode(codes)
    job.check()
    quality = None
    if source.png is not None:
        original = source.image() if image is None else image
        quality = measure(original, decoded, "viq", codes.nbytes)
    return Picture(
        source=source, checkpoint=checkpoint, codes=codes, png=_png(decoded), quality=quality
    )


def compare(job: Job, picture: Picture) -> None:
    """Tells the rows of JPEG and WebP in as many bytes as the codes; the same bytes but once."""
    source, num_bytes = picture.source, picture.codes.nbytes
    if source.png is None:
        raise RefusedError(400, "These codes came without a picture to compare with.")
    if num_bytes not in source.rows:
        image, rows = source.image(), []
        for method in METHODS:
            job.check()
            found = at_bytes(image, CODECS[method], num_bytes)
            if found is None:
                rows.append({"method": method, "bytes": None})
            else:
                result = measure(image, found.image, method, found.num_bytes, found.reduction)
                rows.append(row(result))
        source.rows[num_bytes] = rows
    for one in source.rows[num_bytes]:
        job.tell(type="row", **one)


def _open(data: bytes, name: str) -> Image.Image:
    """A picture of which the header alone is read."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return Image.open(io.BytesIO(data), formats=readable_formats())
    except UnidentifiedImageError as error:
        raise ImageError("this is not a picture in a format that is read", name) from error
    except Image.DecompressionBombError as error:
        raise ImageError("it has too many pixels", name) from error
    except Exception as error:  # damaged data make Pillow raise nearly anything
        raise ImageError("this picture is damaged", name) from error


def _check_codes(codes: Codes, name: str, limits: Limits) -> None:
    covered = math.prod(codes.grid_size) * codes.patch_size**2
    # A picture of max_pixels may be padded; a thin one to a multiple of its size.
    if max(covered / 4, math.prod(codes.original_size)) > limits.max_pixels:
        height, width = codes.original_size
        raise RefusedError(
            413,
            f"{name}: these codes decode to {width} x {height} pixels; this page decodes at most"
            f" {limits.max_pixels:,}. `viq decode` has no such limit.",
        )


def _maker(codes: Codes, name: str, checkpoints: list[Checkpoint]) -> Checkpoint:
    for checkpoint in checkpoints:
        if checkpoint.tokenizer.fingerprint == codes.fingerprint:
            return checkpoint
    known = ", ".join(f"{one.name} ({one.tokenizer.fingerprint[:12]})" for one in checkpoints)
    raise CodesError(
        f"these codes were made by tokenizer {codes.fingerprint[:12]}, and this page has {known};"
        " start it with --model and the tokenizer that made them.",
        name,
    )


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def _short_name(name: str) -> str:
    """A file's name without folders, fit to be shown."""
    name = "".join(c if c.isprintable() else " " for c in PurePath(name.replace("\\", "/")).name)
    return name.strip()[-80:] or "the file"
