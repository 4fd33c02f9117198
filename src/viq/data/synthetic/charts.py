"""Family charts: bars, lines, pies and scattered points, whose values can be read exactly."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from viq.data.synthetic.canvas import Box, Canvas, Font
from viq.data.synthetic.colours import Theme, named, readable_on, theme
from viq.data.synthetic.draws import between, chance, pick, scaled, several
from viq.data.synthetic.frames import STYLES, Frame, Label, Style, framed
from viq.data.synthetic.kit import Kit, Scene, Turn
from viq.data.synthetic.vocabulary import MONTHS, UNITS
from viq.data.synthetic.wear import worn

QUESTIONS = {
    "title": (
        "What is the title of the chart?",
        "Which title does the chart have?",
        "Read the title of the chart.",
    ),
    "x": (
        "What is the label of the horizontal axis?",
        "How is the x axis called?",
        "Read the label of the x axis.",
    ),
    "y": (
        "What is the label of the vertical axis?",
        "How is the y axis called?",
        "Read the label of the y axis.",
    ),
    "value": (
        "What is the value of {category}?",
        "Which value does {category} have?",
        "Read the value of {category} off the chart.",
    ),
    "series value": (
        "What is the value of {series} for {category}?",
        "Which value does {series} have at {category}?",
        "Read the value of {series} at {category} off the chart.",
    ),
    "most": (
        "Which category has the largest value?",
        "Where is the value highest?",
        "Name the category with the greatest value.",
    ),
    "least": (
        "Which category has the smallest value?",
        "Where is the value lowest?",
        "Name the category with the least value.",
    ),
    "series most": (
        "Where is {series} highest?",
        "At which category does {series} peak?",
        "For which category is {series} largest?",
    ),
    "higher": (
        "Which series is higher at {category}, {first} or {second}?",
        "At {category}, which is larger: {first} or {second}?",
        "Compare {first} and {second} at {category}: which is higher?",
    ),
    "difference": (
        "What is the difference between {first} and {second}?",
        "How far apart are the values of {first} and {second}?",
        "By how much do {first} and {second} differ?",
    ),
    "categories": (
        "How many categories are shown?",
        "Count the categories.",
        "The chart has how many categories?",
    ),
    "series": (
        "How many series are shown?",
        "Count the series in the legend.",
        "The chart has how many series?",
    ),
    "color": (
        "Which color stands for {series}?",
        "What color is {series}?",
        "In which color is {series} drawn?",
    ),
    "which color": (
        "What does {color} stand for?",
        "What is drawn in {color}?",
        "What has the color {color}?",
    ),
    "share": (
        "What is the share of {category}?",
        "How many percent is {category}?",
        "Read the percentage of {category}.",
    ),
    "largest": (
        "Which slice is the largest?",
        "What has the largest share?",
        "Name the biggest part of the pie.",
    ),
    "slices": (
        "How many slices does the pie have?",
        "Count the slices.",
        "Into how many parts is it cut?",
    ),
    "points": (
        "How many points are there?",
        "Count all the points.",
        "How many markers are plotted?",
    ),
    "group": (
        "How many points belong to {series}?",
        "Count the points of {series}.",
        "{series} has how many points?",
    ),
    "group most": (
        "Which group has the most points?",
        "To which group do most points belong?",
        "Name the group with the largest number of points.",
    ),
    "kind": (
        "What kind of chart is this?",
        "Is this a bar chart, a line chart, a pie chart or a scatter plot?",
        "Name the type of the chart.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Data:
    """A frame, what paints the data in the plot's box, and what can be asked."""

    frame: Frame
    paint: Callable[[Canvas, Box, Font], None]
    turns: list[Turn]


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws one chart."""
    style, colours = kit.style(rng, STYLES), theme(rng, neutral=True)
    data = pick(rng, KINDS)(rng, kit, style, colours)
    face, bold = kit.fonts.full(rng), kit.fonts.full(rng)
    size = scaled(rng, 9, 20)
    plot = scaled(rng, 90, 480), scaled(rng, 80, 400)
    turns = [*data.turns, (kit.ask(rng, QUESTIONS["title"]), data.frame.title)]
    for key, label in (("x", data.frame.x_label), ("y", data.frame.y_label)):
        if label:
            turns.append((kit.ask(rng, QUESTIONS[key]), label))
    while True:
        fonts = face.at(size), bold.at(size + size // 4)
        canvas, box = framed(style, colours, data.frame, fonts, plot)
        if max(canvas.size) <= 1024 or size <= 9:
            break
        size, plot = size - 1, (plot[0] * 9 // 10, plot[1] * 9 // 10)
    data.paint(canvas, box, fonts[0])
    return Scene([worn(rng, canvas)], turns)


def _ticks(rng: np.random.Generator) -> tuple[int, list[int]]:
    """A step and the values of an axis, from 0."""
    step = pick(rng, (2, 2, 4, 10, 10, 20, 50, 100, 200, 1000))
    return step, [step * k for k in range(between(rng, 4, 7))]


def _values(
    rng: np.random.Generator, step: int, ticks: list[int], count: int, fine: int
) -> list[int]:
    """Values on ticks, or with ``fine`` 2 also half way, and so on; never next to nothing."""
    return [
        between(rng, -(-fine // 2), fine * (len(ticks) - 1)) * step // fine for _ in range(count)
    ]


def _categories(rng: np.random.Generator, kit: Kit, most: int) -> tuple[str, list[str]]:
    """What is counted, and the names along an axis."""
    count = between(rng, 2, most)
    kind = pick(rng, ("Month", "Year", "City", "Item", "Name", "Thing"))
    if kind == "Month":
        start = between(rng, 0, 12 - count)
        return kind, [month[:3] for month in MONTHS[start : start + count]]
    if kind == "Year":
        start = between(rng, 1980, 2025)
        return kind, [str(start + k) for k in range(count)]
    source = {"City": "city", "Item": "product", "Name": "first", "Thing": "noun"}[kind]
    return kind, [word.capitalize() for word in kit.words.different(rng, source, count)]


def _series_names(rng: np.random.Generator, kit: Kit, count: int) -> list[str]:
    kind = pick(rng, ("noun", "city", "first", "last"))
    return [word.capitalize() for word in kit.words.different(rng, kind, count)]


def _along(texts: list[str]) -> tuple[Label, ...]:
    """Labels in the middle of equal places."""
    return tuple((text, (k + 0.5) / len(texts)) for k, text in enumerate(texts))


def _scale(ticks: list[int]) -> tuple[Label, ...]:
    return tuple((str(tick), tick / ticks[-1]) for tick in ticks)


def _bars(rng: np.random.Generator, kit: Kit, style: Style, theme: Theme) -> Data:
    step, ticks = _ticks(rng)
    flat = chance(rng, 0.35)  # bars lie
    x_label, categories = _categories(rng, kit, 7)
    count = between(rng, 2, 3) if chance(rng, 0.35) else 1
    printed = style.values and count == 1
    fine = step if printed else 2 if style.grid else 1
    series = [_values(rng, step, ticks, len(categories), fine) for _ in range(count)]
    if printed:  # leave room for the number above the highest bar
        series = [[min(value, ticks[-2]) for value in series[0]]]
    varied = count == 1 and chance(rng, 0.4)
    pens = named(rng, len(categories) if varied else count, theme.background)
    varied = varied and len(pens) == len(categories)
    names = _series_names(rng, kit, count)
    y_label = pick(rng, UNITS).capitalize()

    def paint(canvas: Canvas, box: Box, font: Font) -> None:
        length, across = (box.width, box.height) if flat else (box.height, box.width)
        place = across / len(categories)
        thick = max(2, round(place * style.wide / count))
        for c in range(len(categories)):
            for s, values in enumerate(series):
                start = round(place * (c + 0.5) - thick * count / 2) + thick * s
                end = round(values[c] / ticks[-1] * length)
                colour = pens[c if varied else s][1]
                edge = theme.ink if style.outline else None
                if flat:
                    bar = (box.left, box.top + start, box.left + end, box.top + start + thick)
                    at, anchor = (bar[2] + 4, (bar[1] + bar[3]) // 2), "lm"
                else:
                    bar = (box.left + start, box.bottom - end, box.left + start + thick, box.bottom)
                    at, anchor = ((bar[0] + bar[2]) // 2, bar[1] - 2), "md"
                canvas.rectangle(bar, colour, edge)
                if printed:
                    canvas.text(at, str(values[c]), font, theme.ink, anchor)

    scale, along = _scale(ticks), _along(categories)
    if flat:
        along = tuple((text, 1 - place) for text, place in along)
    frame = Frame(
        title=kit.words.title(rng),
        x_label=(y_label if flat else x_label) * chance(rng, 0.7),
        y_label=(x_label if flat else y_label) * chance(rng, 0.7),
        bottom=scale if flat else along,
        left=along if flat else scale,
        legend=tuple((n, c) for n, (_, c) in zip(names, pens, strict=False)) * (count > 1),
        x_grid=flat,
    )
    colours = [name for name, _ in pens]
    keys = categories if varied else names
    turns = _about_series(rng, kit, categories, dict(zip(names, series, strict=True)))
    turns.append((kit.ask(rng, QUESTIONS["kind"]), "a bar chart"))
    if varied or count > 1:
        turns += _about_colours(rng, kit, dict(zip(keys, colours, strict=True)))
    return Data(frame=frame, paint=paint, turns=turns)


def _lines(rng: np.random.Generator, kit: Kit, style: Style, theme: Theme) -> Data:
    step, ticks = _ticks(rng)
    x_label, categories = _categories(rng, kit, 8)
    if len(categories) < 3:
        x_label, categories = "Month", [month[:3] for month in MONTHS[:5]]
    count = between(rng, 1, 3)
    fine = 2 if style.grid else 1
    heights = range(1, fine * (len(ticks) - 1) + 1)
    points = [several(rng, heights, count) for _ in categories]  # lines hide no point of another
    series = [[point[k] * step // fine for point in points] for k in range(count)]
    pens = named(rng, count, theme.background)
    names = _series_names(rng, kit, count)
    dots, width = chance(rng, 0.7), between(rng, 1, 3)

    def paint(canvas: Canvas, box: Box, font: Font) -> None:
        radius = max(2, int(font.size) // 4)
        for values, (_, colour) in zip(series, pens, strict=True):
            places = [
                (
                    box.left + (c + 0.5) / len(categories) * box.width,
                    box.bottom - value / ticks[-1] * box.height,
                )
                for c, value in enumerate(values)
            ]
            canvas.line(places, colour, width)
            for x, y in [(round(x), round(y)) for x, y in places] if dots else ():
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), colour)

    frame = Frame(
        title=kit.words.title(rng),
        x_label=x_label * chance(rng, 0.7),
        y_label=pick(rng, UNITS).capitalize() * chance(rng, 0.7),
        bottom=_along(categories),
        left=_scale(ticks),
        legend=tuple((n, c) for n, (_, c) in zip(names, pens, strict=True)) * (count > 1),
    )
    table = dict(zip(names, series, strict=True))
    turns = _about_series(rng, kit, categories, table)
    turns.append((kit.ask(rng, QUESTIONS["kind"]), "a line chart"))
    if count > 1:
        colours = [name for name, _ in pens]
        turns += _about_colours(rng, kit, dict(zip(names, colours, strict=True)))
    return Data(frame=frame, paint=paint, turns=turns)


def _pie(rng: np.random.Generator, kit: Kit, style: Style, theme: Theme) -> Data:
    pens = named(rng, 6, theme.background)
    _, categories = _categories(rng, kit, len(pens))
    pens, least = pens[: len(categories)], 9  # percent, so that a label fits
    cuts = np.sort(rng.integers(0, 101 - least * len(categories), len(categories) - 1))
    shares = [int(s) + least for s in np.diff([0, *cuts, 100 - least * len(categories)])]
    inside = chance(rng, 0.6)  # shares are written in the slices, not in the legend
    hole, start = chance(rng, 0.3), between(rng, -180, 179)

    def paint(canvas: Canvas, box: Box, font: Font) -> None:
        angle, radius = float(start), box.width / 2
        for share, (_, colour) in zip(shares, pens, strict=True):
            canvas.slice(box, angle, angle + share * 3.6, colour)
            if inside:
                middle = (angle + share * 1.8) * pi / 180
                x = round(box.centre[0] + 0.72 * radius * cos(middle))
                y = round(box.centre[1] + 0.72 * radius * sin(middle))
                canvas.text((x, y), f"{share}%", font, readable_on(colour), "mm")
            angle += share * 3.6
        for share in shares if style.outline else ():
            across, down = radius * cos(angle * pi / 180), radius * sin(angle * pi / 180)
            centre = box.left + radius, box.top + radius
            canvas.line([centre, (centre[0] + across, centre[1] + down)], theme.background, 2)
            angle += share * 3.6
        if hole:
            inner = int(radius * 0.55)
            canvas.ellipse(box.inset(inner), theme.background)

    texts = [
        name if inside else f"{name} {share}%"
        for name, share in zip(categories, shares, strict=True)
    ]
    frame = Frame(
        title=kit.words.title(rng),
        legend=tuple((text, pen[1]) for text, pen in zip(texts, pens, strict=True)),
        round=True,
    )
    asked = between(rng, 0, len(categories) - 1)
    turns = [
        (kit.ask(rng, QUESTIONS["share"], category=categories[asked]), f"{shares[asked]}%"),
        (kit.ask(rng, QUESTIONS["slices"]), str(len(categories))),
        (kit.ask(rng, QUESTIONS["kind"]), "a pie chart"),
    ]
    if shares.count(max(shares)) == 1:
        largest = categories[shares.index(max(shares))]
        turns.append((kit.ask(rng, QUESTIONS["largest"]), largest))
    turns += _about_colours(rng, kit, dict(zip(categories, (n for n, _ in pens), strict=True)))
    return Data(frame=frame, paint=paint, turns=turns)


def _scatter(rng: np.random.Generator, kit: Kit, _: Style, theme: Theme) -> Data:
    count = between(rng, 1, 3)
    names, pens = _series_names(rng, kit, count), named(rng, count, theme.background)
    side = between(rng, 4, 6)  # points keep apart: each has a cell of a grid of its own
    cells = several(rng, range(side * side), between(rng, count, 14))
    groups = [*range(count), *(between(rng, 0, count - 1) for _ in cells[count:])]
    jitter = rng.uniform(-0.25, 0.25, (len(cells), 2))
    corners = between(rng, 3, 20) if chance(rng, 0.7) else 4

    def paint(canvas: Canvas, box: Box, font: Font) -> None:
        radius = max(3, min(int(font.size) // 3, min(box.width, box.height) // (5 * side)))
        for cell, group, (dx, dy) in zip(cells, groups, jitter, strict=True):
            row, column = divmod(cell, side)
            x = box.left + (column + 0.5 + dx) / side * box.width
            y = box.top + (row + 0.5 + dy) / side * box.height
            steps = [2 * pi * (k / corners) - pi / 2 for k in range(corners)]
            canvas.polygon(
                [(x + radius * cos(a), y + radius * sin(a)) for a in steps], pens[group][1]
            )

    frame = Frame(
        title=kit.words.title(rng),
        x_label=kit.words.one(rng, "noun").capitalize(),
        y_label=kit.words.one(rng, "noun").capitalize(),
        bottom=_scale(_ticks(rng)[1]),
        left=_scale(_ticks(rng)[1]),
        legend=tuple((n, c) for n, (_, c) in zip(names, pens, strict=True)) * (count > 1),
        x_grid=True,
    )
    turns = [
        (kit.ask(rng, QUESTIONS["points"]), str(len(cells))),
        (kit.ask(rng, QUESTIONS["kind"]), "a scatter plot"),
    ]
    if count > 1:
        sizes = [groups.count(group) for group in range(count)]
        asked = between(rng, 0, count - 1)
        turns.append((kit.ask(rng, QUESTIONS["group"], series=names[asked]), str(sizes[asked])))
        turns += _about_colours(rng, kit, dict(zip(names, (n for n, _ in pens), strict=True)))
        if sizes.count(max(sizes)) == 1:
            most = names[sizes.index(max(sizes))]
            turns.append((kit.ask(rng, QUESTIONS["group most"]), most))
    return Data(frame=frame, paint=paint, turns=turns)


def _about_series(
    rng: np.random.Generator, kit: Kit, categories: list[str], series: dict[str, list[int]]
) -> list[Turn]:
    """What can be asked about values of categories, in one or several series."""

    def ask(key: str, answer: str, **values: object) -> Turn:
        return kit.ask(rng, QUESTIONS[key], **values), answer

    turns = [ask("categories", str(len(categories)))]
    a, b = several(rng, range(len(categories)), 2)
    name = pick(rng, tuple(series))
    values = series[name]
    if len(series) == 1:
        turns.append(ask("value", str(values[a]), category=categories[a]))
        apart = abs(values[a] - values[b])
        turns.append(ask("difference", str(apart), first=categories[a], second=categories[b]))
        for key, best in (("most", max(values)), ("least", min(values))):
            if values.count(best) == 1:
                turns.append(ask(key, categories[values.index(best)]))
        return turns
    turns.append(ask("series", str(len(series))))
    turns.append(ask("series value", str(values[a]), series=name, category=categories[a]))
    if values.count(max(values)) == 1:
        turns.append(ask("series most", categories[values.index(max(values))], series=name))
    first, second = several(rng, tuple(series), 2)
    if series[first][b] != series[second][b]:
        higher = max(first, second, key=lambda key: series[key][b])
        turns.append(ask("higher", higher, category=categories[b], first=first, second=second))
    return turns


def _about_colours(rng: np.random.Generator, kit: Kit, colours: dict[str, str]) -> list[Turn]:
    """What can be asked about things with different colours."""
    asked = pick(rng, tuple(colours))
    return [
        (kit.ask(rng, QUESTIONS["color"], series=asked), colours[asked]),
        (kit.ask(rng, QUESTIONS["which color"], color=colours[asked]), asked),
    ]


KINDS: tuple[Callable[[np.random.Generator, Kit, Style, Theme], Data], ...] = (
    *(_bars, _bars),
    *(_lines, _pie, _scatter),
)
