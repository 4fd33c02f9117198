"""viq extract: what it prints, and with which code it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viq.store import CodeDataset


@pytest.fixture
def photos(save_image, tmp_path):
    """Six photos, in two units of three."""
    for n in range(6):
        save_image(tmp_path / "photos" / f"{n}.png", 40 + n)
    return tmp_path / "photos"


@pytest.fixture
def arguments(photos, tiny_tokenizer_folder, tmp_path):
    return [
        *("extract", photos, "--out", tmp_path / "out", "--model", tiny_tokenizer_folder),
        *("--rows-a-unit", 3, "--workers", 1),
    ]


@pytest.fixture
def start(arguments):
    """Starts the command as a process of its own, after a shell's words."""
    processes = []

    def start(*more, before=""):
        command = [sys.executable, "-m", "viq.cli.main", *map(str, arguments), *more]
        process = subprocess.Popen(
            ["bash", "-c", f'{before} exec "$@"', "bash", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # so that a signal can reach all of them, as Ctrl-C does
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_it_makes_a_data_set_and_says_what_is_in_it(viq_command, arguments, tmp_path):
    outcome = viq_command(*arguments, "--price-per-hour", "2")
    assert outcome.status == 0
    assert outcome.err == []
    assert outcome.out[:2] == ["rows              6", "errors            0"]
    assert outcome.out[2] == "images            6, 0.01 megapixels"
    codes = 6 * 4 * 4 * 4
    assert outcome.out[3].startswith(f"codes             {codes:,}, ")
    assert outcome.out[3].endswith(" bits per pixel")
    assert outcome.out[5].startswith("this run          2 units of 2 in ")
    assert outcome.out[6].startswith("a million images  ")
    assert outcome.out[6].endswith(" in money")
    assert len(CodeDataset(tmp_path / "out")) == 6

    again = viq_command(*arguments)
    assert again.status == 0
    assert again.err == [f"{tmp_path / 'out'}: nothing to do, 2 units of work done before"]
    assert again.out[:4] == outcome.out[:4]
    assert not any(line.startswith("this run") for line in again.out)


def test_rows_that_cannot_be_read_make_the_code_one(viq_command, arguments, photos):
    (photos / "2.png").write_bytes(b"")
    (photos / "4.png").write_bytes((photos / "4.png").read_bytes()[:60])
    outcome = viq_command(*arguments, "--json")
    assert outcome.status == 1
    assert outcome.err == [
        f"viq: error: 2 rows cannot be read, see {photos.parent / 'out' / 'errors.parquet'};"
        f" the first: {photos / '2.png'}: row 2.png: the file is empty"
    ]
    figures = json.loads("\n".join(outcome.out))
    assert (figures["rows"], figures["errors"], figures["images"]) == (4, 2, 4)
    assert figures["units"] == figures["new_units"] == 2
    assert figures["worker_hours_per_million_images"] > 0
    assert viq_command(*arguments).status == 1  # there is nothing to do, and rows are missing


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(viq_command, arguments, tmp_path):
    outcome = viq_command(*arguments, "--dry-run")
    assert outcome.status == 0
    assert outcome.out[0] == f"source      {tmp_path / 'photos'} (folder)"
    assert outcome.out[1] == "rows        6"
    assert outcome.out[3] == "units       2, of which 2 are to be done"
    assert not (tmp_path / "out").exists()
    viq_command(*arguments)
    outcome = viq_command(*arguments, "--dry-run")
    assert outcome.out[3] == "units       2, of which 0 are to be done"
    (plan,) = map(json.loads, viq_command(*arguments, "--dry-run", "--json").out)
    assert (plan["rows"], plan["units"], plan["missing_units"]) == (6, 2, 0)


def test_a_dry_run_refuses_what_the_run_would(viq_command, arguments, photos):
    viq_command(*arguments)
    (refusal,) = viq_command(*arguments, "--max-pixels", "2048", "--dry-run").err
    assert "was begun with max_pixels" in refusal
    (refusal,) = viq_command(*arguments, "--out", photos, "--dry-run").err
    assert "the source is read from this folder" in refusal


def test_its_help_has_examples(viq_command):
    outcome = viq_command("extract", "--help")
    assert outcome.status == 0
    assert sum(line.startswith("  viq extract ") for line in outcome.out) >= 4
    text = " ".join(" ".join(outcome.out).split())
    assert "all of whose machines must see SOURCE and DIR under the same names" in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "nope"], "nope: no such model"),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--max-pixels", "3"], "max_pixels 3: max_pixels is 3; it must hold one block"),
        (["--workers", "0"], "argument --workers: 0 is not 1 or more"),
        (["--price-per-hour", "-1"], "argument --price-per-hour: -1 is not a price"),
        (["--price-per-hour", "x"], "argument --price-per-hour: invalid price value: 'x'"),
        (["--ray-address", "auto"], "--ray-address is of use with --engine ray alone"),
        (
            ["--engine", "ray", "--ray-address", "127.0.0.1:1"],
            "127.0.0.1:1: the Ray cluster cannot be reached: ",
        ),
        (["--engine", "spark"], "argument --engine: invalid choice: 'spark'"),
        (["--image-root", "/"], "a folder of images holds no image paths"),
    ],
)
def test_what_cannot_be_done_is_one_line(viq_command, arguments, more, message):
    outcome = viq_command(*arguments, *more)
    assert outcome.status == 2
    assert outcome.out == []
    (line,) = outcome.err
    assert line.startswith("viq: error: ")
    assert message in line


