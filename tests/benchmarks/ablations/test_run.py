import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import measures
import pytest
import run
from results import read, write
from rows import ROWS

from viq.cli.main import main as viq
from viq.tokenizer import load

SCRIPT = Path(run.__file__)


@pytest.fixture
def weights(tmp_path):
    """Folders that look like a start and an autoencoder to what only reads their bytes."""
    folders = [tmp_path / "align", tmp_path / "vae"]
    for folder in (folders[0] / "tower", folders[0] / "mllm", folders[1]):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
    return ["--start", str(folders[0]), "--vae", str(folders[1])]


def test_what_would_be_run_seed_by_seed(weights, tmp_path, capsys):
    flags = [*weights, "--out", str(tmp_path / "out"), "--seeds", "0", "1"]
    assert run.main([*flags, "--groups", "heads", "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "default-seed0: the default",
        "one-head-seed0: --shape.code-heads 1",
        "default-seed1: the default",
        "one-head-seed1: --shape.code-heads 1",
    ]
    assert run.main([*flags, "--rows", "direct", "default", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in listed[:2]] == ["default-seed0", "direct-seed0"]
    assert "no stage proximal --no-nested" in listed[1]
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_run_again(weights, tmp_path, result, capsys):
    out = tmp_path / "out"
    out.mkdir()
    budget = run.Budget()
    settings = budget.settings(Path(weights[1]), Path(weights[3]))
    write(out, result("one-head", 0, 50.0, settings=settings))
    flags = [*weights, "--out", str(out), "--seeds", "0", "--groups", "heads"]
    assert run.main([*flags, "--list"]) == 0
    assert capsys.readouterr().out == "default-seed0: the default\n"
    assert run.main([*flags, "--list", "--steps", "100", "--proximal-steps", "50"]) == 2
    error = capsys.readouterr().err
    assert "one-head-seed0.json: was not made with the same settings to be run now: steps" in error
    write(out, result("default", 0, 50.0, settings=settings))
    assert run.main(flags) == 0
    assert capsys.readouterr().out == "0 runs done, 2 were there before, 0 failed\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--groups", "proximl"], "no group 'proximl'; did you mean 'proximal'? there are:"),
        (["--rows", "l3"], "no row 'l3'; there are: default, direct,"),
        (["--jobs", "0"], "--jobs is 0; it must be 1 or more"),
        (["--recipe", "no"], "no recipe named 'no'; there are:"),
        (["--start", "none"], "none/tower: no *.safetensors here"),
    ],
)
def test_wrong_flags_are_told_in_a_line(weights, capsys, flags, message):
    assert run.main([*weights, *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ablations: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_working_folder_of_other_settings_is_not_gone_on_with(weights, tmp_path, capsys):
    work = tmp_path / "work" / "default-seed0"
    work.mkdir(parents=True)
    (work / "settings.json").write_text("{}")
    flags = [*weights, "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert run.main([*flags, "--rows", "default", "--seeds", "0"]) == 1
    said = capsys.readouterr()
    assert "default-seed0: " in said.err
    assert "was begun with other settings; remove it or give another --work" in said.err
    assert said.out == "0 runs done, 0 were there before, 1 failed\n"


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The runs that all rows start from, by the recipe for tests."""
    folder = tmp_path_factory.mktemp("chain")
    for stage, start in (("vae", None), ("contrast", None), ("align", "contrast")):
        flags = ["train", stage, "--recipe", "debug", "--out", str(folder / stage)]
        assert viq([*flags, *(["--start", str(folder / start)] if start else [])]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_failed_runs_go_on_and_end_as_if_they_had_not(chain, tmp_path):
    flags = ["--recipe", "debug", "--start", chain / "align", "--vae", chain / "vae" / "vae"]
    flags += ["--side", "128", "--proximal-steps", "4", "--seeds", "3", "--jobs", "2"]

    def command(name, *more):
        folders = ["--out", tmp_path / name / "out", "--work", tmp_path / name / "work"]
        return [sys.executable, str(SCRIPT), *map(str, [*flags, *folders, *more])]

    def start(name, *more):
        return subprocess.Popen(command(name, *more), stderr=subprocess.PIPE, text=True)

    rows = ["--rows", "l2", "direct"]
    whole = subprocess.run(
        command("whole", "--steps", "8", *rows), check=True, capture_output=True, text=True
    )
    assert "2 runs done, 0 were there before, 0 failed" in whole.stdout
    assert not any((tmp_path / "whole" / "work").iterdir())

    work = tmp_path / "cut" / "work"
    cut = start("cut", "--steps", "8", *rows)
    _wait_for(work / "l2-seed3" / "quantize" / "run.json", cut)
    cut.send_signal(signal.SIGTERM)  # as by Ctrl-C: the children save their state
    assert cut.wait() == 130
    assert "stopped; the same command goes on" in cut.stderr.read()
    killed = start("cut", "--steps", "8", *rows)
    _wait_for(work / "l2-seed3" / "figures.log", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    # What lies in the way of a stage makes its run fail, and no other.
    (tmp_path / "cut" / "out").mkdir(exist_ok=True)
    (work / "scratch-seed3").mkdir()
    (work / "scratch-seed3" / "quantize").write_text("in the way")
    last = subprocess.run(
        command("cut", "--steps", "8", *rows, "scratch"),
        check=False,
        capture_output=True,
        text=True,
    )
    assert last.returncode == 1, last.stderr
    assert "quantize ended with code 2" in last.stderr
    assert "is a file, but --out names a folder" in last.stderr

    one, other = (read(tmp_path / name / "out") for name in ("whole", "cut"))
    assert set(one) == set(other) == {"l2", "direct"}
    for row in one:
        assert one[row][3]["figures"] == other[row][3]["figures"]
        assert one[row][3]["unseen"] == 0
    figures = one["l2"][3]["figures"]
    assert 0 <= figures["letters"] <= 100
    assert {*figures["sides"]["128"]["text"]} == {*measures.DRAWN}
    assert other["l2"][3]["unseen"] == 1
    assert other["l2"][3]["cpu_seconds"]["quantize"] > 1
    assert str(tmp_path) not in json.dumps(other)
    assert "--start ALIGN --vae VAE" in other["l2"][3]["commands"]["proximal"]
    assert "proximal" not in other["direct"][3]["commands"]


def _wait_for(path, process):
    end = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    assert os.path.exists(path)


@pytest.fixture(scope="module")
def proximal_of(chain, tmp_path_factory):
    """Trains stage proximal for a row, once for rows that change nothing in it."""
    folder, known = tmp_path_factory.mktemp("proximal"), {}

    def train(row):
        changes = row.changes("proximal")
        if changes not in known:
            known[changes] = folder / str(len(known))
            _train(row, "proximal", chain, chain / "align", known[changes])
        return known[changes]

    return train


def _train(row, stage, chain, start, out):
    budget = run.Budget(recipe="debug", steps=4, proximal_steps=2, side=128)
    flags = ["--start", str(start), "--vae", str(chain / "vae"), "--out", str(out)]
    flags += [*budget.flags(row, stage, 0), *row.changes(stage)]
    assert viq(["train", stage, "--recipe", "debug", *flags]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains(chain, proximal_of, tmp_path, name):
    row = ROWS[name]
    start = proximal_of(row) if "proximal" in row.stages else chain / "align"
    _train(row, "quantize", chain, start, tmp_path / "run")
    assert load(tmp_path / "run" / "tokenizer").config.network.head.quantizer.code_levels
