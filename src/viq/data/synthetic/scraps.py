"""Family scraps: a few letters that mean nothing, and hardly any ground around them.

Whoever reads these has to look: no letter can be guessed by the ones before it. A scrap takes few
tokens, so a model that begins to read sees very many.
"""

import string

import numpy as np

from viq.data.synthetic.canvas import Canvas, line_height, text_width
from viq.data.synthetic.colours import theme
from viq.data.synthetic.draws import between, scaled
from viq.data.synthetic.kit import Kit, Scene
from viq.data.synthetic.wear import worn

ALPHABETS = {
    "letters": string.ascii_lowercase,
    "capitals": string.ascii_uppercase,
    "digits": string.digits,
    "characters": string.ascii_letters + string.digits,
}
SHARES = (0.45, 0.25, 0.2, 0.1)
WORDINGS = (
    "Read the {what}.",
    "Which {what} are these?",
    "Copy the {what}.",
    "What are the {what}?",
    "Type the {what}.",
    "Name the {what} in order.",
)
QUESTIONS = {what: tuple(text.format(what=what) for text in WORDINGS) for what in ALPHABETS}
LONGEST = 12
SMALLEST, LARGEST = 12, 40  # pixels, of the font
SIDE = 32  # pixels, of the smallest picture


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws one line."""
    what = tuple(ALPHABETS)[int(rng.choice(len(SHARES), p=SHARES))]
    length = scaled(rng, 1, LONGEST)
    text = "".join(ALPHABETS[what][k] for k in rng.integers(len(ALPHABETS[what]), size=length))
    font = kit.fonts.full(rng).at(scaled(rng, SMALLEST, LARGEST))
    colours = theme(rng)
    left, top = between(rng, 1, 12), between(rng, 0, 8)
    left -= min(0, int(font.getbbox(text, anchor="la")[0]))  # ink may begin left of the line
    size = left + text_width(text, font) + 2, top + line_height(font)
    canvas = Canvas((max(SIDE, size[0]), max(SIDE, size[1])), colours.background)
    canvas.text((left, top), text, font, colours.ink)
    return Scene([worn(rng, canvas)], [(kit.ask(rng, QUESTIONS[what]), text)])
