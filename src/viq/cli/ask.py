"""viq ask: a question about images or codes, to a language model that reads codes."""

import argparse
import io
import json
import os
import sys
import warnings
from contextlib import nullcontext, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viq.cli.options import check_device, positive
from viq.cli.paths import CODES
from viq.errors import InputError, ModelError

if TYPE_CHECKING:
    from viq.codes import Codes
    from viq.mllm import MultimodalModel

NEEDED = ("transformers", "peft")  # the extra `ask`


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "ask",
        help="ask a language model about images or codes",
        description="Asks a language model that reads codes. Pictures are encoded first. The\n"
        "answer is printed while it is written. Without files the question is just a question.",
        epilog="examples:\n"
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
        help="folder or Hugging Face id of a language model that reads codes, or a run's folder\n"
        "with mllm/ in it (default: the one that comes with nano)",
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
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise InputError(f'asking needs {" and ".join(missing)}; pip install "viq[ask]"')
    from transformers import TextStreamer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(transformers|peft)\b")
        model = _load(args, reads_codes=bool(names))
        codes = _codes([Path(name) for name in names], model)
        content = [*({"type": "image"} for _ in codes), {"type": "text", "text": question}]
        inputs = model.processor()([{"role": "user", "content": content}], codes)
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


def _load(args: argparse.Namespace, *, reads_codes: bool) -> "MultimodalModel":
    from viq.mllm import MultimodalModel

    check_device(args.device)
    folder = _find(args.model)
    # Bars of conversions and downloads are for terminals; they come from several libraries.
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
        model = MultimodalModel.from_pretrained(folder, lm=args.lm, dtype=args.dtype)
    beside = Path(args.model) / "tokenizer"
    if reads_codes and model.embedder is None and (beside / "config.json").is_file():
        model.read_codes_of(str(beside))  # stages before `sft` leave the two apart
    if reads_codes and model.embedder is None:
        raise ModelError(
            "this language model has learnt to read features, not codes; train one that reads codes"
            " by viq train sft",
            args.model,
        )
    return model.to(args.device)


def _find(where: str) -> str:
    """The model itself: inside a run's folder, beside a bundled tokenizer, or as it was named."""
    from viq.checkpoint import WEIGHTS, bundled

    folder = WEIGHTS / where if where in bundled() else Path(where)
    if (folder / "mllm" / "config.json").is_file():
        return str(folder / "mllm")
    if where in bundled():
        raise ModelError(
            "no language model comes with it yet; give --model a folder or Hugging Face id of one"
            " that reads codes, or a run's folder with mllm/ in it",
            where,
        )
    return where


def _codes(paths: list[Path], model: "MultimodalModel") -> "list[Codes]":
    """The codes of each file, in order; pictures are encoded together."""
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
    pictures = [place for place in range(len(paths)) if place not in found]
    if pictures:
        with hushed():
            encoded = model.encode([paths[place] for place in pictures])
        found |= dict(zip(pictures, encoded, strict=True))
    return [found[place] for place in range(len(paths))]
