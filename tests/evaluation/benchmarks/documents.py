"""Small data sets of the nine benchmarks, with the hub's columns and layout; and replies to score.

The questions are made up. ``record.py``, which runs in an environment with lmms-eval, uses this
file as the tests do.
"""

import base64
import io
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

BRIEF = ["yes", "Yes.", "the cat", "42", "4.2", "42.5%", "North Pole", "", "north  pole\n", "two"]
LETTERS = ["A", "b", "B.", "(C)", "D) it", "The answer is B.", "I pick A, not C", "none", "C: no"]


def _mmmu(id, question, options, answer, kind="multiple-choice", pictures=1):
    images = {f"image_{n}": "picture" if n <= pictures else None for n in range(1, 8)}
    row = {"id": id, "question": question, "options": repr(options), "explanation": "", **images}
    return row | {
        "img_type": "['Diagrams']",
        "answer": answer,
        "topic_difficulty": "Easy",
        "question_type": kind,
        "subfield": "Theory",
    }


def _mmstar(index, question, answer, category, l2):
    meta = {"source": "Made up", "split": "val", "image_path": f"images/{index}.jpg"}
    row = {"index": index, "question": question, "image": "picture", "answer": answer}
    return row | {"category": category, "l2_category": l2, "meta_info": meta}


def _document(id, question, answers):
    return {
        "questionId": id,
        "question": question,
        "image": "picture",
        "answers": answers,
        "data_split": "val",
    }


def _ocrbench(source, kind, question, answer):
    row = {"dataset": source, "question": question, "question_type": kind}
    return row | {"answer": answer, "image": "picture"}


FILES = {  # benchmark -> where its rows lie below the data's folder, as a download leaves them
    "mmstar": "MMStar/mmstar.parquet",
    "mmmu": "MMMU/data/validation-00000-of-00001.parquet",
    "simplevqa": "SimpleVQA/data/test-00000-of-00001.parquet",
    "infovqa": "DocVQA/InfographicVQA/validation-00000-of-00001.parquet",
    "textvqa": "textvqa/data/validation-00000-of-00001.parquet",
    "docvqa": "DocVQA/DocVQA/validation-00000-of-00001.parquet",
    "ocrbench": "OCRBench/data/test-00000-of-00001.parquet",
    "ai2d": "ai2d/data/test-00000-of-00001.parquet",
    "chartqa": "ChartQA/data/test-00000-of-00001.parquet",
}

