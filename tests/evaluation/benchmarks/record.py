"""Records what lmms-eval itself asks and scores; to be run where it is installed.

python record.py recorded.json
"""

import importlib.metadata
import io
import json
import random
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import lmms_eval.tasks
from documents import FILES, REPLIES, write
from lmms_eval.api.task import ConfigurableMessagesTask
from lmms_eval.utils import load_yaml_config

TASKS = {
    "mmstar": "mmstar/mmstar.yaml",
    "mmmu": "mmmu/mmmu_val.yaml",
    "simplevqa": "simplevqa/simplevqa.yaml",
    "infovqa": "infovqa/infovqa_val.yaml",
    "textvqa": "textvqa/textvqa_val.yaml",
    "docvqa": "docvqa/docvqa_val.yaml",
    "ocrbench": "ocrbench/ocrbench.yaml",
    "ai2d": "ai2d/ai2d.yaml",
    "chartqa": "chartqa/chartqa.yaml",
}


def main() -> None:
    """Writes the file that is named."""
    tasks = Path(lmms_eval.tasks.__file__).parent
    found = {"lmms_eval": importlib.metadata.version("lmms_eval"), "benchmarks": {}}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for name, yaml in TASKS.items():
            config = load_yaml_config(str(tasks / yaml))
            repository, part = config["dataset_path"], config.get("dataset_name")
            split = config["test_split"]
            config |= {
                "dataset_path": "parquet",
                "dataset_name": None,
                "dataset_kwargs": {"data_files": {split: str(Path(folder) / FILES[name])}},
            }
            task = ConfigurableMessagesTask(config=config, model_name="viq")
            found["benchmarks"][name] = {
                "repository": repository,
                "config": part,
                "split": split,
                "max_new_tokens": task.config.generation_kwargs.get("max_new_tokens"),
                "items": [_item(task, name, number) for number in range(len(task.dataset[split]))],
            }
    text = json.dumps(found, indent=1, ensure_ascii=False)
    Path(sys.argv[1]).write_text(text + "\n", "utf-8")


def _item(task, name: str, number: int) -> dict:
    def document():
        return task.dataset[task.config.test_split][number]  # scoring changes it

    (message,) = task.doc_to_messages(document())
    content = [part["text"] if part["type"] == "text" else None for part in message["content"]]
    return {
        "content": content,  # null for a picture
        "scores": {reply: _settled(task, name, document, reply) for reply in REPLIES[name]},
    }


def _settled(task, name: str, document, reply: str) -> float | None:
    """The score; None where it is drawn."""
    scores = set()
    for seed in range(50 if name == "mmmu" else 1):
        random.seed(seed)
        with redirect_stdout(io.StringIO()):
            scores.add(_score(task, name, document(), reply))
    return scores.pop() if len(scores) == 1 else None


def _score(task, name: str, document: dict, reply: str) -> float:
    results = [reply]
    for chain in task._filters:
        for step in chain.filters:
            if type(step).__name__ == "MultiChoiceRegexFilter":  # AI2D's
                results = step.apply([results], [document])
    value = next(iter(task.process_results(document, results).values()))
    if name == "mmmu":
        return task.aggregation()["mmmu_acc"]([value])
    return float(value["score"] if isinstance(value, dict) else value)


if __name__ == "__main__":
    main()
