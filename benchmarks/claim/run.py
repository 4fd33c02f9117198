r"""The paper's claim at this scale: do codes answer as well as the features they were made of?

    python benchmarks/claim/run.py --align ALIGN --quantize QUANTIZE --data CORPUS --lm LM \
        --work runs/claim --out docs/CLAIM.md

For each kind of feature and each seed a language model begins anew and learns by the same recipe
from the same pictures, seen through a frozen network; then all are asked the same held-out
questions. Flags that are not this script's go to every training. Every part is a public command,
and is kept as it ends; a stopped script goes on where it was.
"""

import argparse
import datetime
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from viq.errors import InputError, ViQError
from viq.evaluation.document import Score
from viq.evaluation.files import whole_text
from viq.evaluation.provenance import commit
from viq.evaluation.samples import Samples
from viq.evaluation.scores import SHARE, mean_over_tasks, mean_score, paired_difference
from viq.evaluation.understanding.results import PERCENT, answered, blind_part, seen_part
from viq.evaluation.understanding.suite import NAMES, OFFLINE
from viq.hardware import hardware

VIQ = (sys.executable, "-m", "viq.cli.main")
CONTINUOUS, CODES = "continuous", "quantized"  # kinds of `viq train sft --vision`
BOUNDS = {"average": -1.0, "task": -3.0}  # points that codes may lose

Scores = Mapping[str, float]  # of a task's items, in [0, 1]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--align", type=Path, required=True, help="the run of stage 1")
    parser.add_argument("--quantize", type=Path, required=True, help="the run of stage 2-2")
    parser.add_argument("--data", type=Path, required=True, help="captioned pictures")
    parser.add_argument("--lm", default="smollm2", help="the language model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=2000, help="questions of a task")
    parser.add_argument("--max-pixels", type=int, default=65536, help="of a picture asked about")
    parser.add_argument("--work", type=Path, required=True, help="for runs and answers")
    parser.add_argument("--out", type=Path, required=True, help="the page to write")
    parser.add_argument("--words", type=Path, help="Markdown that the page ends with")
    args, flags = parser.parse_known_args()
    try:
        models = {
            f"{kind}-{seed}": train(args, kind, seed, flags)
            for seed in range(args.seeds)
            for kind in (CONTINUOUS, CODES)
        }
        ask(args, models)
        words = f"\n{args.words.read_text('utf-8')}" if args.words else ""
        whole_text(args.out, page(args, flags) + words)
    except (ViQError, OSError) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"run.py: error: viq ended with {error.returncode}; see above", file=sys.stderr)
        return 1
    print(args.out)
    return 0


def train(args: argparse.Namespace, kind: str, seed: int, flags: Sequence[str]) -> Path:
    """One model's training; what is done already is left as it is."""
    run = Path(args.work) / f"{kind}-{seed}"
    if not (run / "mllm" / "config.json").exists():
        start = args.align if kind == CONTINUOUS else args.quantize
        words = ["train", "sft", "--recipe", "nano-reading", "--vision", kind, "--fresh"]
        words += ["--start", start, "--lm", args.lm, "--data", args.data, "--out", run]
        words += ["--loop.seed", str(seed), "--data.seed", str(seed), *flags]
        viq([*words, "--resume"] if (run / "log.jsonl").exists() else words)
    return run


def ask(args: argparse.Namespace, models: Mapping[str, Path]) -> None:
    """Asks all models the offline suite, with pictures and without."""
    words = ["eval", "understanding", "--tasks", OFFLINE, "--pictures", args.data, "--lm", args.lm]
    words += ["--count", str(args.count), "--max-pixels", str(args.max_pixels)]
    words += ["--out", answers(args)]
    for name, run in models.items():
        words += ["--model", f"{name}={run}"]
    viq(words)


def answers(args: argparse.Namespace) -> Path:
    """Where the answers lie."""
    return Path(args.work) / "answers"


def viq(words: Sequence[object]) -> None:
    """Runs `viq`."""
    subprocess.run([*VIQ, *map(str, words)], check=True)


def page(args: argparse.Namespace, flags: Sequence[str]) -> str:
    """The result in Markdown."""
    samples = Samples(answers(args))
    rows, differences = [], []
    for task in NAMES[OFFLINE]:
        seen = {
            kind: [scores(samples, seen_part(f"{kind}-{s}", task)) for s in range(args.seeds)]
            for kind in (CONTINUOUS, CODES)
        }
        blind = [scores(samples, blind_part(f"{CODES}-{s}", task)) for s in range(args.seeds)]
        if not all(seen[CODES]):  # the task could not be had
            continue
        one, other = over_seeds(seen[CODES]), over_seeds(seen[CONTINUOUS])
        items = [item for item in one if item in other]
        difference = paired_difference(
            [one[i] for i in items], [other[i] for i in items], scale=PERCENT, span=SHARE
        )
        differences.append(difference)
        seeds = [
            PERCENT * (fmean(a.values()) - fmean(b.values()))
            for a, b in zip(seen[CODES], seen[CONTINUOUS], strict=True)
        ]
        means = [mean_score([*found.values()], scale=PERCENT, span=SHARE) for found in (other, one)]
        without = f"{PERCENT * fmean(over_seeds(blind).values()):.1f}" if all(blind) else "–"
        cells = [task, *map(written, means), f"**{written(difference, sign='+')}**"]
        cells += [", ".join(f"{value:+.1f}" for value in seeds), without]
        rows.append(f"| {' | '.join([*cells, verdict(difference, BOUNDS['task'])])} |")
    whole = mean_over_tasks(differences)
    cells = ["mean", "", "", f"**{written(whole, sign='+')}**", "", ""]
    rows.append(f"| {' | '.join([*cells, verdict(whole, BOUNDS['average'])])} |")
    words = ["python", "benchmarks/claim/run.py", "--align", "ALIGN", "--quantize", "QUANTIZE"]
    words += ["--data", "CORPUS", "--lm", args.lm, "--seeds", args.seeds, "--count", args.count]
    command = shlex.join(map(str, [*words, *flags]))
    return "\n".join(
        [
            "# Codes against the features they were made of",
            "",
            f"Made by `{command}`; {hardware('cpu')},"
            f" {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit"
            f" {(commit() or 'unknown')[:7]}. A question's score is its mean over seeds (blind:"
            " without the picture); intervals of 95 % are over questions. The last"
            " column says whether the whole interval is above"
            f" {BOUNDS['task']:g} points, of the mean {BOUNDS['average']:g}.",
            "",
            "| task | continuous, % | codes, % | difference, points | of each seed | blind, % | |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "Answers are right or wrong; the loss says how near. At the end of training, of the"
            " text of the same held-out samples, in nats a token (less is better):",
            "",
            "| seed | continuous | codes | difference |",
            "|---|---|---|---|",
            *losses(args),
            "",
        ]
    )


def losses(args: argparse.Namespace) -> list[str]:
    """Rows of the held-out text loss that each seed's two trainings ended with."""
    rows, pairs = [], []
    for seed in range(args.seeds):
        pair = [last_loss(Path(args.work) / f"{kind}-{seed}") for kind in (CONTINUOUS, CODES)]
        pairs.append(pair)
        rows.append(f"| {seed} | {pair[0]:.3f} | {pair[1]:.3f} | {pair[1] - pair[0]:+.3f} |")
    one, other = (fmean(losses) for losses in zip(*pairs, strict=True))
    return [*rows, f"| mean | {one:.3f} | {other:.3f} | **{other - one:+.3f}** |"]


def last_loss(run: Path) -> float:
    """Of the last evaluation of a run.

    Raises:
        InputError: there was none.
    """
    log = run / "log.jsonl"
    found = [line["eval_text"] for line in map(json.loads, log.open()) if "eval_text" in line]
    if not found:
        raise InputError("no evaluation of the text loss is in the log", log)
    return float(found[-1])


def scores(samples: Samples, part: str) -> Scores:
    """Of all items that could be read."""
    return {item: record["score"] for item, record in answered(samples, part).items()}


def over_seeds(found: Sequence[Scores]) -> Scores:
    """Each item's mean; of items that all seeds have."""
    all_have = [item for item in found[0] if all(item in one for one in found)]
    return {item: fmean(one[item] for one in found) for item in all_have}


def written(score: Score, sign: str = "") -> str:
    """With its interval."""
    ends = "" if score.low is None else f" [{score.low:{sign}.1f}, {score.high:{sign}.1f}]"
    return f"{score.value:{sign}.1f}{ends}"


def verdict(difference: Score, bound: float) -> str:
    """Whether codes lose no more than so many points."""
    return "holds" if difference.low is not None and difference.low > bound else "not shown"


if __name__ == "__main__":
    sys.exit(main())
