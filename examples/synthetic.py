"""Draws synthetic pictures of every family, a row each, with a question and its answer.

Run as: python examples/synthetic.py --out out/synthetic.png
"""

import argparse
from pathlib import Path

from PIL import Image

from viq.data.sample import Sample
from viq.data.synthetic.source import TASKS, SyntheticSource
from viq.image.sheet import Cell, Row, sheet


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws synthetic pictures of every family.")
    parser.add_argument("--out", type=Path, default=Path("out/synthetic.png"), metavar="FILE")
    parser.add_argument("--split", default="train", choices=("train", "validation"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=4, help="pictures of each family")
    args = parser.parse_args()
    rows = []
    for task in TASKS:
        source = SyntheticSource((task,), args.split, seed=args.seed, size=args.count)
        rows.append(Row(task, [_cell(sample) for sample in source]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet([""] * args.count, rows).save(args.out)
    print(f"{args.out} shows {args.count} pictures of each of {len(TASKS)} families.")


def _cell(sample: Sample) -> Cell:
    """The pictures, side by side, with the first question and its answer."""
    width, height = sum(p.width for p in sample.images), max(p.height for p in sample.images)
    both, left = Image.new("RGB", (width, height), "white"), 0
    for picture in sample.images:
        both.paste(picture, (left, 0))
        left += picture.width
    question, answer = (message["content"][-1]["text"] for message in sample.messages[:2])
    caption = f"{question} {answer}".replace("\n", " ")
    return Cell(both, caption if len(caption) < 46 else f"{caption[:43]}...")


if __name__ == "__main__":
    main()
