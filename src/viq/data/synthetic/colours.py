"""Colours that can be told apart, and read."""

from colorsys import hsv_to_rgb
from dataclasses import dataclass

import numpy as np

from viq.data.synthetic.canvas import Colour
from viq.data.synthetic.draws import chance, several

NAMED: dict[str, Colour] = {
    "red": (214, 32, 38),
    "orange": (247, 135, 20),
    "yellow": (246, 217, 28),
    "green": (38, 148, 60),
    "blue": (32, 84, 204),
    "purple": (124, 42, 158),
    "pink": (246, 140, 186),
    "brown": (126, 74, 36),
    "gray": (134, 134, 138),
}


@dataclass(frozen=True, kw_only=True)
class Theme:
    """The colours of one picture."""

    background: Colour
    panel: Colour  # close to the background
    edge: Colour  # of lines
    ink: Colour
    pale_ink: Colour  # for what matters less
    accent: Colour
    accent_ink: Colour  # on accent

    @property
    def dark(self) -> bool:
        """Whether text is lighter than what it is written on."""
        return luminance(self.background) < luminance(self.ink)


def theme(rng: np.random.Generator, *, neutral: bool = False) -> Theme:
    """Draws a theme; a neutral one has a grey background, on which all named colours show."""
    hue = rng.random()
    if chance(rng, 0.25):
        value = rng.uniform(0.04, 0.12 if neutral else 0.2)
        strength = 0.0 if neutral else rng.uniform(0, 0.6)
        background = _hsv(hue, strength, value)
        ink = _hsv(hue + rng.uniform(-0.1, 0.1), rng.uniform(0, 0.25), rng.uniform(0.86, 1))
    else:
        strength = 0.0 if neutral or chance(rng, 0.4) else rng.uniform(0, 0.22)
        background = _hsv(hue, strength, rng.uniform(0.9, 1) if chance(rng, 0.6) else 1.0)
        ink = _hsv(rng.random(), rng.uniform(0, 0.9), rng.uniform(0, 0.35))
    accent = _hsv(rng.random(), rng.uniform(0.35, 0.95), rng.uniform(0.3, 0.9))
    return Theme(
        background=background,
        panel=mix(background, ink, rng.uniform(0.04, 0.12)),
        edge=mix(background, ink, rng.uniform(0.25, 0.9)),
        ink=ink,
        pale_ink=mix(background, ink, rng.uniform(0.65, 0.85)),
        accent=accent,
        accent_ink=readable_on(accent),
    )


def named(rng: np.random.Generator, count: int, background: Colour) -> list[tuple[str, Colour]]:
    """Different colours with their names that show on ``background``, a little varied."""
    shown = [n for n, c in NAMED.items() if abs(luminance(c) - luminance(background)) > 0.15]
    jitter = rng.integers(-8, 9, (count, 3))
    return [
        (name, vary(NAMED[name], jitter[k])) for k, name in enumerate(several(rng, shown, count))
    ]


def vary(colour: Colour, by: np.ndarray) -> Colour:
    """The colour, moved a little."""
    red, green, blue = (min(255, max(0, c + int(d))) for c, d in zip(colour, by, strict=True))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """From 0, black, to 1, white."""
    return (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The first colour with a share of the second."""
    red, green, blue = (
        round(a * (1 - share) + b * share) for a, b in zip(first, second, strict=True)
    )
    return red, green, blue


def readable_on(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on it."""
    return (255, 255, 255) if luminance(colour) < 0.55 else (12, 12, 12)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * c) for c in hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue
