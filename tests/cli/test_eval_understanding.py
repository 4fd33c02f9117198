"""viq eval understanding, with small models that have learnt nothing."""

import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from viq.evaluation.document import Document
from viq.evaluation.understanding.answerer import Answerer, fix_adapters
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel

TASKS = ("words", "counting")


@pytest.fixture(scope="module")
def models(tiny_tokenizer_folder, tmp_path_factory) -> list[Path]:
    """Two that read the tiny tokenizer's codes."""
    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = MultimodalConfig(
            lm="tiny", tokenizer=str(tiny_tokenizer_folder), adapter=AdapterConfig(rank=4)
        )
        folders.append(tmp_path_factory.mktemp("understanding") / f"model{seed}")
        MultimodalModel.build(config).save_pretrained(folders[-1] / "mllm")
    return folders


@pytest.fixture
def evaluate(viq_command, models, tmp_path):
    """Runs the command with the first model, on few questions."""

    def run(*arguments, tasks=TASKS, out=tmp_path / "out"):
        options = ("--tasks", *tasks, "--out", out)
        if "--count" not in arguments:
            options += ("--count", 6)
        return viq_command("eval", "understanding", "--model", models[0], *arguments, *options)

    return run


def result_of(folder: Path) -> Document:
    return Document.load(folder)


def without_origin(folder: Path) -> dict:
    found = json.loads((folder / "result.json").read_text())
    del found["made"]
    return found


def test_two_models_are_compared(evaluate, models, tmp_path):
    status, out, err = evaluate("--model", f"second={models[1]}")
    assert (status, err) == (0, [])
    assert "Difference" in out
    document = result_of(tmp_path / "out")
    tables = {table.title: table for table in document.tables}
    assert list(tables) == ["Difference", "Understanding", "Models", "Reading", "Examples"]
    for name, sees, width, rate, tokens, lm in tables["Models"].rows:
        assert name in (str(models[0]), "second")
        assert (sees, width) == ("codes", 64)
        assert rate == 0.25  # 4 codes of 16 bits a patch
        assert tokens > 4
        assert lm.startswith("tiny (")
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    del settings["models"]  # these are named as they were given
    assert str(tmp_path) not in json.dumps(settings)
    assert {row[:2] for row in tables["Difference"].rows} == {("second", str(models[0]))}
    scores = {row[:2]: row for row in tables["Understanding"].rows}
    assert ("second", "average (offline)") in scores
    for row in scores.values():
        assert row[4] is not None  # chance
        assert row[5] is not None  # no image
    samples = {path.name.split(".")[0] for path in (tmp_path / "out" / "samples").glob("*.jsonl")}
    assert len(list((tmp_path / "out" / "samples").glob("*.jsonl"))) == 9, samples
    first = without_origin(tmp_path / "out")
    assert evaluate("--model", f"second={models[1]}").status == 0  # asks nothing, and says the same
    assert without_origin(tmp_path / "out") == first


def test_a_reference_may_be_named_and_json_printed(evaluate, models, tmp_path):
    status, out, _ = evaluate(
        *("--model", f"second={models[1]}", "--reference", "second", "--no-blind", "--json")
    )
    assert status == 0
    document = json.loads("\n".join(out))
    assert document["data"]["reference"] == "second"
    assert document["data"]["count"] == 6
    assert all(score["blind"] is None for score in document["data"]["scores"])
    differences = document["tables"][0]
    assert {(row[0], row[1]) for row in differences["rows"]} == {(str(models[0]), "second")}


def test_a_killed_evaluation_goes_on_and_gives_the_same_numbers(evaluate, models, tmp_path):
    count = ("--count", "70", "--no-blind")  # more than a window
    argv = [sys.executable, "-m", "viq.cli.main", "eval", "understanding", "--out", tmp_path / "b"]
    argv += ["--model", models[0], "--tasks", "words", *count]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "b" / "samples"
    try:
        while not any(path.stat().st_size for path in folder.glob("*.seen-*.jsonl")):
            assert process.poll() is None
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    assert not (tmp_path / "b" / "result.json").exists()
    assert 0 < sum(part.count(b"\n") for part in done.values()) < 70
    assert evaluate(*count, tasks=["words"], out=tmp_path / "b").status == 0
    for name, before in done.items():
        whole = before[: before.rfind(b"\n") + 1]
        assert (folder / name).read_bytes().startswith(whole)  # nothing was done again
    assert evaluate(*count, tasks=["words"], out=tmp_path / "a").status == 0
    assert without_origin(tmp_path / "a") == without_origin(tmp_path / "b")