def test_a_source_without_any_image_is_not_silently_done(viq_command, arguments, tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "picture": [b"1", b"2"]}), tmp_path / "a.parquet")
    arguments[1] = tmp_path / "a.parquet"
    outcome = viq_command(*arguments)
    assert outcome.status == 0
    (line,) = outcome.err
    assert line == (
        "viq: warning: no row has an image; in Parquet and JSON they are looked for in columns"
        " image, images, in Parquet else in jpg, jpeg, png, webp"
    )


@pytest.mark.parametrize("place", [1, 3])
def test_a_variable_that_is_not_set_is_not_the_current_folder(viq_command, arguments, place):
    arguments[place] = ""
    outcome = viq_command(*arguments)
    assert outcome.status == 2
    (line,) = outcome.err
    assert ": is empty text (see " in line


def test_a_source_that_is_not_there_is_one_line(viq_command, arguments, tmp_path):
    arguments[1] = tmp_path / "nothing"
    outcome = viq_command(*arguments)
    assert outcome.status == 2
    (line,) = outcome.err
    assert line.startswith(f"viq: error: {tmp_path / 'nothing'}: ")


def test_a_file_in_the_folders_place_is_one_line(viq_command, arguments, tmp_path):
    (tmp_path / "out").touch()
    outcome = viq_command(*arguments)
    assert outcome.status == 2
    (line,) = outcome.err
    assert line.startswith(f"viq: error: {tmp_path / 'out'}: the folder cannot be made: ")


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(start, tmp_path):
    process = start(before="ulimit -f 2;")  # files of 2 KiB at most
    out, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert out == ""
    (line,) = err.splitlines()
    assert "cannot be written" in line
    assert "what is done is kept, and a repeated job goes on from it" in line
    assert list((tmp_path / "out" / "data").iterdir()) == []


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(process):
    """Its children's children: those of the server that forks them."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if child.ppid() != process.pid]


def test_interrupted_it_ends_with_130_and_keeps_what_is_done(start, viq_command, arguments):
    process = start("--workers", "2")
    wait_for(lambda: workers(process), process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines() == [
        "what is done is kept; repeat the command to go on",
        "viq: interrupted",
    ]
    assert not psutil.wait_procs(family, timeout=20)[1]
    assert viq_command(*arguments).status == 0


def test_killed_outright_its_workers_end_too(start, viq_command, arguments):
    process = start("--workers", "2")
    wait_for(lambda: workers(process), process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=60)
    assert not psutil.wait_procs(family, timeout=20)[1]
    assert viq_command(*arguments).status == 0


def test_codes_do_not_go_to_a_url(viq_command, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = viq_command(*arguments[:3], "s3://bucket/codes")
    assert outcome.status == 2
    assert "s3://bucket/codes is a URL; codes go to a folder" in outcome.err[0]
    assert not list(tmp_path.glob("s3*"))


def test_lines_tell_of_progress_where_there_is_no_terminal(viq_command, arguments, monkeypatch):
    monkeypatch.setattr("viq.cli.extract.LINE_SECONDS", -1)
    lines = viq_command(*arguments).err
    assert lines[0].startswith(("0 of 6 rows", "1 of 6", "2 of 6", "3 of 6"))
    assert re.fullmatch(r"6 of 6 rows, [\d.]+ images/s, [\d.]+ Mpix/s, 0 errors", lines[-1])


def test_rows_that_failed_are_tried_again_when_asked(
    viq_command, tiny_tokenizer_folder, save_image, tmp_path
):
    rows = [{"id": name, "image": f"{name}.png"} for name in "ab"]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    save_image(tmp_path / "a.png", 40)
    command = ["extract", tmp_path / "rows.json", "--out", tmp_path / "out"]
    command += ["--model", tiny_tokenizer_folder, "--workers", 1]
    assert viq_command(*command).status == 1
    save_image(tmp_path / "b.png", 41)
    assert viq_command(*command).status == 1
    assert viq_command(*command, "--retry-errors").status == 0
    assert len(CodeDataset(tmp_path / "out")) == 2
