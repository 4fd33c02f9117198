"""The same questions to a tiny model, by lmms-eval itself and by our own code.

    python harness.py PYTHON recorded.json

records what the lmms-eval of that interpreter finds; this package has to be installed there, too.
"""

import argparse
import importlib.util
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

from viq import Tokenizer
from viq.evaluation.benchmarks import load_benchmark
from viq.evaluation.task import Item
from viq.evaluation.understanding.answerer import Answerer
from viq.external.language_model import tiny_language_model
from viq.image import ImageConfig
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel
from viq.model.head import QuantizerConfig
from viq.model.network import Network
from viq.model.presets import released

BATCH, LIMIT = 3, 12
YAMLS = {"docvqa": "docvqa/docvqa_val.yaml", "mmmu": "mmmu/mmmu_val.yaml"}  # of lmms-eval
WORDS = ("bear", "cat", "a dog", "elephant")  # to choose from
TEXTS = ("What is 1 + 1?", "Name a colour.", "Who?")
NEVER = "never"
RUN = "again"  # a stopped run's cache is found by its name


def _documents():
    path = Path(__file__).parents[1] / "benchmarks" / "documents.py"
    spec = importlib.util.spec_from_file_location("documents", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_model(folder: Path) -> Path:
    """A model that reads codes, and its tokenizer, always the same random ones, in ``folder``."""
    tiny_language_model(folder / "lm")
    torch.manual_seed(0)
    shape = released(
        32, 1, 32, QuantizerConfig(levels=(8, 8, 5)), position_side=4, attention_heads=2
    )
    Tokenizer.from_network(Network(shape), ImageConfig()).save_pretrained(folder / "tokenizer")
    adapter = AdapterConfig(rank=4, alpha=8, dropout=0.0)
    config = MultimodalConfig(
        lm=str(folder / "lm"), tokenizer=str(folder / "tokenizer"), adapter=adapter
    )
    model = MultimodalModel.build(config).eval()
    with torch.no_grad():
        for parameter in model.parameter_groups()["lm"]:
            parameter.add_(torch.randn_like(parameter) / 20)
    model.save_pretrained(folder / "run" / "mllm", full=True)
    return folder / "run"


def _ask(model: MultimodalModel, items: list[Item]) -> list[str]:
    answerer = Answerer(model)
    return [answerer.write([answerer.read(item, LIMIT)], LIMIT)[0] for item in items]


def own_answers(run: Path, data: Path) -> dict[str, list[str]]:
    """By our own evaluation's code, one question at a time."""
    model = MultimodalModel.from_pretrained(run / "mllm")
    texts = [
        Item(id=text, images=(), content=({"type": "text", "text": text},), answers=())
        for text in TEXTS
    ]
    items = {name: list(load_benchmark(name, data).items(None)) for name in YAMLS}
    return {name: _ask(model, some) for name, some in (items | {"text": texts}).items()}


def own_losses(run: Path) -> list[list[float]]:
    """Of each word after each of two pictures, by our own evaluation's code."""
    answerer = Answerer(MultimodalModel.from_pretrained(run / "mllm"))
    content = ({"type": "image"}, {"type": "text", "text": "What is it?"})
    losses = []
    for number in range(2):
        images = (_documents().picture(number),)
        item = Item(id="word", images=images, content=content, answers=(), choices=WORDS)
        (likelihoods,) = answerer.rank([answerer.read(item, LIMIT)])
        losses.append([-likelihood for likelihood in likelihoods])
    return losses


def write_data(
    data: Path, answers: dict[str, list[str]] | None = None, choices: Sequence[int] = (0, 0)
) -> None:
    """Two of the benchmarks, questions without a picture, and words to choose from.

    Args:
        data: a folder for all.
        answers: become the right ones of every other question.
        choices: the right ones of the words.
    """

    def right(name: str, number: int) -> str:
        return NEVER if answers is None or number % 2 else answers[name][number]

    documents = _documents()
    asked = ("What is the total?", "Where to?", " And why so?\nSay!", "Who")
    rows = {
        "docvqa": [
            {
                "questionId": str(number),
                "question": text,
                "image": "picture",
                "answers": [NEVER, right("docvqa", number)],
            }
            for number, text in enumerate(asked)
        ],
        "mmmu": [
            row if row["question_type"] != "open" else row | {"answer": right("mmmu", number)}
            for number, row in enumerate(documents.ROWS["mmmu"])
        ],
    }
    documents.write(data, rows)
    text = [
        {"question": question, "answer": right("text", number)}
        for number, question in enumerate(TEXTS)
    ]
    (data / "text.json").write_text("\n".join(json.dumps(row) for row in text))
    documents.FILES["choice"] = "choice.parquet"
    row = {"question": "What is it?", "image": "picture", "words": list(WORDS)}
    documents.write(data, {"choice": [row | {"right": number} for number in choices]})


def write_tasks(folder: Path, data: Path, lmms: Path) -> None:
    """Task files for lmms-eval: its own ones with local data, and two small ones."""
    files = _documents().FILES
    for name, yaml in YAMLS.items():
        part = {"data_files": {"validation": str(data / files[name])}}
        (folder / f"{name}.yaml").write_text(
            f"include: {lmms / 'tasks' / yaml}\ntask: viq_{name}\ntag: []\ndataset_path: parquet\n"
            f"dataset_name: null\ndataset_kwargs: {json.dumps(part)}\n"
        )
    part = {"data_files": {"test": str(data / "text.json")}}
    (folder / "text.yaml").write_text(
        "task: viq_text\ndataset_path: json\ntest_split: test\noutput_type: generate_until\n"
        "doc_to_text: question\ndoc_to_target: answer\n"
        f"generation_kwargs: {{max_new_tokens: {LIMIT}}}\ndataset_kwargs: {json.dumps(part)}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    part = {"data_files": {"test": str(data / "choice.parquet")}}
    (folder / "choice.yaml").write_text(
        "task: viq_choice\ndataset_path: parquet\ntest_split: test\noutput_type: multiple_choice\n"
        "doc_to_visual: image\ndoc_to_text: question\ndoc_to_choice: words\ndoc_to_target: right\n"
        f"dataset_kwargs: {json.dumps(part)}\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )


def run_harness(
    python: str, run: Path, tasks: Path, out: Path, names: list[str], *more: str
) -> tuple[dict, dict]:
    """Results and samples of each task, by ``python -m lmms_eval``."""
    command = [python, "-m", "lmms_eval", "--model", "viq", "--include_path", str(tasks)]
    command += ["--model_args", f"pretrained={run}", "--device", "cpu", "--batch_size", str(BATCH)]
    command += ["--tasks", ",".join(f"viq_{name}" for name in names), "--log_samples"]
    command += ["--gen_kwargs", f"max_new_tokens={LIMIT}"] if "choice" not in names else []
    command += ["--output_path", str(out), *more]
    own = {"HF_HOME": str(out / "hub"), "HF_HUB_OFFLINE": "1", "LMMS_CACHE_RUN_ID": RUN}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=out, env={**os.environ, **own}
    )
    files = sorted(out.rglob("*_results.json"))
    if done.returncode or not files:
        raise RuntimeError(f"lmms-eval failed: {done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    samples = {}
    for name in names:
        (file,) = out.rglob(f"*_samples_viq_{name}.jsonl")
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        samples[name] = sorted(lines, key=lambda sample: sample["doc_id"])
    return json.loads(files[-1].read_text("utf-8")), samples


def installed(python: str) -> tuple[Path, str]:
    """Where the interpreter has lmms-eval, and its version."""
    code = (
        "import importlib.metadata as m, importlib.util as u;"
        "print(u.find_spec('lmms_eval').origin); print(m.version('lmms_eval'))"
    )
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    origin, version = found.stdout.split()
    return Path(origin).parent, version


def prepare(folder: Path) -> tuple[Path, Path]:
    """The model's folder and the data's, both new in ``folder``."""
    run, data = build_model(folder), folder / "data"
    data.mkdir()
    write_data(data)
    first, second = own_losses(run)
    chosen = (first.index(min(first)), second.index(max(second)))  # one is right, one is wrong
    write_data(data, own_answers(run, data), chosen)
    return run, data


def find(python: str, folder: Path) -> dict:
    """What lmms-eval finds: answers and scores, and losses and choices."""
    run, data = prepare(folder)
    tasks, out, choices = (folder / name for name in ("tasks", "out", "choices"))
    for new in (tasks, out, choices):
        new.mkdir()
    lmms, version = installed(python)
    write_tasks(tasks, data, lmms)
    results, samples = run_harness(python, run, tasks, out, [*YAMLS, "text"])
    ranked, chosen = run_harness(python, run, tasks, choices, ["choice"], "--force_simple")
    return {
        "lmms_eval": version,
        "answers": {n: [s["filtered_resps"].strip() for s in some] for n, some in samples.items()},
        "anls": [s["anls"] for s in samples["docvqa"]],
        "exact_match": results["results"]["viq_text"]["exact_match,none"],
        "losses": [[float(loss) for loss, _ in s["filtered_resps"]] for s in chosen["choice"]],
        "acc": ranked["results"]["viq_choice"]["acc,none"],
    }


if __name__ == "__main__":
    import tempfile

    parser = argparse.ArgumentParser()
    parser.add_argument("python")
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        text = json.dumps(find(args.python, Path(temporary)), indent=1, ensure_ascii=False)
    args.file.write_text(text + "\n", "utf-8")
