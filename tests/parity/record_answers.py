"""Records what lmms-eval's own functions say of generated replies, for ``test_answers.py``.

    python tests/parity/record_answers.py

needs lmms-eval 0.7.3 (and its many dependencies; an environment of its own). Nothing of it is
replaced but the draw of a letter where MMMU's rules find none: what is recorded then is null.
"""

import gzip
import json
import random
from importlib.metadata import version
from pathlib import Path

from lmms_eval.api.metrics import anls, exact_match_hf_evaluate
from lmms_eval.tasks._task_utils import mmmu_mcq_utils
from lmms_eval.tasks._task_utils.mcq_extract import _ANSWER_PHRASES, extract_mcq_answer
from lmms_eval.tasks._task_utils.vqa_eval_metric import EvalAIAnswerProcessor
from lmms_eval.tasks.ai2d.utils import MultiChoiceRegexFilter
from lmms_eval.tasks.chartqa.utils import relaxed_correctness
from lmms_eval.tasks.mmmu.utils import eval_open, parse_open_response
from lmms_eval.tasks.ocrbench.utils import ocrbench_process_results
from lmms_eval.tasks.textvqa.utils import textvqa_process_results

PATH = Path(__file__).parent / "recorded" / "answers.json.gz"
MANY, FEW = 2_000, 1_000
PROCESSOR = EvalAIAnswerProcessor
TEXT = """
stop the a an The A cat Coca-Cola 7-eleven nike new york times university of oxford yes no none zero
one two three ten eleven Twenty left right red blue 's it's dog's don't dont o'clock U.S.A. mr. Dr.
e.g. www.example.com a.m. 5:30pm #1 @home 100% $4.50 Straße naïve café ÉCOLE İstanbul 北京 東京都
ﬁne — – “quoted” … ½ x² €20 50 3.14 1,000 1,234,567 0 -3 +7 .5 5. 007 1e5 2E-3 12% 2019 inf nan
1_000 0.0 -0
"""
WIDE = ["".join(chr(ord(letter) + 0xFEE0) for letter in word) for word in ("Full", "123", "0.5")]
WORDS = [*TEXT.split(), *WIDE, *PROCESSOR.CONTRACTIONS, *PROCESSOR.NUMBER_MAP]
MARKS = [*PROCESSOR.PUNCTUATIONS, ".", "...", "'", "%", ":", "&", "、", "。"]
SPACES = [" ", "  ", "\n", "\t", " \n", "\u3000", "\u00a0", ""]


def phrase(draw, most=4):
    """Some words with what people and models put around them."""
    words = [draw.choice(WORDS) for _ in range(draw.randint(1, most))]
    return "".join(word + (draw.choice(SPACES[:1] * 9 + SPACES)) for word in words).strip(" ")


def spoiled(text, draw):
    """The text as a model may have said it."""
    for _ in range(draw.choice([0, 0, 1, 1, 2, 3])):
        place = draw.randint(0, len(text))
        text = draw.choice(
            [
                text.upper(),
                text.lower(),
                text.capitalize(),
                f"the {text}",
                f"{text}.",
                f"  {text}\n",
                f"The answer is {text}.",
                text[:place] + draw.choice(MARKS) + text[place:],
                text[:place] + draw.choice(SPACES) + text[place:],
                text[:place] + text[place + 1 :],
                text[:place] + chr(draw.randint(97, 122)) + text[place + 1 :],
                text.replace(" ", ""),
                text * 2,
            ]
        )
    return text


def some_text(draw):
    return "" if draw.random() < 0.02 else phrase(draw)


def reply_to(right, draw):
    return spoiled(right, draw) if draw.random() < 0.8 else some_text(draw)


def anls_pair(draw):
    answers = [some_text(draw) for _ in range(draw.randint(1, 4))]
    if draw.random() < 0.2:  # long ones, near the threshold
        answers = [" ".join(phrase(draw, 8) for _ in range(4))]
    reply = reply_to(draw.choice(answers), draw)
    if draw.random() < 0.3:
        reply = reply[: draw.randint(0, len(reply))]
    return [reply, answers, anls(answers, [reply])["anls"]]


def number(draw):
    value = draw.choice([draw.randint(-20, 3000), round(draw.uniform(-2, 120), draw.randint(0, 3))])
    forms = ["{}", "{}", "{}%", "{:,}", " {} ", "{}.", "${}", "{}%%", "% {}", "{} %", "{:e}", "+{}"]
    return value, draw.choice(forms).format(value)


def relaxed_pair(draw):
    if draw.random() < 0.3:
        target = some_text(draw)
        reply = reply_to(target, draw)
    else:
        value, target = number(draw)
        factor = draw.choice([1, 1, 0.95, 1.05, 0.951, 1.049, 0.94, 1.06, 0.01, 100, -1, 1.2])
        near = round(value * factor, draw.choice([0, 1, 3, 6]))
        reply = draw.choice(
            [f"{near}", f"{near}%", f"{near:,}", f"{near / 100}", target, number(draw)[1]]
        )
        if draw.random() < 0.1:
            target = draw.choice(["0", "0%", "0.0", "-0", "nan", "inf", ""])
    return [reply, target, float(relaxed_correctness(reply, target))]