ROWS = {
    "mmstar": [
        _mmstar(
            0,
            " Which is it?\nOptions: A: cat, B: dog, C: hen, D: cow ",
            "B",
            "coarse perception",
            "image emotion",
        ),
        _mmstar(
            1,
            "Is it so? Please answer yes or no.\nOptions: A: Yes, B: No",
            "a",
            "math",
            "geometry",
        ),
    ],
    "mmmu": [
        _mmmu("validation_Art_1", "What is in <image 1>?", ["a cat", "a dog", "a hen"], "B"),
        _mmmu(
            "validation_Clinical_Medicine_12",
            "Compare <image 2> with <image 1>. Which is larger?",
            ["the first", "the second"],
            "A",
            pictures=2,
        ),
        _mmmu(
            "validation_Music_3",
            "<image 1> In <image 1>, and not in the text, which one?",
            ["<image 2>", "<image 3>", "both", "none"],
            "C",
            pictures=3,
        ),
        _mmmu("validation_Math_7", "<image 1>\nHow many?", [], "42.50", kind="open"),
        _mmmu("validation_History_8", "Where is <image 1>?", [], "North Pole", kind="open"),
        _mmmu("validation_Art_Theory_9", "Which letter is it? <image 1>", [], "x", kind="open"),
    ],
    "simplevqa": [
        {
            "data_id": 5,
            "image": "base64",
            "language": "EN",
            "question": " Who is it? ",
            "answer": "The North-Pole's two cats",
            "source": "made up",
        },
        {
            "data_id": 6,
            "image": "base64",
            "language": "CN",
            "question": "这是什么",
            "answer": "猫",
            "source": "made up",
        },
    ],
    "infovqa": [
        _document("65718", "How many percent are it?", ["42.5%", "42.5 percent"]),
        _document("65719", " Which pole?", ["North Pole"]),
    ],
    "textvqa": [
        {
            "image_id": "0a",
            "question_id": 34602,
            "question": "what Brand is on THE sign?",
            "question_tokens": ["what", "brand"],
            "image": "picture",
            "image_width": 24,
            "image_height": 16,
            "flickr_original_url": "",
            "answers": [
                *("north pole", "North Pole", "the north pole", "north-pole", "pole"),
                *("two", "2", "yes", "yes", "unanswerable"),
            ],
            "image_classes": ["Sign"],
            "set_name": "val",
            "ocr_tokens": ["NORTH", "POLE"],
        }
    ],
    "docvqa": [
        _document("49153", "What is the total?", ["42", "$42"]),
        _document("24580", "Where to?", ["to the North Pole"]),
    ],
    "ocrbench": [
        _ocrbench("IIIT5K", "Regular Text Recognition", "what is written in the image?", ["POLE"]),
        _ocrbench(
            "HME100k", "Handwritten Mathematical Expression Recognition", " Write! ", ["4 2"]
        ),
        _ocrbench(
            "FUNSD", "Key Information Extraction", "What is it?", ["\uff39\uff25\uff33", "42"]
        ),
    ],
    "ai2d": [
        {
            "question": "What eats it?",
            "options": ["fox", "owl", "hen", "cow"],
            "answer": "1",
            "image": "picture",
        },
        {"question": "Is it so?", "options": ["yes", "no"], "answer": "0", "image": "picture"},
    ],
    "chartqa": [
        {
            "type": "human_test",
            "question": "How many are it?",
            "answer": "42",
            "image": "picture",
        },
        {
            "type": "augmented_test",
            "question": "What share?",
            "answer": "0.425",
            "image": "picture",
        },
        {"type": "human_test", "question": "Is it so?", "answer": "Yes", "image": "picture"},
    ],
}

_LONG = [
    "So the answer is 42.5",
    "It could be x or y.\nTherefore it is the North Pole.",
    "x = 42.50",
    "1,042 and 42.5 and 4e1",
    "the north pole's two cats",
    "猫",
    "$ 42",
    "pole position",
    "2",
    "0.43",
]
REPLIES = (
    {  # to each question of the benchmark
        "mmstar": LETTERS,
        "mmmu": [
            *("A", "B.", "(C)", "C) it", "The answer is B.", "I pick A, not C", "x", "42"),
            *("I think that it is a dog or a hen.", "", *_LONG[:4]),
        ],
        "ai2d": [*LETTERS, "A. fox", " B. owl"],
    }
    | {
        name: [*BRIEF, *_LONG]
        for name in ("simplevqa", "infovqa", "textvqa", "docvqa", "ocrbench", "chartqa")
    }
)


def picture(number: int) -> Image.Image:
    """A small picture, another for each number."""
    y, x = np.mgrid[:16, :24]
    values = np.stack([(5 + number) * x, 9 * y, (x + y) * (3 + number)], -1) % 256
    return Image.fromarray(values.astype(np.uint8))


def write(data: Path, rows_of: dict[str, list[dict]] = ROWS) -> None:
    """Writes data sets as ``datasets`` does for the hub; "picture" becomes one."""
    for name in rows_of:
        rows = []
        for number, row in enumerate(rows_of[name]):
            stored = io.BytesIO()
            picture(number).save(stored, "PNG")
            made = {
                "picture": {"bytes": stored.getvalue(), "path": f"{number}.png"},
                "base64": base64.b64encode(stored.getvalue()).decode(),
            }
            rows.append({k: made.get(v, v) if isinstance(v, str) else v for k, v in row.items()})
        table = datasets.Dataset.from_list(rows)
        for column, value in rows_of[name][0].items():
            if value == "picture" or column in [f"image_{n}" for n in range(1, 8)]:
                table = table.cast_column(column, datasets.Image())
        path = data / FILES[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, batch_size=2)  # several row groups
