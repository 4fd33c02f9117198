"""Benchmarks with a letter for each choice, as lmms-eval 0.7.3 asks and scores them.

MMStar https://arxiv.org/abs/2403.20330, AI2D https://arxiv.org/abs/1603.07396.
"""

from viq.errors import InputError
from viq.evaluation.benchmarks.benchmark import Benchmark, question
from viq.evaluation.benchmarks.rows import Row
from viq.evaluation.task import Item
from viq.metrics.choices import ai2d_choice, mmstar_choice
from viq.metrics.text import exact_match

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def lettered(choices: tuple[str, ...]) -> str:
    """The choices, a line each: "A. yes"."""
    return "\n".join(f"{a}. {choice}" for a, choice in zip(LETTERS, choices, strict=False))


def _mmstar(row: Row) -> Item:
    asked = row.text("question").strip().replace(" Please answer yes or no.", "")
    asked += "\nAnswer with the option's letter from the given choices directly"  # no full stop
    facts = {"category": row.text("category"), "l2_category": row.text("l2_category")}
    answer = row.text("answer").strip().upper()
    return question(row, asked, [answer], facts=facts)


def _ai2d(row: Row) -> Item:
    choices = row.texts("options")
    place = row.cells["answer"]  # counted from 0, as text
    if not str(place).isdigit() or int(place) >= len(choices):
        raise InputError(f"its answer is {place!r}, but it has {len(choices)} options", row.where)
    asked = f"{row.text('question')}\n{lettered(choices)}"
    asked += "\nAnswer with the option's letter from the given choices directly."
    return question(row, asked, [LETTERS[int(place)]], facts={"choices": len(choices)})


MMSTAR = Benchmark(
    name="mmstar",
    title="MMStar (accuracy)",
    metric="accuracy",
    repository="Lin-Chen/MMStar",
    split="val",
    columns=("index", "question", "image", "answer", "category", "l2_category"),
    id="index",
    read=_mmstar,
    score=lambda item, answer: float(mmstar_choice(answer) == item.answers[0]),
    max_new_tokens=128,
    parts=("category", "l2_category"),
    guess=lambda _: 1 / 4,
)
AI2D = Benchmark(
    name="ai2d",
    title="AI2D (accuracy)",
    metric="accuracy",
    repository="lmms-lab-encoder/ai2d",
    split="test",
    columns=("question", "options", "answer", "image"),
    read=_ai2d,
    score=lambda item, answer: exact_match(ai2d_choice(answer), item.answers[0]),
    max_new_tokens=16,
    guess=lambda item: 1 / item.facts["choices"],
)
