"""Family screens: windows, dialogs, editors, terminals and browsers, as a screenshot shows them."""

from collections.abc import Callable

import numpy as np

from viq.data.synthetic import consoles
from viq.data.synthetic.canvas import Box, Canvas, line_height, text_width, wrap
from viq.data.synthetic.colours import mix, theme
from viq.data.synthetic.draws import between, chance, pick, scaled, several
from viq.data.synthetic.kit import Kit, Scene, ordinal
from viq.data.synthetic.wear import worn
from viq.data.synthetic.windows import (
    STYLES,
    Look,
    Pane,
    app_name,
    file_name,
    tab_bar,
    window,
)
from viq.data.synthetic.words import time

QUESTIONS = consoles.QUESTIONS | {
    "title": (
        "What is the title of the window?",
        "What does the title bar say?",
        "Read the window's title.",
    ),
    "message": (
        "What does the dialog say?",
        "Which message is shown in the dialog?",
        "Read the message above the buttons.",
    ),
    "buttons": (
        "How many buttons are below the message?",
        "Count the buttons.",
        "The message has how many buttons?",
    ),
    "button": (
        "What does the {ordinal} button from the left say?",
        "Read button {number}, from the left.",
        "Which label does the {ordinal} button from the left have?",
    ),
    "default": (
        "Which button is highlighted?",
        "Which button is drawn in another color than the others?",
        "Name the highlighted button.",
    ),
    "menu": (
        "Which menu comes right after {menu}?",
        "In the menu bar, what is to the right of {menu}?",
        "Name the menu next to {menu}, to its right.",
    ),
    "status": (
        "What does the status bar say?",
        "Read the status bar at the bottom.",
        "Which text is in the status bar?",
    ),
    "text": (
        "Read the text in the window.",
        "Which text is in the window, below the menus?",
        "Transcribe the text below the menu bar.",
    ),
    "address": (
        "What is in the address bar?",
        "Which address is open?",
        "Read the address of the page.",
    ),
    "heading": (
        "What is the heading of the web page?",
        "Read the heading of the page.",
        "Which heading does the page have?",
    ),
    "link": (
        "What does the {ordinal} underlined link say?",
        "Read link {number} of the page.",
        "Which text has the {ordinal} link?",
    ),
    "on": (
        'Is "{option}" switched on?',
        'Is the switch beside "{option}" on?',
        'Is "{option}" enabled?',
    ),
    "switches": (
        "How many switches are on?",
        "Count the switches that are on.",
        "How many of the settings are enabled?",
    ),
    "selected": (
        "Which entry is selected?",
        "Which line is highlighted?",
        "Name the highlighted entry.",
    ),
    "size": (
        "How large is {file}?",
        "What is the size of {file}?",
        "Read the size of {file}.",
    ),
    "files": (
        "How many files are listed?",
        "Count the files.",
        "How many files does the list have?",
    ),
}

MENUS = ("File", "Edit", "View", "Insert", "Format", "Tools", "Help")
BUTTONS = (
    "OK",
    "Cancel",
    "Save",
    "Yes",
    "No",
    "Retry",
    "Close",
    "Apply",
    "Next",
    "Delete",
    "Later",
)
SETTINGS = (
    *("Wi-Fi", "Bluetooth", "Location", "Notifications", "Dark mode", "Auto-save", "Sync"),
    *("Updates", "Sound", "Vibration", "Backup", "Autofill"),
)


