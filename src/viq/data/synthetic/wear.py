"""What happens to pictures on their way: paper, noise, a crooked scan, JPEG."""

import io
import math

import numpy as np
from PIL import Image, ImageChops

from viq.data.letters import LETTERS, Letter
from viq.data.synthetic.canvas import Canvas
from viq.data.synthetic.draws import between, chance

CLEAN = 0.45  # of all pictures stay as drawn
STURDY = 13  # pixels: smaller text survives only the milder kinds


def worn(rng: np.random.Generator, canvas: Canvas) -> Image.Image:
    """The canvas's picture, sometimes degraded, but never so that its text is lost."""
    image, letters = canvas.image(), canvas.letters()
    image.info[LETTERS] = letters
    if chance(rng, CLEAN):
        return image
    sturdy = canvas.smallest >= STURDY
    if chance(rng, 0.3):
        image = _textured(rng, image)
    if sturdy and chance(rng, 0.25):
        angle, before = rng.uniform(-3, 3), image.size
        image = image.rotate(
            angle, Image.Resampling.BICUBIC, expand=True, fillcolor=canvas.background
        )
        letters = _turned(letters, angle, before, image.size)
    if sturdy and chance(rng, 0.2):
        image = _softened(rng, image)
    if chance(rng, 0.3):
        image = _noisy(rng, image, between(rng, 3, 20 if sturdy else 10))
    if chance(rng, 0.4):
        image = _compressed(image, between(rng, 40 if sturdy else 70, 92))
    image.info[LETTERS] = letters
    return image


def _turned(
    letters: list[Letter], angle: float, before: tuple[int, int], after: tuple[int, int]
) -> list[Letter]:
    """Where letters are when a picture was turned by degrees around its middle, and grew."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = []
    for letter, x, y in letters:
        right, down = x - before[0] / 2, y - before[1] / 2
        there = after[0] / 2 + cos * right + sin * down, after[1] / 2 - sin * right + cos * down
        turned.append((letter, *there))
    return turned


def _textured(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Darkened unevenly, as paper and light are uneven."""
    coarse = (between(rng, 2, 8), between(rng, 2, 8))
    deepest = between(rng, 8, 40)
    shades = (255 - rng.integers(0, deepest, coarse)).astype(np.uint8)
    paper = Image.fromarray(shades).resize(image.size, Image.Resampling.BICUBIC)
    return ImageChops.multiply(image, Image.merge("RGB", (paper, paper, paper)))


def _softened(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """As if scanned or copied at fewer pixels."""
    share = rng.uniform(0.65, 0.9)
    fewer = (max(1, int(image.width * share)), max(1, int(image.height * share)))
    return image.resize(fewer, Image.Resampling.BILINEAR).resize(
        image.size, Image.Resampling.BILINEAR
    )


def _noisy(rng: np.random.Generator, image: Image.Image, strength: int) -> Image.Image:
    """With grain; of integers, which are the same on all machines."""
    pixels = np.asarray(image)

    grain = (
        rng.integers(0, 2 * strength + 1, (*pixels.shape[:2], 1), np.uint8).astype(np.int16)
        - strength
    )
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    """Written as JPEG and read again."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")
