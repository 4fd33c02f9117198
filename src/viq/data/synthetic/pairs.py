"""Two pictures, with questions about either, or about which of them is what."""

import numpy as np

from viq.data.synthetic import charts, documents, forms, lines, receipts, screens, shapes, tables
from viq.data.synthetic.draws import between, chance, several
from viq.data.synthetic.kit import Family, Kit, Scene

NOUNS: dict[str, Family] = {
    "a line of text or a few words": lines.draw,
    "a text document": documents.draw,
    "a table": tables.draw,
    "a receipt or an invoice": receipts.draw,
    "a form": forms.draw,
    "a chart": charts.draw,
    "colored shapes": shapes.draw,
    "a screenshot": screens.draw,
}
QUESTIONS = {
    "about": (
        "In the {place} image: {question}",
        "Look at the {place} picture. {question}",
        "{question} (This is about the {place} image.)",
        "About the {place} of the two images: {question}",
    ),
    "which": (
        "Which image shows {noun}, the first or the second?",
        "Is {noun} in the first or in the second picture?",
        "Say which of the two images shows {noun}: first or second.",
    ),
    "how many": (
        "How many images are there?",
        "How many pictures did I send?",
        "Count the images above.",
    ),
}
PLACES = ("first", "second")


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws two scenes of the same or of different families."""
    nouns = several(rng, tuple(NOUNS), 2)
    if chance(rng, 0.5):
        nouns = [nouns[0], nouns[0]]
    scenes = [NOUNS[noun](rng, kit) for noun in nouns]
    turns = [
        (kit.ask(rng, QUESTIONS["about"], place=place, question=question), answer)
        for place, scene in zip(PLACES, scenes, strict=True)
        for question, answer in several(rng, scene.turns, 2)
    ]
    if nouns[0] != nouns[1]:
        asked = between(rng, 0, 1)
        turns.append((kit.ask(rng, QUESTIONS["which"], noun=nouns[asked]), PLACES[asked]))
    elif chance(rng, 0.2):
        turns.append((kit.ask(rng, QUESTIONS["how many"]), "2"))
    return Scene([image for scene in scenes for image in scene.images], turns)
