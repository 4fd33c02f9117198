"""How close answers in text come to the right ones: the measures of the benchmarks.

They agree with lmms-eval 0.7.3, the field's harness, on recorded pairs; where that differs from a
measure's first definition, it is said. The harness strips replies before most of them.
"""

import re
import statistics
import string
from collections.abc import Sequence

import numpy as np

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`!'
_MOST_PERIODS = 32  # of one text that lmms-eval takes away
# VQA's list. Each stands for what it is with any one of its apostrophes left out.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't
mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've
should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""
_EXPANDED = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}


def edit_distance(a: str, b: str) -> int:
    """The least number of characters to insert, delete or replace that makes ``a`` into ``b``."""
    short, long = sorted((a, b), key=len)
    if not short:
        return len(long)
    others = np.array([ord(letter) for letter in short])
    places = np.arange(len(short) + 1)
    row = places.copy()
    for letter in long:
        # Without insertions first; those are the running minimum along the row.
        least = row + 1
        least[1:] = np.minimum(least[1:], row[:-1] + (others != ord(letter)))
        row = np.minimum.accumulate(least - places) + places
    return int(row[-1])


def character_error(found: str, expected: str) -> float:
    """The edits that make ``found`` into ``expected``, for each character expected; 0 is best.

    It exceeds 1 where more is found than there was. White space counts as one space, and none at
    the ends.

    Raises:
        ValueError: nothing is expected.
    """
    found, expected = " ".join(found.split()), " ".join(expected.split())
    if not expected:
        raise ValueError("a character error needs a text that was expected; this one is empty.")
    return edit_distance(found, expected) / len(expected)


def anls(answer: str, answers: Sequence[str], threshold: float = 0.5) -> float:
    """Average normalised Levenshtein similarity (https://arxiv.org/abs/1905.13648) of one answer.

    1 minus the smallest share of characters to edit, letters' case and white space aside; 0 where
    that is below ``threshold``. As in lmms-eval the share is of the longer text as it was given,
    white space and all.

    Raises:
        ValueError: there are no right answers.
    """
    if not answers:
        raise ValueError("there are no right answers.")
    shares = []
    for right in answers:
        edits = edit_distance(*(" ".join(text.strip().lower().split()) for text in (right, answer)))
        length = max(len(right.upper()), len(answer.upper()))
        shares.append(edits / length if length else 0.0)
    similarity = 1 - min(shares)
    return similarity if similarity >= threshold else 0.0


def relaxed_accuracy(answer: str, target: str, tolerance: float = 0.05) -> float:
    """ChartQA's measure (https://arxiv.org/abs/2203.10244): 1 where right, else 0.

    Numbers are right within ``tolerance`` of the target, percentages as hundredths; other texts,
    and a target of 0, must be equal but for case. As in lmms-eval a number with a comma in it is
    a text, and "5" is not "5%".
    """
    found, expected = _number(answer), _number(target)
    if found is not None and expected:
        return float(abs(found - expected) / abs(expected) <= tolerance)
    return float(answer.lower() == target.lower())


def vqa_accuracy(answer: str, answers: Sequence[str]) -> float:
    """VQA's measure (https://arxiv.org/abs/1505.00468) with ten people's answers, as TextVQA's.

    The mean, over leaving each of them out, of the least of 1 and a third of how many of the others
    gave this answer; all normalised by ``vqa_normalized``.

    Raises:
        ValueError: there are no answers.
    """
    if not answers:
        raise ValueError("there are no answers of people.")
    found = vqa_normalized(answer)
    same = [vqa_normalized(one) == found for one in answers]
    return float(statistics.mean(min(1.0, (sum(same) - one) / 3) for one in same))


def vqa_normalized(text: str) -> str:
    """What VQA compares: lower case, digits for small numbers, no articles, no punctuation.

    As in lmms-eval, whose rules are the official ones but for a few slips: a period is kept before
    a digit only, and of one text at most 32 are taken away.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = given = text.replace("\n", " ").replace("\t", " ").strip()
    for mark in _PUNCTUATION:  # one between two letters parts them
        beside_space = f"{mark} " in given or f" {mark}" in given
        text = text.replace(mark, "" if beside_space else " ")
    text = re.sub(r"\.(?!\d)", "", text, count=_MOST_PERIODS)
    words = (_DIGITS.get(word, word) for word in text.split())
    return " ".join(_EXPANDED.get(word, word) for word in words if word not in _ARTICLES)


def ocrbench_score(answer: str, answers: str | Sequence[str], *, formula: bool = False) -> float:
    """OCRBench's measure (https://arxiv.org/abs/2305.07895): 1 where an answer occurs, else 0.

    Args:
        answer: what was replied.
        answers: one or several right ones.
        formula: for its handwritten formulas (HME100k), where white space does not count and case
            does; elsewhere case does not, and full-width letters are taken as plain ones.
    """
    clean = _without_spaces if formula else _plain
    rights = [answers] if isinstance(answers, str) else answers
    reply = clean(answer.strip())
    return float(any(clean(right) in reply for right in rights))


def exact_match(answer: str, target: str) -> float:
    """1 where equal but for case and ASCII punctuation, else 0; AI2D's measure of letters."""
    first, second = (
        text.lower().translate(str.maketrans("", "", string.punctuation))
        for text in (answer, target)
    )
    return float(first == second)


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _plain(text: str) -> str:
    narrow = text.translate({wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {0x3000: " "})
    return narrow.lower().strip().replace("\n", " ")


def _without_spaces(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")
