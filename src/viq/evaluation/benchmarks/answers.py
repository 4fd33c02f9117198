"""Benchmarks whose answers are written freely, as lmms-eval 0.7.3 asks and scores them.

InfoVQA https://arxiv.org/abs/2104.12756, TextVQA https://arxiv.org/abs/1904.08920, DocVQA
https://arxiv.org/abs/2007.00398, OCRBench https://arxiv.org/abs/2305.07895, ChartQA
https://arxiv.org/abs/2203.10244, SimpleVQA https://arxiv.org/abs/2502.13059.
"""

from dataclasses import replace

from viq.evaluation.benchmarks.benchmark import Benchmark, question
from viq.evaluation.benchmarks.rows import Row
from viq.evaluation.task import Item
from viq.metrics.text import anls, ocrbench_score, relaxed_accuracy, vqa_accuracy, vqa_normalized

_BRIEFLY = "\nAnswer the question using a single word or phrase."
_FORMULAS = "HME100k"  # of OCRBench's sources the one of handwritten formulas


def _document(row: Row) -> Item:
    return question(row, row.text("question") + _BRIEFLY, row.texts("answers"))


def _textvqa(row: Row) -> Item:
    # The data's OCR tokens are not told, as in newer versions of lmms-eval.
    asked = row.text("question").capitalize() + _BRIEFLY
    return question(row, asked, row.texts("answers"))


def _ocrbench(row: Row) -> Item:
    facts = {"type": row.text("question_type"), "source": row.text("dataset")}
    return question(row, row.text("question").strip(), row.texts("answer"), facts=facts)


def _chartqa(row: Row) -> Item:
    asked = row.text("question") + "\nAnswer the question with a single word."
    part = "human" if row.text("type") == "human_test" else "augmented"
    return question(row, asked, [row.text("answer")], facts={"part": part})


def _simplevqa(row: Row) -> Item:
    asked = row.text("question").strip() + "\nAnswer the question using a short phrase."
    return question(row, asked, [row.text("answer")])


INFOVQA = Benchmark(
    name="infovqa",
    title="InfoVQA (ANLS)",
    metric="ANLS",
    repository="lmms-lab-encoder/DocVQA",
    config="InfographicVQA",
    split="validation",
    columns=("questionId", "question", "image", "answers"),
    id="questionId",
    read=_document,
    score=lambda item, answer: anls(answer, item.answers),
    max_new_tokens=32,
)
TEXTVQA = Benchmark(
    name="textvqa",
    title="TextVQA (VQA accuracy)",
    metric="VQA accuracy",
    repository="lmms-lab-encoder/textvqa",
    split="validation",
    columns=("question_id", "question", "image", "answers"),
    id="question_id",
    read=_textvqa,
    score=lambda item, answer: vqa_accuracy(answer, item.answers),
    max_new_tokens=32,
)
DOCVQA = replace(INFOVQA, name="docvqa", title="DocVQA (ANLS)", config="DocVQA")
OCRBENCH = Benchmark(
    name="ocrbench",
    title="OCRBench (share right)",
    metric="share right",
    repository="echo840/OCRBench",
    split="test",
    columns=("dataset", "question", "question_type", "answer", "image"),
    read=_ocrbench,
    score=lambda item, answer: ocrbench_score(
        answer, item.answers, formula=item.facts["source"] == _FORMULAS
    ),
    max_new_tokens=128,
    parts=("type",),
)
CHARTQA = Benchmark(
    name="chartqa",
    title="ChartQA (relaxed accuracy)",
    metric="relaxed accuracy",
    repository="lmms-lab-encoder/ChartQA",
    split="test",
    columns=("type", "question", "answer", "image"),
    read=_chartqa,
    score=lambda item, answer: relaxed_accuracy(answer, item.answers[0]),
    max_new_tokens=16,
    parts=("part",),
)
SIMPLEVQA = Benchmark(
    name="simplevqa",
    title="SimpleVQA (exact match)",
    metric="exact match",
    repository="m-a-p/SimpleVQA",
    split="test",
    columns=("question", "answer", "image"),
    read=_simplevqa,
    score=lambda item, answer: float(vqa_normalized(answer) == vqa_normalized(item.answers[0])),
    max_new_tokens=32,
)
