"""The scripts of examples/ that have no test of their own, with few steps and small pictures."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import viq
from viq.cli.main import main
from viq.mllm import MultimodalModel

EXAMPLES = Path(__file__).parents[2] / "examples"
TESTED_ELSEWHERE = {"demo.py", "synthetic.py", "synthetic_data.py"}


@pytest.fixture
def example(monkeypatch, capsys):
    """Runs a script in this process and returns what it prints."""

    def run(name, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", [name, *map(str, arguments)])
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, (width, height) in enumerate([(96, 64), (80, 96), (64, 64)]):
        y, x = np.mgrid[:height, :width]
        values = np.stack([2 * x, (3 + number) * y, x + y], -1) % 256
        Image.fromarray(values.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """Codes of drawn pictures, with conversations about them."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        tasks = ("--tasks", "shapes", "words")
        arguments = ["--out", str(folder / "pictures"), "--count", "12", *tasks]
        patch.setattr("sys.argv", ["synthetic_data.py", *arguments])
        runpy.run_path(str(EXAMPLES / "synthetic_data.py"), run_name="__main__")
    flags = ["--max-pixels", "4096", "--workers", "1"]
    assert main(["extract", str(folder / "pictures"), "--out", str(folder / "codes"), *flags]) == 0
    return folder / "codes"


def test_every_example_is_tested_and_says_how_it_is_run():
    own = Path(__file__).read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert path.name in TESTED_ELSEWHERE or f'"{path.name}"' in own
        assert f"python examples/{path.name}" in path.read_text("utf-8")


def test_three_readers_find_the_same_in_a_data_set_of_codes(codes, example):
    lines = example("read_codes.py", codes, "--batch", 5).splitlines()
    assert re.match(r"columns: id, messages, codes, grid_sizes", lines[0])
    found = [re.findall(r"[\d,]+(?= )", line) for line in lines[1:]]
    assert [line.split()[0] for line in lines[1:]] == ["datasets", "DuckDB", "PyTorch"]
    assert found[0] == found[1] == found[2]
    assert found[0][0] == "12"


def test_without_a_data_set_the_samples_are_read(example):
    assert "PyTorch   6 rows, 6 images, " in example("read_codes.py")


def test_fine_tuning_lowers_the_loss_and_leaves_a_model(codes, example, tmp_path, photos):
    out = example("fine_tune.py", codes, "--steps", 15, "--out", tmp_path / "tuned")
    first, last = (float(number) for number in re.findall(r"\d+\.\d+", out)[:2])
    assert out.startswith("12 conversations: ")
    assert last < first
    model = MultimodalModel.from_pretrained(tmp_path / "tuned")
    assert model.config.fingerprint == viq.load("nano").fingerprint
    question = ["ask", str(photos / "0.png"), "What is this?", "--max-new-tokens", "2"]
    assert main([*question, "--model", str(tmp_path / "tuned")]) == 0


def test_data_without_conversations_are_refused_with_their_columns(photos, example, tmp_path):
    flags = ["--max-pixels", "4096", "--workers", "1"]
    assert main(["extract", str(photos), "--out", str(tmp_path / "codes"), *flags]) == 0
    with pytest.raises(SystemExit, match="has no column 'messages'; it has \\['file_name'"):
        example("fine_tune.py", tmp_path / "codes", "--out", tmp_path / "tuned")


def test_a_tiny_tokenizer_learns_from_nothing(photos, example, tmp_path):
    out = example("train_tokenizer.py", photos, "--steps", 25, "--batch", 4, "--out", tmp_path)
    first, last = (float(number) for number in re.findall(r"\d\.\d{4}", out))
    assert last < 0.8 * first
    tokenizer = viq.load(tmp_path / "tokenizer")
    codes = tokenizer.encode(photos / "0.png")
    assert codes.levels == (8, 8, 8, 5, 5, 5)
    assert tokenizer.decode(codes).size == (96, 64)
    assert "3 pictures, 25 steps." in (tmp_path / "tokenizer/README.md").read_text("utf-8")
    # Twice the same.
    example("train_tokenizer.py", photos, "--steps", 25, "--batch", 4, "--out", tmp_path / "again")
    again = viq.load(tmp_path / "again/tokenizer")
    assert again.fingerprint == tokenizer.fingerprint
    assert torch.equal(again.latents(photos / "1.png"), tokenizer.latents(photos / "1.png"))


def test_a_folder_without_large_pictures_is_refused(example, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    with pytest.raises(SystemExit, match="has no picture of at least 64 x 64 pixels"):
        example("train_tokenizer.py", tmp_path, "--out", tmp_path / "out")


def test_two_tokenizers_stand_in_one_table(photos, example, tiny_tokenizer_folder, tmp_path):
    other = f"other={tiny_tokenizer_folder}"
    flags = ["--model", "nano", "--model", other, "--max-pixels", 4096, "--out", tmp_path]
    lines = example("compare_tokenizers.py", photos, *flags).splitlines()
    assert " ".join(lines[0].split()) == "tokenizer pictures bpp PSNR SSIM codes used of"
    (nano, other) = (line.split() for line in lines[1:3])
    assert (nano[0], other[0], nano[1], nano[2]) == ("nano", "other", "3", other[2])
    assert float(nano[3]) > float(other[3]) + 3  # one is of random weights
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 320