def test_pictures_that_cannot_be_read_are_named_and_left_out(evaluate, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(file, "PNG")
    cells = [file.getvalue()] * 5 + [b"no picture"]
    captions = ("cat", "dog", "sun", "man", "car", "cup")
    table = [
        {"image": {"bytes": cell, "path": None}, "caption": caption, "kind": "emoji"}
        for cell, caption in zip(cells, captions, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "validation.parquet")
    status, _, err = evaluate("--pictures", tmp_path, tasks=["naming"])
    assert status == 1
    assert len(err) == 1
    assert err[0].startswith("viq: error: ")
    assert "naming: validation.parquet:5: not a readable image" in err[0]
    row = result_of(tmp_path / "out").tables[0].rows[0]
    assert (row[1], row[-2:]) == ("Naming pictures", (5, 1))
    again = evaluate("--pictures", tmp_path, tasks=["naming"])  # which tries it again
    assert (again.status, again.err) == (1, err)


def write_kinds(folder: Path, *, torn: int | None) -> None:
    """Plain and striped pictures; one may be no picture."""
    table = []
    for number in range(24):
        file, kind = io.BytesIO(), ("plain", "striped")[number % 2]
        picture = Image.new("RGB", (40, 40), (9 * number, 99, 40))
        if kind == "striped":
            picture.paste((255, 255, 255), (0, 8, 40, 24))
        picture.save(file, "PNG")
        data = b"no picture" if number == torn else file.getvalue()
        table.append({"image": {"bytes": data, "path": None}, "kind": kind})
    pq.write_table(pa.Table.from_pylist(table[:16]), folder / "train.parquet")
    pq.write_table(pa.Table.from_pylist(table[16:]), folder / "validation.parquet")


def test_probes_are_of_what_each_model_sees(evaluate, models, tmp_path):
    write_kinds(tmp_path, torn=3)
    options = ("--pictures", tmp_path, "--model", f"second={models[1]}")
    status, _, err = evaluate(*options, tasks=["probe-kind"])
    assert status == 1
    assert [line.split(": ")[2:5] for line in err] == [
        [name, "probe-kind", "train.parquet:3"] for name in (str(models[0]), "second")
    ]
    document = result_of(tmp_path / "out")
    differences, scores, _ = document.tables
    assert differences.rows[0][2] == scores.rows[0][1] == "Probe: Kind of picture"
    # Both see by the same tokenizer.
    assert (differences.rows[0][3].value, differences.rows[0][4]) == (0, 8)
    assert -40 < differences.rows[0][3].low < 0 < differences.rows[0][3].high < 40
    assert (scores.rows[0][4], scores.rows[0][5]) == (50, None)
    assert scores.rows[0][3] == scores.rows[1][3]
    assert scores.rows[0][-1] == 1
    before = without_origin(tmp_path / "out")
    again = evaluate(*options, tasks=["probe-kind"])
    assert (again.status, again.err) == (1, err)
    assert without_origin(tmp_path / "out") == before


def test_probes_that_are_finished_are_not_looked_at_again(evaluate, tmp_path):
    write_kinds(tmp_path, torn=None)
    options = ("--pictures", tmp_path)
    assert evaluate(*options, tasks=["probe-kind"]).status == 0
    before = without_origin(tmp_path / "out")
    for path in (tmp_path / "out" / "features").rglob("*.safetensors"):
        path.unlink()
    assert evaluate(*options, tasks=["probe-kind"]).status == 0
    assert without_origin(tmp_path / "out") == before
    assert not list((tmp_path / "out" / "features").rglob("*.safetensors"))


def test_other_data_of_the_same_name_are_refused(evaluate, tmp_path):
    captions = ("cat", "dog", "sun", "man", "car", "cup")

    def write(count):
        table = []
        for caption in captions[:count]:
            file = io.BytesIO()
            Image.new("RGB", (40, 40), "red").save(file, "PNG")
            image = {"bytes": file.getvalue(), "path": None}
            table.append({"image": image, "caption": caption, "kind": "emoji"})
        pq.write_table(pa.Table.from_pylist(table), tmp_path / "validation.parquet")

    write(5)
    asked = ("--pictures", tmp_path, "--no-blind")
    assert evaluate(*asked, tasks=["naming"]).status == 0
    write(6)
    status, _, err = evaluate(*asked, tasks=["naming"])
    assert status == 2
    assert "the evaluation here was begun with pictures " in err[0]


def test_models_of_different_limits_see_the_same_pixels(
    evaluate, models, tiny_tokenizer_folder, tmp_path
):
    model = MultimodalModel.from_pretrained(models[1] / "mllm")
    model.config.image = replace(model.config.image, max_pixels=4096)
    model.save_pretrained(tmp_path / "small")
    arguments = ("--model", f"small={tmp_path / 'small'}", "--count", "3", "--no-blind")
    assert evaluate(*arguments, tasks=["lines"]).status == 0
    document = result_of(tmp_path / "out")
    assert any("more than 4,096 pixels were scaled down for all" in n for n in document.notes)
    tables = {table.title: table for table in document.tables}
    tokens = [row[4] for row in tables["Models"].rows]
    assert tokens[0] == tokens[1] < 4096 / 32**2 * 3
    assert evaluate("--count", "3", "--no-blind", tasks=["lines"], out=tmp_path / "b").status == 0
    (alone,) = (table for table in result_of(tmp_path / "b").tables if table.title == "Models")
    assert alone.rows[0][4] > tokens[0]


def test_adapters_are_added_in_float32_whatever_the_language_model_was_saved_in(
    evaluate, tiny_tokenizer_folder, tmp_path
):
    bare = MultimodalModel.build(MultimodalConfig(lm="tiny", width=8, adapter=None))
    bare.lm.to(torch.bfloat16).save_pretrained(tmp_path / "lm")
    bare.tokenizer.save_pretrained(tmp_path / "lm")
    config = MultimodalConfig(
        lm=str(tmp_path / "lm"),
        tokenizer=str(tiny_tokenizer_folder),
        adapter=AdapterConfig(rank=4, dora=False),
    )
    model = MultimodalModel.build(config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    model.save_pretrained(tmp_path / "half")
    exact = MultimodalModel.from_pretrained(tmp_path / "half", dtype="float32")
    fix_adapters(exact)
    seen = []

    def noted(self, item, room):
        seen.append(self.model)
        return read(self, item, room)

    read = Answerer.read
    options = ("--model", f"half={tmp_path / 'half'}", "--count", "1", "--no-blind")
    for dtype in ("float32", "bfloat16"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Answerer, "read", noted)
            out = tmp_path / dtype
            assert evaluate(*options, "--dtype", dtype, tasks=["counting"], out=out).status == 0
        for name, weight in seen[-1].lm.state_dict().items():
            assert torch.equal(weight, exact.lm.state_dict()[name].to(getattr(torch, dtype))), name


def test_without_any_readable_picture_there_is_no_result(evaluate, tmp_path):
    table = [
        {"image": {"bytes": b"", "path": None}, "caption": caption, "kind": "emoji"}
        for caption in ("cat", "dog", "sun", "man", "car")
    ]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "validation.parquet")
    status, out, err = evaluate("--pictures", tmp_path, "--no-blind", tasks=["naming"])
    assert (status, out, len(err)) == (2, [], 5)
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_model_that_has_changed_is_not_gone_on_with(evaluate, models, tmp_path):
    link = tmp_path / "model"
    link.symlink_to(models[0])
    arguments = ("--model", f"second={link}", "--count", "1", "--no-blind")
    assert evaluate(*arguments, tasks=["counting"]).status == 0
    link.unlink()
    link.symlink_to(models[1])
    status, _, err = evaluate(*arguments, tasks=["counting"])
    assert status == 2
    assert err == [
        f"viq: error: {link}: this model has changed since the evaluation was begun; give another"
        " --out"
    ]


def test_something_else_is_not_asked_in_the_same_folder(evaluate, tmp_path):
    assert evaluate("--count", "1", "--no-blind", tasks=["counting"]).status == 0
    status, _, err = evaluate("--count", "2", "--no-blind", tasks=["counting"])
    assert status == 2
    assert err[0].startswith(f"viq: error: {tmp_path / 'out'}: the evaluation here was begun with")


def test_wrong_arguments_are_one_line(evaluate, models, tmp_path):
    for arguments, tasks, message in (
        (("--reference", "x"), TASKS, f"--reference x: is no --model; there are: {models[0]}"),
        ((), ["word"], "no task or suite 'word'; did you mean 'words'? there are: "),
        ((), ["docvqa"], "docvqa: it needs --data"),
        (("--data", "/nowhere"), ["docvqa"], "/nowhere: no such folder"),
        ((), ["naming"], "naming: it needs --pictures"),
        (("--model", models[0]), TASKS, f"{models[0]}: is evaluated twice"),
        (("--model", "a=/nowhere/b"), TASKS, "/nowhere/b: no such model: not a folder"),
        (("--device", "nonsense"), TASKS, "--device nonsense: "),
        (("--max-pixels", "7"), TASKS, "--max-pixels 7: "),
        (("--count", "0"), TASKS, "argument --count: 0 is not 1 or more"),
        (("--quick", "--full"), TASKS, "argument --full: not allowed with argument --quick"),
        (("--lm", "/nowhere"), TASKS, "/nowhere: no such language model"),
    ):
        options = arguments if arguments[:1] == ("--quick",) else (*arguments, "--no-blind")
        status, out, err = evaluate(*options, tasks=tasks, out=tmp_path / str(len(message)))
        assert (status, out) == (2, []), message
        assert err[-1].startswith(f"viq: error: {message}"), err


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_without_the_extra_one_line_names_the_command(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from viq.cli.main import main\n"
        "sys.exit(main(['eval', 'understanding', '--model', 'x/y', '--out', '/tmp/none']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == (
        f'viq: error: this evaluation needs {package}; pip install "viq[ask]"\n'
    )
