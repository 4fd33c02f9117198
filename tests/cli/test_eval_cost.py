import json
import sys

import pytest

from viq.evaluation.document import Document


def test_a_folder_of_tables_and_plots_is_written_and_what_is_there_is_kept(
    viq_command, tiny_tokenizer_folder, tmp_path
):
    out = tmp_path / "cost"
    flags = ["--threads", 1, "--repeats", 1, "--dtypes", "float32", "--out", out]
    model = f"tiny={tiny_tokenizer_folder}"
    first = viq_command("eval", "cost", "--model", model, "--sizes", 64, *flags)
    assert (first.status, first.err) == (0, [])
    assert "Parameters" in first.out
    before = Document.load(out)
    assert (before.kind, before.made.threads) == ("cost", 1)
    titles = ["Parameters", "Operations", "Tokens and bytes", "Time", "Memory"]
    assert [table.title for table in before.tables] == titles
    assert all(table.rows[0][0] == "tiny" for table in before.tables)
    again = viq_command("eval", "cost", "--model", model, "--sizes", 64, *flags, "--json")
    assert again.status == 0
    printed = json.loads("\n".join(again.out))
    assert printed["data"]["tiny"] == before.data["tiny"]  # not measured again
    assert Document.load(out).tables == before.tables


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "nana"], "no such model"),
        (["--model", "nano", "--model", "nano"], "nano: is evaluated twice; give each another"),
        (["--model", "=nano"], "--model =nano: is neither MODEL nor NAME=MODEL"),
        (["--model", "nano", "--sizes", "0"], "argument --sizes: 0 is not 1 or more"),
        (["--model", "nano", "--sizes", "64", "100000000"], "100000000 pixels are more than"),
        (["--model", "nano", "--dtypes", "int8"], "invalid choice: 'int8'"),
        (["--model", "nano", "--device", "nowhere"], "--device nowhere"),
        ([], "the following arguments are required: --model"),
    ],
)
def test_what_cannot_be_is_said(viq_command, tmp_path, flags, message):
    found = viq_command("eval", "cost", *flags, "--out", tmp_path)
    assert found.status == 2
    assert message in found.err[-1]


def test_what_cannot_be_measured_is_said_and_left_out(
    viq_command, tiny_tokenizer_folder, tmp_path, monkeypatch
):
    from viq.errors import InputError
    from viq.evaluation import cost

    def fail_at_large(what):
        if what.side > 64:
            raise InputError("out of memory")
        return {"seconds": {"encode": [1.0]}, "bytes": {"encode": 1}, "process_bytes": 1}

    monkeypatch.setattr(cost, "in_process", fail_at_large)
    flags = ["--sizes", 64, 96, "--dtypes", "float32", "--out", tmp_path]
    found = viq_command("eval", "cost", "--model", f"t={tiny_tokenizer_folder}", *flags)
    assert found.status == 1
    assert found.err == ["viq: error: t, 96 pixels, float32: out of memory"]
    assert "Not measured: t, 96 pixels, float32: out of memory." in found.out
    rows = next(t for t in Document.load(tmp_path).tables if t.title == "Time").rows
    assert [row[5] for row in rows] == [1000, None]


def test_without_matplotlib_nothing_is_measured(viq_command, save_image, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    save_image(tmp_path / "data" / "a.png")
    data, out = ("--data", tmp_path / "data"), ("--out", tmp_path / "out")
    model = ("--model", "nano")
    for kind, *flags in (
        ("cost", *model),
        ("storage", *data),
        ("codes", *data, *model),
        ("reconstruction", *data, *model, "--curves"),
    ):
        found = viq_command("eval", kind, *flags, *out)
        assert found.status == 2
        assert found.err == ['viq: error: plots need matplotlib: pip install "viq[eval]"']
    assert not (tmp_path / "out").exists()


def test_a_language_model_is_no_tokenizer(viq_command, tmp_path):
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "config.json").write_text('{"model_type": "qwen2"}')
    found = viq_command("eval", "cost", "--model", tmp_path / "lm", "--out", tmp_path / "out")
    assert found.status == 2
    assert found.err[0].endswith("config.json: this is no tokenizer")


@pytest.mark.slow
def test_damaged_samples_are_said(viq_command, tiny_tokenizer_folder, tmp_path):
    flags = ["--model", f"t={tiny_tokenizer_folder}", "--sizes", 64, "--repeats", 1]
    flags += ["--dtypes", "float32", "--out", tmp_path]
    assert viq_command("eval", "cost", *flags).status == 0
    (file,) = (tmp_path / "samples").glob("*.jsonl")
    file.write_text('{"id": "64 float32", "seconds": {"encode": 1}, "bytes": {}}\n')
    found = viq_command("eval", "cost", *flags)
    assert found.status == 2
    assert found.err[-1].startswith(f"viq: error: {tmp_path}: samples of this evaluation are dam")
