"""Fonts: those that come with matplotlib, and those of a folder."""

import string
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import ImageFont

from viq.data.synthetic.draws import pick
from viq.data.synthetic.splits import Split, part, split_of
from viq.errors import InputError

PROSE = string.ascii_letters + string.digits + ".,:;!?()-'/%&@+="  # what every font can write
FULL = "".join(map(chr, range(33, 127))) + "£€"  # what most can

# The TeX fonts have other glyphs than ASCII's in some places, which no look at coverage tells.
TEX = frozenset({"cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"})
SYMBOLS = frozenset({"cmex10", "cmmi10", "cmsy10"})
_PROSE = frozenset(PROSE + " ")

MIN_X_HEIGHT = 4  # pixels of a lower-case x; nobody reads less


@dataclass(frozen=True, kw_only=True)
class Face:
    """One font file."""

    name: str
    path: Path
    mono: bool  # all characters are equally wide
    full: bool  # writes all of FULL, not only PROSE
    x_height: float  # of the size

    def at(self, size: int) -> ImageFont.FreeTypeFont:
        """The font at ``size`` pixels, or at the least size that can be read."""
        return _load(self.path, max(size, int(np.ceil(MIN_X_HEIGHT / self.x_height))))

    def writes(self, text: str) -> bool:
        """Whether the face has all characters of a text."""
        return self.full or set(text) <= _PROSE


@dataclass(frozen=True, kw_only=True)
class Fonts:
    """The faces of one split."""

    faces: tuple[Face, ...]

    def any(self, rng: np.random.Generator) -> Face:
        """A face for prose: it may lack signs that are not in ``PROSE``."""
        return pick(rng, self.faces)

    def full(self, rng: np.random.Generator) -> Face:
        """A face for all texts."""
        return pick(rng, [face for face in self.faces if face.full])

    def mono(self, rng: np.random.Generator) -> Face:
        """A face for all texts whose characters are equally wide."""
        return pick(rng, [face for face in self.faces if face.full and face.mono])


def find_fonts(split: Split, folder: Path | None = None) -> Fonts:
    """Matplotlib's fonts and the folder's that belong to ``split``.

    Raises:
        InputError: matplotlib is not installed, or the folder has no usable font.
    """
    bundled = _faces(_matplotlib_folder())
    chosen: list[Face] = []
    # Each kind has faces in each split, or there would be no terminal to validate on.
    for full, mono, at_least in ((True, False, 2), (True, True, 1), (False, False, 1)):
        faces = [face for face in bundled if (face.full, face.full and face.mono) == (full, mono)]
        names = part(tuple(face.name for face in faces), split, at_least)
        chosen += [face for face in faces if face.name in names]
    if folder is not None:
        if not folder.is_dir():
            raise InputError("no such folder of fonts", folder)
        if not (faces := list(_faces(folder))):
            raise InputError("has no .ttf or .otf font that writes English", folder)
        known = {face.name for face in bundled}  # a copy may not change its split
        new = [face for face in faces if face.name not in known]
        chosen += [face for face in new if split_of(face.name) == split]
    return Fonts(faces=tuple(chosen))


def _matplotlib_folder() -> Path:
    """Found without an import, which takes long."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise InputError(
            "synthetic images are written in the fonts of matplotlib, which is not installed;"
            " run: pip install 'viq[train]'"
        )
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


@cache
def _faces(folder: Path) -> tuple[Face, ...]:
    """All usable fonts of a folder, by name."""
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".ttf", ".otf"))
    faces = [_face(file) for file in files if file.stem not in SYMBOLS]
    return tuple(face for face in faces if face is not None)


def _face(file: Path) -> Face | None:
    """A font with what can be measured of it; None if it cannot write English."""
    try:
        font = _load(file, 40)
        shapes = {character: _shape(font, character) for character in FULL}
    except OSError:  # damaged, or bitmaps of other sizes
        return None
    missing = _shape(font, "\uffff")
    blank = _shape(font, " ")
    lacking = {c for c, shape in shapes.items() if shape in (missing, blank)}
    letters = {shapes[c] for c in string.ascii_letters}
    # Fonts that stand in for others draw one box for all letters; I and l may well be alike.
    if lacking & set(PROSE) or len(letters) < 48:
        return None
    top, bottom = font.getbbox("x", anchor="ls")[1::2]
    return Face(
        name=file.stem,
        path=file,
        mono=font.getlength("i") == font.getlength("W"),
        full=not lacking and file.stem not in TEX,
        x_height=(bottom - top) / 40,
    )


def _shape(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@lru_cache(maxsize=256)
def _load(path: Path, size: int) -> ImageFont.FreeTypeFont:
    # Basic layout: the same pixels whether or not the Raqm library is there.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