def vqa_pair(draw):
    pool = [some_text(draw) for _ in range(draw.randint(1, 4))]
    people = draw.choice([10] * 8 + [1, 3])
    answers = [spoiled(draw.choice(pool), draw) for _ in range(people)]
    if draw.random() < 0.02:
        answers[0] = ". " * 40 + "end"
    reply = draw.choice([draw.choice(answers), spoiled(draw.choice(answers), draw), phrase(draw)])
    found = textvqa_process_results({"answers": list(answers), "question_id": 0}, [reply])
    return [reply, answers, found["exact_match"], found["submission"]["answer"]]


def ocrbench_pair(draw):
    formula = draw.random() < 0.3
    answers = [some_text(draw) for _ in range(draw.randint(1, 3))]
    if formula:
        answers = [r"\frac { a } { b } = x ^ 2", "S = \\pi r^{2}\n"][: draw.randint(1, 2)]
    reply = draw.choice(
        [
            reply_to(draw.choice(answers), draw),
            f"It says {draw.choice(answers)} there",
            phrase(draw),
        ]
    )
    given = answers[0] if len(answers) == 1 and draw.random() < 0.5 else answers
    doc = {"answer": given, "dataset": "HME100k" if formula else "IIIT5K", "question_type": ""}
    return [
        reply,
        given,
        formula,
        ocrbench_process_results(doc, [reply])["ocrbench_accuracy"]["score"],
    ]


def choice_reply(letters, options, draw):
    letter, option = draw.choice(list(zip(letters, options, strict=True)))
    other = draw.choice(letters)
    forms = [
        *("{x}", "{x}.", "({x})", "{x})", "{x}:", "{x}. {o}", "{x}: {o}", "({x}) {o}", "{o}"),
        *("The answer is {x}", "the answer is ({x}).", "Answer: {x}", "I choose {x}!", "{x} {y}"),
        *("{x} or {y}", "({x}) or ({y})", "Not {y}. It is {x}.", "{y}. is wrong, {x}. is right"),
        *("It must be {o} because of what the picture shows", "A cat sat on Bob's mat", "*{x}*"),
        *("I think that {o} is right here, not {y}", "\n{x}\n", "'{x}'", "**{x}**", "Option{x}"),
        *("The picture shows nothing of the kind, I cannot say", "{x};{y}", " {x} ", "{l}", "{l}."),
        *(
            "{p} {x}",
            "{p}: {x}. {y}",
            "well, {p} {o} ({x})",
            "{P} {x} {p} {y}",
            "",
            " ",
            "?!",
            "答案是{x}",
        ),
    ]
    phrase_ = draw.choice(_ANSWER_PHRASES)
    reply = draw.choice(forms).format(
        x=letter, y=other, o=option, l=letter.lower(), p=phrase_, P=phrase_.capitalize()
    )
    return spoiled(reply, draw) if draw.random() < 0.3 else reply


def mmmu_choice_pair(draw):
    options = [phrase(draw) for _ in range(draw.randint(2, 9))]
    letters, texts = mmmu_mcq_utils.get_multi_choice_info(options)[::-1]
    reply = choice_reply(letters, options, draw)
    choice = mmmu_mcq_utils.parse_mmmu_multi_choice_response(reply, letters, texts)
    return [reply, options, choice]


def mmstar_pair(draw):
    reply = choice_reply("ABCD", [phrase(draw) for _ in range(4)], draw)
    return [reply, extract_mcq_answer(reply, choices=list("ABCD")) or None]


def ai2d_pair(draw):
    reply, letter = (
        choice_reply("ABCD", [phrase(draw) for _ in range(4)], draw),
        draw.choice("ABCD"),
    )
    found = MultiChoiceRegexFilter(regex_pattern=r"([A-Z])\.").apply([[reply]], [{}])[0]
    score = exact_match_hf_evaluate(
        predictions=[found], references=[letter], ignore_case=True, ignore_punctuation=True
    )
    return [reply, letter, found, float(score["exact_match"])]


def mmmu_open_pair(draw):
    answers = [draw.choice([number(draw)[1], draw.choice(WORDS), phrase(draw)]) for _ in range(2)]
    right = draw.choice(answers)
    forms = [
        *(
            "{r}",
            "The answer is {r}.",
            "so x = {r}",
            "It could be {o}.\nTherefore it is {r}",
            "{o}",
        ),
        *("Thus the final result is {o}, not {r}", "is \nso {r}\nanswer :", "x={o}\ny={r}", "is ."),
        *("1,234 and 5e3 and {r}, -2.5", "The total is {o}. So the result is {r}. Good"),
    ]
    reply = spoiled(draw.choice(forms).format(r=right, o=phrase(draw)), draw)
    given = answers if draw.random() < 0.3 else answers[0]
    return [reply, given, float(eval_open(given, parse_open_response(reply)))]


def main():
    mmmu_mcq_utils.random.choice = lambda letters: None
    makers = {
        "anls": (anls_pair, MANY),
        "relaxed": (relaxed_pair, MANY),
        "vqa": (vqa_pair, MANY),
        "ocrbench": (ocrbench_pair, FEW),
        "mmmu_choice": (mmmu_choice_pair, FEW),
        "mmmu_open": (mmmu_open_pair, FEW),
        "mmstar": (mmstar_pair, FEW),
        "ai2d": (ai2d_pair, FEW),
    }
    draws = {name: random.Random(name) for name in makers}
    found = {"versions": {"lmms-eval": version("lmms-eval")}} | {
        name: [make(draws[name]) for _ in range(count)] for name, (make, count) in makers.items()
    }
    PATH.parent.mkdir(exist_ok=True)
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    PATH.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
