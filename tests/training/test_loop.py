"""The loop, on stages and data small enough for a unit test."""

import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import viq
from viq.cli.main import main
from viq.data.crops import CropBatches, CropConfig
from viq.data.pictures import ParquetPictures, parquet_files
from viq.training.loop import LoopConfig, OptimConfig, learning_rate, train
from viq.training.stages.vae import VaeConfig, VaeStage

CROPS = CropConfig(sizes=((32, 32), (32, 64)), pixels=4096)


def stage_and_batches(corpus):
    torch.manual_seed(0)
    held_out = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    stage = VaeStage(VaeConfig(crops=CROPS, loop=LoopConfig(steps=1)), held_out)
    return stage, CropBatches(ParquetPictures(parquet_files(corpus, "train")), CROPS)


class StopError(Exception):
    pass


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(corpus, tmp_path):
    config = LoopConfig(steps=6, workers=0, dtype="float32", save_minutes=0.0, log_steps=1)
    stage, batches = stage_and_batches(corpus)
    train(stage, batches, config, tmp_path / "whole")
    expected = stage.module.state_dict()

    stage, batches = stage_and_batches(corpus)
    original, calls = stage.losses, []

    def stopping(batch):
        calls.append(batch)
        if len(calls) == 4:
            raise StopError
        return original(batch)

    stage.losses = stopping
    with pytest.raises(StopError):
        train(stage, batches, config, tmp_path / "cut")
    stage, batches = stage_and_batches(corpus)
    train(stage, batches, config, tmp_path / "cut")
    for name, tensor in stage.module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert (tmp_path / "cut" / "vae" / "config.json").exists()


def test_a_batch_is_a_function_of_seed_and_number(corpus):
    pictures = ParquetPictures(parquet_files(corpus, "train"))
    one, other = CropBatches(pictures, CROPS), CropBatches(pictures, CROPS)
    later = one[7]
    assert torch.equal(other[7], later)
    assert torch.equal(one[3], other[3])
    assert later.dtype == torch.uint8
    assert later.shape[0] * later.shape[2] * later.shape[3] == CROPS.pixels


def test_an_unreadable_picture_is_reported_and_left_out(tmp_path, corpus, caplog):
    table = pq.read_table(parquet_files(corpus, "train")[0]).to_pylist()
    table[0]["image"]["bytes"] = b"not a picture"
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "train-0.parquet")
    config = CropConfig(sizes=((32, 32),), pixels=12 * 1024)  # all twelve in one batch
    batch = CropBatches(ParquetPictures(parquet_files(tmp_path, "train")), config)[0]
    assert len(batch) == 11
    assert "row 0 cannot be read and is left out" in caplog.text


def test_the_rate_rises_stays_and_falls_to_zero():
    config = OptimConfig(lr=1.0, warmup_steps=10, decay_fraction=0.5)
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == rates[49] == 1.0
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[50:]))


def test_the_command_trains_both_stages_to_a_tokenizer_that_loads(corpus, tmp_path, capsys):
    vae, run = tmp_path / "vae", tmp_path / "run"
    shared = ["--recipe", "debug", "--data", str(corpus)]
    assert main(["train", "vae", *shared, "--out", str(vae), "--loop.steps", "2"]) == 0
    assert (
        main(["train", "reconstruct", *shared, "--vae", str(vae / "vae"), "--out", str(run)]) == 0
    )
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert any("eval_psnr" in line for line in lines)
    tokenizer = viq.load(run / "tokenizer")
    picture = Image.new("RGB", (50, 40), "red")
    assert tokenizer.decode(tokenizer.encode(picture)).size == (50, 40)


def test_a_misspelt_recipe_gets_a_suggestion(tmp_path, capsys):
    out = str(tmp_path / "x")
    arguments = ["train", "vae", "--recipe", "nanoo", "--data", str(tmp_path), "--out", out]
    assert main(arguments) == 2
    assert "did you mean 'nano'?" in capsys.readouterr().err


def test_a_folder_without_pictures_is_named(tmp_path, capsys):
    arguments = ["train", "vae", "--recipe", "debug", "--data", str(tmp_path), "--out", "x"]
    assert main(arguments) == 2
    assert f"{tmp_path}: no train-*.parquet here" in capsys.readouterr().err
