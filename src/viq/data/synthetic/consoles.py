"""What screens of programmers show: an editor with code, and a terminal."""

import numpy as np

from viq.data.synthetic.canvas import Box, Canvas, line_height, text_width
from viq.data.synthetic.draws import between, chance, pick
from viq.data.synthetic.kit import Kit, ordinal
from viq.data.synthetic.windows import Look, Pane, app_name, file_name, tab_bar

QUESTIONS = {
    "active": ("Which tab is active?", "Which tab is selected?", "Name the open tab."),
    "tabs": ("How many tabs are there?", "Count the tabs.", "How many tabs are open?"),
    "code": (
        "What is on line {number}?",
        "Read line {number} of the code.",
        "Which code is in line {number}?",
    ),
    "lines": (
        "How many lines are numbered?",
        "Count the lines of code.",
        "What is the last line number?",
    ),
    "function": (
        "Which function is defined?",
        "What is the name of the function after def?",
        "Name the function that the code defines.",
    ),
    "user": (
        "What is the name of the user at the prompt?",
        "Which user is logged in?",
        "Read the user's name before the @.",
    ),
    "command": (
        "What is the {ordinal} command?",
        "Which command was typed at prompt {number}?",
        "Read command {number}, without the prompt.",
    ),
    "output": (
        'What does "{command}" print?',
        'Which output does "{command}" give?',
        'Read the line below "{command}".',
    ),
}


def editor(rng: np.random.Generator, kit: Kit, look: Look) -> Pane:
    """Numbered lines of code under tabs."""
    tabs = list(dict.fromkeys(file_name(rng, kit) for _ in range(between(rng, 1, 4))))
    active = between(rng, 0, len(tabs) - 1)
    name, code = _code(rng, kit)
    font, mono, pad = look.font, look.mono, look.pad
    high = line_height(mono) + between(rng, 0, 4)
    gutter = text_width("000", mono) + pad
    bar = look.high + 2 * pad
    widths = [text_width(tab, font) + 2 * pad for tab in tabs]
    wide = max(gutter + max(text_width(line, mono) for line in code), sum(widths))
    size = wide + 3 * pad, bar + high * len(code) + 2 * pad
    colours = look.theme

    def paint(canvas: Canvas, box: Box) -> None:
        canvas.rectangle((box.left, box.top, box.right, box.top + bar), colours.panel)
        tab_bar(canvas, look, (box.left, box.top), tabs, widths, active)
        for k, line in enumerate(code):
            y = box.top + bar + pad + k * high
            canvas.text((box.left + gutter, y), str(k + 1), mono, colours.pale_ink, "ra")
            indent = len(line) - len(line.lstrip())
            x = box.left + gutter + pad + int(mono.getlength(" " * indent))
            if line:
                canvas.text((x, y), line.lstrip(), mono, colours.ink)

    filled = [k for k, line in enumerate(code, 1) if line]
    nth = pick(rng, filled)
    turns = [
        (kit.ask(rng, QUESTIONS["active"]), tabs[active]),
        (kit.ask(rng, QUESTIONS["tabs"]), str(len(tabs))),
        (kit.ask(rng, QUESTIONS["code"], number=nth), code[nth - 1].lstrip()),
        (kit.ask(rng, QUESTIONS["lines"]), str(len(code))),
        (kit.ask(rng, QUESTIONS["function"]), name),
    ]
    return Pane(title=app_name(rng, kit), size=size, paint=paint, turns=turns)


def _code(rng: np.random.Generator, kit: Kit) -> tuple[str, list[str]]:
    """A short program that defines one function, and this function's name."""
    name, a, b, c = kit.words.different(rng, "noun", 4)
    name = f"{pick(rng, ('get', 'make', 'load', 'find'))}_{name}"
    low, high = between(rng, 0, 9), between(rng, 10, 999)
    body = pick(
        rng,
        (
            [f"{b} = {a} + {low}", f"return {b} * {high}"],
            [f"if {a} > {high}:", f"    return {low}", f"return {a}"],
            [f"for {b} in range({high}):", f"    {a} += {b}", f"return {a}"],
            [f"{b} = [{low}, {high}]", f"{b}.append({a})", f"return {b}"],
            [f"while {a} < {high}:", f"    {a} = {a} * {low + 2}", f'print("{c}")', f"return {a}"],
        ),
    )
    code = [f"def {name}({a}):", *("    " + line for line in body)]
    if chance(rng, 0.4):
        code = [f"import {pick(rng, ('math', 'os', 'sys', 'json'))}", "", *code]
    if chance(rng, 0.5):
        code += ["", f"{c} = {name}({high})"]
        code += [f"print({c})"] * chance(rng, 0.5)
    return name, code


def terminal(rng: np.random.Generator, kit: Kit, look: Look) -> Pane:
    """Commands and what they print."""
    user, host = kit.words.one(rng, "first").lower(), kit.words.one(rng, "noun")
    prompt = f"{user}@{host}:~{pick(rng, ('$', '%', '>'))}"
    font, pad = look.mono, look.pad
    pairs = []
    for _ in range(between(rng, 1, 5)):
        word, file = kit.words.one(rng, "noun"), file_name(rng, kit)
        pairs.append(
            pick(
                rng,
                (
                    (f"echo {word}", word),
                    (f"wc -l {file}", f"{between(rng, 2, 9999)} {file}"),
                    (f"cat {file}", kit.words.sentence(rng)),
                    (f"mkdir {word}", ""),
                    ("pwd", f"/home/{user}/{word}"),
                    (f"grep -c {word} {file}", str(between(rng, 0, 99))),
                    (f"ls {word}", "  ".join(file_name(rng, kit) for _ in range(2))),
                ),
            )
        )
    lines = [text for command, output in pairs for text in (f"{prompt} {command}", output) if text]
    wide = max(text_width(line, font) for line in lines)
    high = line_height(font)
    size = wide + 2 * pad + between(rng, 0, wide // 2), high * (len(lines) + 1) + 2 * pad
    dark = chance(rng, 0.7)
    ground, ink = (
        ((14, 16, 20), (196, 230, 200)) if dark else (look.theme.background, look.theme.ink)
    )

    def paint(canvas: Canvas, box: Box) -> None:
        canvas.rectangle(box, ground)
        for k, line in enumerate([*lines, prompt]):
            canvas.text((box.left + pad, box.top + pad + k * high), line, font, ink)

    nth = between(rng, 1, len(pairs))
    command, output = pairs[nth - 1]
    turns = [
        (kit.ask(rng, QUESTIONS["user"]), user),
        (kit.ask(rng, QUESTIONS["command"], number=nth, ordinal=ordinal(nth)), command),
    ]
    if output and [c for c, _ in pairs].count(command) == 1:
        turns.append((kit.ask(rng, QUESTIONS["output"], command=command), output))
    return Pane(
        title=pick(rng, ("Terminal", "Console", "Shell")), size=size, paint=paint, turns=turns
    )
