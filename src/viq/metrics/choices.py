"""What a reply in free text chooses or answers, read as lmms-eval 0.7.3 reads it.

Each benchmark has its own rules; they are MMMU's (https://arxiv.org/abs/2311.16502), MMStar's
(https://arxiv.org/abs/2403.20330) and AI2D's (https://arxiv.org/abs/1603.07396) there.
"""

import re
import string
from collections.abc import Sequence

_ENDS = ",.!?;:'"  # stripped one kind after another
_MMSTAR_PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is"),
    *("the best answer is", "best answer is", "the correct option is", "correct option is"),
    *("the best option is", "best option is", "the choice is", "choice is"),
    *("the correct choice is", "correct choice is", "i choose", "i select", "i pick"),
    *("my answer is", "my choice is", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选"),
    "答えは",
)
_MMMU_INDICATORS = (
    "could be ",
    "so ",
    "is ",
    "thus ",
    "therefore ",
    "final ",
    "answer ",
    "result ",
)
_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",  # with commas
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",  # with an exponent
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)


def mmmu_choice(reply: str, options: Sequence[str]) -> str | None:
    """The letter that ``reply`` chooses of MMMU's ``options``, the first of which is "A".

    Where there is none lmms-eval draws a letter at random; here it is None, so that two runs agree.
    """
    text = f" {_stripped(reply, _ENDS)} "
    letters = string.ascii_uppercase[: len(options)]
    for form, place in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        if found := [letter for letter in letters if form.format(letter) in text]:
            return max(found, key=lambda letter: text.rfind(place.format(letter)))
    if len(text.split()) <= 5:  # too short to look for an option's text in it
        return None
    lower = text.lower()
    texts = dict(zip(letters, (option.lower() for option in options), strict=True))
    found = [letter for letter in letters if texts[letter] in lower]
    return max(found, key=lambda letter: lower.rfind(texts[letter]), default=None)


def mmstar_choice(reply: str, letters: str = "ABCD") -> str | None:
    """The letter that ``reply`` chooses by MMStar's rules; None where there is none.

    Of all letters found, that of the surest form is taken, and among those the last.
    """
    if not reply.strip():
        return None
    bare = _stripped(reply.strip(), _ENDS + '"')
    text, bare = f" {bare} ", bare.strip()
    found: list[tuple[int, int, str]] = []  # sureness, place, letter
    for sureness, form in ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} ")):
        found += [(sureness, text.rfind(form.format(x)), x) for x in letters]
    lower = text.lower()
    for phrase in _MMSTAR_PHRASES:
        if (start := lower.find(phrase)) >= 0:
            found += [(7, text.find(x, start + len(phrase)), x) for x in letters]
    for x in letters:
        if bare.startswith(x) and not bare[1:2].isalpha():
            found.append((10, 0, x))
        if bare.endswith(x) and not bare[-2:-1].isalpha():
            found.append((9, len(text) - 1, x))
    found = [one for one in found if one[1] >= 0]
    found = found or [(0, text.rfind(x), x) for x in letters if x in text]
    # Of equals the first found wins, as in a stable sort.
    return max(found, key=lambda one: one[:2])[2] if found else None


def ai2d_choice(reply: str) -> str:
    """The letter before a period that ``reply`` begins with, by AI2D's rule, or else all of it."""
    match = re.match(r"\s*([A-Z])\.", reply)
    return match[1] if match else reply


def mmmu_open_score(reply: str, answers: str | Sequence[str]) -> float:
    """MMMU's measure of open questions: 1 where ``reply`` concludes with a right answer, else 0.

    Numbers must be equal when rounded to two places; a text must occur in a conclusion, which is
    what follows words such as "is" or "therefore", or all of the reply where there are none.
    """
    conclusions = _conclusions(reply)
    numbers = [
        number
        for text in conclusions
        for pattern in _NUMBERS
        for number in re.findall(pattern, text)
    ]
    said = [value for text in (*conclusions, *numbers) for value in _values(text)]
    rights = [answers] if isinstance(answers, str) else answers
    expected = [value for text in rights for value in _values(text)]
    texts = [value for value in expected if isinstance(value, str)]
    for value in said:
        if isinstance(value, str):
            if any(text in value for text in texts):
                return 1.0
        elif value in expected:
            return 1.0
    return 0.0


def _conclusions(reply: str) -> list[str]:
    reply = reply.strip().strip(".").lower()
    lines, found = reply.split("\n"), []
    for number, line in enumerate(lines, start=1):
        # The last line may be an equation.
        indicators = (*_MMMU_INDICATORS, "=") if number == len(lines) else _MMMU_INDICATORS
        tails = [line.split(i)[-1].strip() for i in indicators if i in line]
        shortest = _shortest(tails)
        if shortest and shortest not in tuple(_ENDS):
            found.append(shortest)
    return found or [reply]


def _shortest(tails: Sequence[str]) -> str:
    """The first of the shortest; one that is empty holds only until the next."""
    shortest = ""
    for tail in tails:
        if not shortest or len(tail) < len(shortest):
            shortest = tail
    return shortest


def _values(text: str) -> list[str] | list[float]:
    """A number, or a text in lower case; a single letter must have a space beside it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _stripped(text: str, marks: str) -> str:
    for mark in marks:
        text = text.strip(mark)
    return text
