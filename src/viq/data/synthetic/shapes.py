"""Family shapes: coloured shapes to count, to name and to relate."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi, sin

import numpy as np

from viq.data.synthetic.canvas import Canvas, Colour
from viq.data.synthetic.colours import Theme, mix, named, readable_on, theme
from viq.data.synthetic.draws import between, chance, pick, scaled, several
from viq.data.synthetic.fonts import Face
from viq.data.synthetic.kit import Kit, Scene, Turn, ordinal
from viq.data.synthetic.vocabulary import CODE_LETTERS
from viq.data.synthetic.wear import worn

QUESTIONS = {
    "all": ("How many shapes are there?", "Count the shapes.", "How many objects are shown?"),
    "kind": (
        "How many {shapes} are there?",
        "Count the {shapes}.",
        "How many {shapes} do you see?",
    ),
    "color": (
        "How many {color} shapes are there?",
        "Count the {color} shapes.",
        "How many of the shapes are {color}?",
    ),
    "both": (
        "How many {color} {shapes} are there?",
        "Count the {color} {shapes}.",
        "How many {color} {shapes} can be seen?",
    ),
    "color of": (
        "What color is the {shape}?",
        "Which color does the {shape} have?",
        "Name the color of the {shape}.",
    ),
    "shape of": (
        "Which shape is {color}?",
        "What is the shape of the {color} object?",
        "Name the {color} shape.",
    ),
    "left": (
        "What is directly to the left of the {thing}?",
        "Which shape is just left of the {thing}?",
        "Name the left neighbor of the {thing}.",
    ),
    "right": (
        "What is directly to the right of the {thing}?",
        "Which shape is just right of the {thing}?",
        "Name the right neighbor of the {thing}.",
    ),
    "above": (
        "What is directly above the {thing}?",
        "Which shape is just above the {thing}?",
        "Name the upper neighbor of the {thing}.",
    ),
    "below": (
        "What is directly below the {thing}?",
        "Which shape is just below the {thing}?",
        "Name the lower neighbor of the {thing}.",
    ),
    "is left": (
        "Is the {first} left of the {second}?",
        "Is the {first} further left than the {second}?",
        "Does the {first} lie to the left of the {second}?",
    ),
    "is above": (
        "Is the {first} above the {second}?",
        "Is the {first} higher than the {second}?",
        "Does the {first} lie higher up than the {second}?",
    ),
    "nth": (
        "What is the {ordinal} shape from the left?",
        "Which shape is number {number} from the left?",
        "Counting from the left, what is shape {number}?",
    ),
    "letter": (
        "Which letter is in the {thing}?",
        "What letter does the {thing} carry?",
        "Read the letter in the {thing}.",
    ),
    "which": (
        'Which shape has the letter "{letter}"?',
        'In which shape is "{letter}" written?',
        '"{letter}" is in which shape?',
    ),
    "colors": (
        "How many different colors do the shapes have?",
        "Count the different colors of the shapes.",
        "In how many colors are the shapes?",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """How shapes are drawn."""

    outline: bool = False  # a dark line around
    hollow: bool = False  # only a line of the colour
    cells: bool = False  # lines between the places
    board: bool = False  # every other place is shaded
    frame: bool = False
    shadow: bool = False
    size: float = 0.7  # of the place


STYLES: dict[str, Style] = {
    "plain": Style(),
    "small": Style(size=0.5),
    "outlined": Style(outline=True),
    "hollow": Style(hollow=True),
    "cells": Style(cells=True, frame=True, size=0.75),
    "board": Style(board=True),
    "framed": Style(frame=True, size=0.6),
    "shadow": Style(shadow=True),
    "cards": Style(board=True, outline=True, frame=True, size=0.55),
    "large": Style(size=0.85),
}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A shape with its place in the grid and its centre in pixels."""

    shape: str
    color: str
    pen: Colour
    row: int
    column: int
    centre: tuple[float, float]
    letter: str = ""

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws shapes in a row, in a grid or scattered."""
    style, colours = kit.style(rng, STYLES), theme(rng, neutral=True)
    arranged = pick(rng, ("row", "grid", "scattered", "scattered"))
    rows, columns = (
        (1, between(rng, 2, 7)) if arranged == "row" else (between(rng, 2, 4), between(rng, 2, 5))
    )
    side = scaled(rng, 28, min(160, 960 // max(rows, columns)))
    margin = between(rng, 2, side // 2)
    places = list(range(rows * columns))
    if arranged != "row":
        places = sorted(several(rng, places, between(rng, 2, min(12, len(places)))))
    shift = 0.0 if arranged != "scattered" else (1 - style.size) / 2
    things = _things(rng, colours, places, columns, side, margin, shift)
    size = (columns * side + 2 * margin, rows * side + 2 * margin)
    canvas = Canvas(size, colours.background, scale=2)
    _ground(canvas, style, colours, (rows, columns), side, margin, arranged == "scattered")
    for thing in things:
        _paint(canvas, style, colours, thing, side * style.size / 2)
    if not style.hollow and side * style.size >= 34 and chance(rng, 0.35):
        things = _lettered(rng, canvas, kit.fonts.full(rng), things, side * style.size)
    return Scene([worn(rng, canvas)], _turns(rng, kit, things, arranged, side))


def _things(
    rng: np.random.Generator,
    theme: Theme,
    places: list[int],
    columns: int,
    side: int,
    margin: int,
    shift: float,
) -> list[Thing]:
    pens = named(rng, between(rng, 1, 5), theme.background)
    kinds = several(rng, tuple(OUTLINES), between(rng, 1, 5))
    things = []
    for place in places:
        (color, pen), (row, column) = pick(rng, pens), divmod(place, columns)
        dx, dy = rng.uniform(-shift, shift, 2)
        centre = margin + (column + 0.5 + dx) * side, margin + (row + 0.5 + dy) * side
        things.append(
            Thing(
                shape=pick(rng, kinds), color=color, pen=pen, row=row, column=column, centre=centre
            )
        )
    return things


def _ground(
    canvas: Canvas,
    style: Style,
    theme: Theme,
    grid: tuple[int, int],
    side: int,
    margin: int,
    scattered: bool,
) -> None:
    rows, columns = grid
    right, bottom = margin + columns * side, margin + rows * side
    for place in range(rows * columns) if style.board and not scattered else ():
        row, column = divmod(place, columns)
        x, y = margin + column * side, margin + row * side
        if (row + column) % 2:
            canvas.rectangle((x, y, x + side, y + side), theme.panel)
    for k in range(rows + 1) if style.cells and not scattered else ():
        canvas.line([(margin, margin + k * side), (right, margin + k * side)], theme.edge)
    for k in range(columns + 1) if style.cells and not scattered else ():
        canvas.line([(margin + k * side, margin), (margin + k * side, bottom)], theme.edge)
    if style.frame:
        canvas.rectangle((0, 0, *canvas.size), None, theme.edge, 2)


def _paint(canvas: Canvas, style: Style, theme: Theme, thing: Thing, radius: float) -> None:
    x, y = thing.centre
    points = [(x + radius * a, y + radius * b) for a, b in OUTLINES[thing.shape]()]
    width = max(1, int(radius / 8))
    if style.shadow:
        by = radius / 8
        canvas.polygon(
            [(a + by, b + by) for a, b in points], mix(theme.background, (90, 90, 90), 0.5)
        )
    if style.hollow:
        canvas.line([*points, *points[:2]], thing.pen, max(2, int(radius / 5)))
    else:
        canvas.polygon(points, thing.pen, theme.ink if style.outline else None, width)


def _lettered(
    rng: np.random.Generator, canvas: Canvas, face: Face, things: list[Thing], size: float
) -> list[Thing]:
    """The things, each with a letter of its own."""
    letters = several(rng, CODE_LETTERS, len(things))
    font = face.at(int(size / 2.6))
    lettered = []
    for thing, letter in zip(things, letters, strict=True):
        x, y = thing.centre
        low = size * 0.1 if thing.shape == "triangle" else 0.0
        canvas.text((round(x), round(y + low)), letter, font, readable_on(thing.pen), "mm")
        lettered.append(replace(thing, letter=letter))
    return lettered


def _turns(
    rng: np.random.Generator, kit: Kit, things: list[Thing], arranged: str, side: int
) -> list[Turn]:
    def ask(key: str, answer: object, **values: object) -> Turn:
        return kit.ask(rng, QUESTIONS[key], **values), str(answer)

    names = [thing.name for thing in things]
    shapes, colors = [thing.shape for thing in things], [thing.color for thing in things]
    asked, shape, color = pick(rng, things), pick(rng, shapes), pick(rng, colors)
    turns = [
        ask("all", len(things)),
        ask("kind", shapes.count(asked.shape), shapes=plural(asked.shape)),
        ask("color", colors.count(asked.color), color=asked.color),
        ask("both", names.count(f"{color} {shape}"), color=color, shapes=plural(shape)),
        ask("colors", len(set(colors))),
    ]
    single = [thing for thing in things if names.count(thing.name) == 1]
    for thing in things:
        if shapes.count(thing.shape) == 1:
            turns.append(ask("color of", thing.color, shape=thing.shape))
        if colors.count(thing.color) == 1:
            turns.append(ask("shape of", thing.shape, color=thing.color))
    if arranged == "row":
        nth = between(rng, 1, len(things))
        turns.append(ask("nth", names[nth - 1], number=nth, ordinal=ordinal(nth)))
    if arranged != "scattered":
        grid = {(thing.row, thing.column): thing.name for thing in things}
        for thing in single:
            for key, (down, across) in NEIGHBOURS.items():
                neighbour = grid.get((thing.row + down, thing.column + across))
                if neighbour is not None and chance(rng, 0.3):
                    turns.append(ask(key, neighbour, thing=thing.name))
    if len(single) > 1:
        first, second = several(rng, single, 2)
        for key, axis in (("is left", 0), ("is above", 1)):
            apart = second.centre[axis] - first.centre[axis]
            if abs(apart) > side / 2:
                answer = "yes" if apart > 0 else "no"
                turns.append(ask(key, answer, first=first.name, second=second.name))
    if things[0].letter:
        thing = pick(rng, single or things)
        turns.append(ask("which", thing.name, letter=thing.letter))
        if single:
            turns.append(ask("letter", thing.letter, thing=thing.name))
    return turns


def plural(shape: str) -> str:
    """The name of several shapes."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


NEIGHBOURS = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}

Outline = list[tuple[float, float]]


def _regular(corners: int, turn: float, dent: float = 1.0) -> Outline:
    """A regular polygon of radius 1; every other corner at ``dent``."""
    return [
        (radius * cos(angle), radius * sin(angle))
        for k in range(corners)
        for radius, angle in [(dent if k % 2 else 1.0, 2 * pi * k / corners + turn)]
    ]


def _cross() -> Outline:
    a, b = 0.3, 0.9
    return [
        *((-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)),
        *((a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)),
    ]


OUTLINES: dict[str, Callable[[], Outline]] = {
    "circle": lambda: _regular(48, 0, 1.0),
    "square": lambda: [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": lambda: [(0, -0.95), (0.95, 0.8), (-0.95, 0.8)],
    "star": lambda: _regular(10, -pi / 2, 0.42),
    "diamond": lambda: [(0, -1), (0.68, 0), (0, 1), (-0.68, 0)],
    "cross": _cross,
    "hexagon": lambda: _regular(6, 0),
}
