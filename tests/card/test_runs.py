"""What training took, from logs."""

import json

import pytest

from viq.card import read_run
from viq.card.runs import runs_markdown
from viq.errors import InputError

ABOUT = {
    "stage": "align",
    "inputs": {"data": "/somewhere/corpus"},
    "processes": 1,
    "versions": {"viq": "0.1.0", "torch": "2.13.0"},
}
# Ten steps take 20 seconds, 2 images a second. An evaluation of 100 seconds is in between, and a
# night while the run was stopped.
LINES = [
    {"step": 0, "time": 1000.0, "eval_text": 9.0},
    {"step": 1, "time": 1003.0, "loss": 5.0, "images_per_s": 1.0, "lr/lm": 1e-4, "errors": 0.0},
    {"step": 10, "time": 1021.0, "loss": 4.0, "images_per_s": 2.0, "lr/lm": 5e-4, "errors": 0.0},
    {"step": 10, "time": 1121.0, "eval_text": 4.5, "eval_psnr": None},
    {"step": 20, "time": 1141.0, "loss": 3.0, "images_per_s": 2.0, "lr/lm": 5e-4, "errors": 1.0},
    {"step": 30, "time": 31161.0, "loss": 2.0, "images_per_s": 2.0, "lr/lm": 0.0, "errors": 3.0},
    {"step": 30, "time": 31200.0, "eval_text": 2.25, "eval_psnr": None},
]


def write(folder, about=ABOUT, lines=LINES):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_totals_leave_out_evaluations_and_pauses(tmp_path):
    run = read_run(write(tmp_path))
    assert run.hours * 3600 == pytest.approx(3 + 18 + 20 + 20)
    assert run.seen == {"images": pytest.approx(3 + 36 + 40 + 40)}
    assert (run.stage, run.name, run.steps, run.errors) == ("align", "align", 30, 3)
    assert run.lr == 5e-4
    assert run.evaluated == {"text": 2.25}
    assert (run.data, run.hardware) == ("corpus", None)


def test_a_run_of_one_line_has_its_own_time_or_none(tmp_path):
    run = read_run(write(tmp_path / "a", lines=LINES[:2]))
    assert (run.hours * 3600, run.seen) == (3, {"images": 3})
    assert read_run(write(tmp_path / "b", lines=LINES[1:2])).hours == 0


def test_the_table_has_a_line_a_run_and_says_what_is_missing(tmp_path):
    here = read_run(write(tmp_path / "a"), name="once more", hardware="2 cores")
    about = ABOUT | {"stage": "vae", "processes": 4, "inputs": {}, "hardware": "a GPU"}
    there = read_run(write(tmp_path / "b", about), hardware="2 cores")
    bare = [{k: v for k, v in line.items() if k in ("step", "time", "loss")} for line in LINES]
    none = read_run(write(tmp_path / "c", {"stage": "sft"}, bare))
    lines = runs_markdown([here, there, none]).splitlines()
    assert lines[2] == "| once more (align) | corpus | 2 cores | 30 | 0.0005 | 119 | – | 0.02 |"
    assert lines[3] == "| vae | – | a GPU, 4 processes | 30 | 0.0005 | 119 | – | 0.02 |"
    assert lines[4] == "| sft | – | not recorded | 30 | not measured | – | – | 0.02 |"
    text = "\n".join(lines)
    assert "All together 0.1 hours of training" in text
    assert "- once more: text 2.25\n- vae: text 2.25" in text
    assert "left out: once more 3, vae 3." in text
    assert text.count("Versions: viq 0.1.0, torch 2.13.0.") == 1


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", None, "run.json: no such file, so this is not a run's folder"),
        ("log.jsonl", None, "log.jsonl: no such file, so nothing has trained here"),
        ("run.json", "{", "run.json: cannot be read"),
        ("run.json", "[]", "run.json: not a run's own file"),
        ("log.jsonl", "{", "log.jsonl: cannot be read"),
        ("log.jsonl", "[1]", "log.jsonl: not a run's log"),
        ("log.jsonl", "", "has no step in its log yet"),
    ],
)
def test_what_is_no_run_is_said(file, content, message, tmp_path):
    path = write(tmp_path) / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_run(tmp_path)
