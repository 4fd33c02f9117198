"""Code inside Markdown."""

import re

# As many backticks before as behind, and not as many in between.
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


def code(text: str) -> str:
    """Text as code in one line, whatever backticks are in it."""
    text = " ".join(text.splitlines())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def code_and_text(markdown: str) -> list[tuple[bool, str]]:
    """The parts of a paragraph in their order, with whether each is code; of code what is in it."""
    parts, end = [], 0
    for found in CODE.finditer(markdown):
        inner = found[2]
        if inner.startswith(" ") and inner.endswith(" ") and inner.strip():
            inner = inner[1:-1]
        parts += [(False, markdown[end : found.start()]), (True, inner)]
        end = found.end()
    return [*parts, (False, markdown[end:])]