def draw(rng: np.random.Generator, kit: Kit) -> Scene:
    """Draws one window."""
    style, colours, size = kit.style(rng, STYLES), theme(rng), scaled(rng, 9, 22)
    faces = kit.fonts.full(rng), kit.fonts.mono(rng)
    kind, seed = pick(rng, KINDS), between(rng, 0, 2**31)
    while True:
        look = Look(
            style=style,
            theme=colours,
            font=faces[0].at(size),
            mono=faces[1].at(size),
            large=faces[0].at(size * 3 // 2),
        )
        # The same window again, should the first be too large.
        pane = kind(np.random.default_rng(seed), kit, look)
        canvas = window(np.random.default_rng(seed), look, pane)
        if canvas is not None:
            turns = [*pane.turns, (kit.ask(rng, QUESTIONS["title"]), pane.title)]
            return Scene([worn(rng, canvas)], turns)
        size = size * 5 // 6


def _dialog(rng: np.random.Generator, kit: Kit, look: Look) -> Pane:
    message = kit.words.sentence(rng)
    if chance(rng, 0.4):
        message = f"{pick(rng, ('Delete', 'Open', 'Replace'))} {file_name(rng, kit)}?"
    labels = several(rng, BUTTONS, between(rng, 1, 3))
    if chance(rng, 0.3):
        labels[0] = f"{pick(rng, ('Open', 'Show', 'Send'))} {kit.words.one(rng, 'noun')}"
    default = between(rng, 0, len(labels) - 1) if len(labels) > 1 and chance(rng, 0.6) else -1
    font, pad, high = look.font, look.pad, look.high
    widths = [text_width(label, font) + 3 * pad for label in labels]
    lines = wrap(message, font, max(int(font.size) * between(rng, 10, 26), sum(widths)))
    side = 2 * pad
    width = max(max(text_width(line, font) for line in lines), sum(widths) + pad * len(widths))
    size = width + 2 * side, (len(lines) + 1) * high + high + 2 * pad + 2 * side
    middle = chance(rng, 0.4)

    def paint(canvas: Canvas, box: Box) -> None:
        colours = look.theme
        for k, line in enumerate(lines):
            canvas.text((box.left + side, box.top + side + k * high), line, font, colours.ink)
        spare = box.width - sum(widths) - pad * (len(widths) - 1)
        x = box.left + (spare // 2 if middle else spare - side)
        for k, (label, wide) in enumerate(zip(labels, widths, strict=True)):
            button = Box(x, box.bottom - side - high - pad, x + wide, box.bottom - side)
            fill = colours.accent if k == default else colours.panel
            canvas.rectangle(button, fill, colours.edge, 1, look.style.radius // 2)
            ink = colours.accent_ink if k == default else colours.ink
            canvas.text(button.centre, label, font, ink, "mm")
            x += wide + pad

    nth = between(rng, 1, len(labels))
    turns = [
        (kit.ask(rng, QUESTIONS["message"]), message),
        (kit.ask(rng, QUESTIONS["buttons"]), str(len(labels))),
        (kit.ask(rng, QUESTIONS["button"], number=nth, ordinal=ordinal(nth)), labels[nth - 1]),
    ]
    if default >= 0:
        turns.append((kit.ask(rng, QUESTIONS["default"]), labels[default]))
    title = pick(
        rng, ("Warning", "Question", "Confirm", "Error", "Information", kit.words.title(rng))
    )
    return Pane(title=title, size=size, paint=paint, turns=turns)


def _notes(rng: np.random.Generator, kit: Kit, look: Look) -> Pane:
    menus = several(rng, MENUS, between(rng, 2, 5))
    status = (
        f"{pick(rng, ('Line', 'Page'))} {between(rng, 1, 99)}, {pick(rng, ('saved', 'modified'))}"
    )
    text = kit.words.paragraph(rng, between(rng, 1, 3))
    font, pad, high = look.font, look.pad, look.high
    gaps = [text_width(menu, font) + 2 * pad for menu in menus]
    lines = wrap(text, font, int(font.size) * between(rng, 12, 30))
    width = max(max(text_width(line, font) for line in lines), sum(gaps), text_width(status, font))
    size = width + 4 * pad, (len(lines) + between(rng, 2, 6)) * high + 4 * pad + 2 * high

    def paint(canvas: Canvas, box: Box) -> None:
        colours, x = look.theme, box.left + pad
        canvas.rectangle((box.left, box.top, box.right, box.top + high + pad), colours.panel)
        for menu, gap in zip(menus, gaps, strict=True):
            canvas.text((x, box.top + pad // 2), menu, font, colours.ink)
            x += gap
        for k, line in enumerate(lines):
            y = box.top + high + 3 * pad + k * high
            canvas.text((box.left + 2 * pad, y), line, font, colours.ink)
        foot = box.bottom - high - pad
        canvas.line([(box.left, foot), (box.right, foot)], colours.edge)
        canvas.text((box.left + pad, foot + pad // 2), status, font, colours.pale_ink)

    nth = between(rng, 1, len(menus) - 1)
    turns = [
        (kit.ask(rng, QUESTIONS["menu"], menu=menus[nth - 1]), menus[nth]),
        (kit.ask(rng, QUESTIONS["status"]), status),
        (kit.ask(rng, QUESTIONS["text"]), text),
    ]
    return Pane(
        title=f"{file_name(rng, kit)} - {app_name(rng, kit)}", size=size, paint=paint, turns=turns
    )


def _browser(rng: np.random.Generator, kit: Kit, look: Look) -> Pane:
    tabs = list(dict.fromkeys(kit.words.title(rng) for _ in range(between(rng, 1, 3))))
    active = between(rng, 0, len(tabs) - 1)
    path = "/".join(kit.words.one(rng, "noun") for _ in range(between(rng, 0, 2)))
    address = f"{kit.words.pseudo(rng)}.{pick(rng, ('com', 'org', 'net'))}/{path}"
    heading, text = kit.words.title(rng), kit.words.paragraph(rng, between(rng, 1, 2))
    links = list(dict.fromkeys(kit.words.title(rng) for _ in range(between(rng, 1, 4))))
    font, large, pad, high = look.font, look.large, look.pad, look.high
    bar = high + 2 * pad
    widths = [text_width(tab, font) + 2 * pad for tab in tabs]
    lines = wrap(text, font, max(sum(widths), int(font.size) * between(rng, 14, 30)))
    wide = max(text_width(line, font) for line in [*lines, *links, address])
    wide = max(wide, sum(widths), text_width(heading, large))
    top = 2 * bar + 2 * pad
    size = (
        wide + 6 * pad,
        top + line_height(large) + high * (len(lines) + len(links) * 3 // 2 + 2) + 2 * pad,
    )
    colours = look.theme
    blue = mix(colours.ink, (120, 170, 255) if colours.dark else (20, 60, 220), 0.8)

    def paint(canvas: Canvas, box: Box) -> None:
        canvas.rectangle((box.left, box.top, box.right, box.top + 2 * bar), colours.panel)
        tab_bar(canvas, look, (box.left, box.top), tabs, widths, active)
        field = (box.left + pad, box.top + bar + 2, box.right - pad, box.top + 2 * bar - 2)
        canvas.rectangle(field, colours.background, colours.edge, 1, look.style.radius)
        canvas.text((box.left + 2 * pad, box.top + bar + pad), address, font, colours.ink)
        x, y = box.left + 2 * pad, box.top + top
        canvas.text((x, y), heading, large, colours.ink)
        y += line_height(large) + high // 2
        for line in lines:
            canvas.text((x, y), line, font, colours.ink)
            y += high
        y += high // 2
        for link in links:
            canvas.text((x, y), link, font, blue)
            canvas.line([(x, y + high - 1), (x + text_width(link, font), y + high - 1)], blue)
            y += high * 3 // 2

    nth = between(rng, 1, len(links))
    turns = [
        (kit.ask(rng, QUESTIONS["active"]), tabs[active]),
        (kit.ask(rng, QUESTIONS["tabs"]), str(len(tabs))),
        (kit.ask(rng, QUESTIONS["address"]), address),
        (kit.ask(rng, QUESTIONS["heading"]), heading),
        (kit.ask(rng, QUESTIONS["link"], number=nth, ordinal=ordinal(nth)), links[nth - 1]),
    ]
    return Pane(title=app_name(rng, kit), size=size, paint=paint, turns=turns)


def _settings(rng: np.random.Generator, kit: Kit, look: Look) -> Pane:
    options = {name: chance(rng, 0.5) for name in several(rng, SETTINGS, between(rng, 2, 7))}
    font, pad, high = look.font, look.pad, look.high
    step, knob = high + 2 * pad, max(10, high * 2 // 3)
    wide = max(text_width(name, font) for name in options) + 2 * knob + 4 * pad
    size = wide + between(rng, 0, wide), step * len(options) + pad
    off = mix(look.theme.background, look.theme.ink, 0.35)
    on = (40, 170, 80) if chance(rng, 0.6) else (40, 110, 225)

    def paint(canvas: Canvas, box: Box) -> None:
        for k, (name, state) in enumerate(options.items()):
            y = box.top + pad + k * step
            canvas.text((box.left + pad, y), name, font, look.theme.ink)
            top, right = y + (high - knob) // 2, box.right - pad
            switch = Box(right - 2 * knob, top, right, top + knob)
            canvas.rectangle(switch, on if state else off, radius=knob // 2)
            x = switch.right - knob if state else switch.left
            canvas.ellipse((x + 2, top + 2, x + knob - 2, top + knob - 2), (255, 255, 255))
            if k:
                canvas.line([(box.left + pad, y - pad), (right, y - pad)], look.theme.panel)

    option = pick(rng, tuple(options))
    turns = [
        (kit.ask(rng, QUESTIONS["on"], option=option), "yes" if options[option] else "no"),
        (kit.ask(rng, QUESTIONS["switches"]), str(sum(options.values()))),
    ]
    title = pick(rng, ("Settings", "Preferences", "Options"))
    return Pane(title=title, size=size, paint=paint, turns=turns)


def _files(rng: np.random.Generator, kit: Kit, look: Look) -> Pane:
    names = list(dict.fromkeys(file_name(rng, kit) for _ in range(between(rng, 2, 9))))
    sizes = [f"{between(rng, 1, 999)} {pick(rng, ('KB', 'MB'))}" for _ in names]
    dated = chance(rng, 0.5)
    clocks = [time(rng) if dated else "" for _ in names]
    chosen = between(rng, 0, len(names) - 1) if chance(rng, 0.6) else -1
    font, pad, high = look.font, look.pad, look.high
    step = high + pad
    first = max(text_width(name, font) for name in names) + high + 3 * pad
    second = max(text_width(size, font) for size in sizes) + 2 * pad
    third = max(text_width(clock, font) for clock in clocks) + 2 * pad
    size = first + second + third + between(rng, 0, 6 * pad), step * len(names) + 2 * pad

    def paint(canvas: Canvas, box: Box) -> None:
        colours = look.theme
        for k, name in enumerate(names):
            y, ink = box.top + pad + k * step, colours.ink
            if k == chosen:
                ink = colours.accent_ink
                canvas.rectangle(
                    (box.left, y - pad // 2, box.right, y + step - pad // 2), colours.accent
                )
            icon = (box.left + pad, y + 2, box.left + pad + high * 2 // 3, y + high - 2)
            canvas.rectangle(icon, colours.panel, ink)
            canvas.text((box.left + high + pad, y), name, font, ink)
            canvas.text((box.left + first + second - pad, y), sizes[k], font, ink, "ra")
            if clocks[k]:
                canvas.text((box.left + first + second + pad, y), clocks[k], font, ink)

    asked = between(rng, 0, len(names) - 1)
    turns = [
        (kit.ask(rng, QUESTIONS["size"], file=names[asked]), sizes[asked]),
        (kit.ask(rng, QUESTIONS["files"]), str(len(names))),
    ]
    if chosen >= 0:
        turns.append((kit.ask(rng, QUESTIONS["selected"]), names[chosen]))
    title = kit.words.one(rng, "noun").capitalize()
    return Pane(title=title, size=size, paint=paint, turns=turns)


KINDS: tuple[Callable[[np.random.Generator, Kit, Look], Pane], ...] = (
    *(_dialog, _notes, consoles.editor, consoles.terminal),
    *(_browser, _settings, _files),
)
