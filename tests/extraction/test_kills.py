"""Processes killed outright at random moments, again and again: nothing is lost or done twice."""

import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

PHOTOS, UNITS, KILLS = 240, 30, 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for n in range(PHOTOS):
        height, width = rng.integers(100, 500, 2)
        values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{n:03}.jpg")
    for n in (3, 77, 78, 200):
        (folder / f"{n:03}.jpg").write_bytes(b"")
    return folder


@pytest.fixture
def start(photos, tiny_tokenizer_folder):
    """Starts the command; ends it if the test does not."""
    processes = []

    def start(out, *more):
        command = [sys.executable, "-m", "viq.cli.main", "extract", str(photos), "--out", str(out)]
        command += ["--model", str(tiny_tokenizer_folder), "--workers", "2"]
        command += ["--rows-a-unit", str(PHOTOS // UNITS), *more]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and ".viq" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def workers(process):
    """Its children's children: those of the server that forks them."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child for child in children if child.ppid() != process.pid]


def wait_for_workers(process):
    """Whether there are any before the process ends."""
    while process.poll() is None:
        if workers(process):
            return True
        time.sleep(0.01)
    return False


def test_twenty_kills_lose_nothing_and_repeat_nothing(start, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert start(whole).wait() == 1  # some of the photos cannot be read
    expected = content(whole)
    rng = random.Random(0)
    kills, went_on = {"driver": 0, "worker": 0}, 0
    while sum(kills.values()) < KILLS:
        went_on += any((out / ".viq" / "units").glob("*.json"))
        process, deaths = start(out), 0
        while wait_for_workers(process):
            time.sleep(rng.uniform(0, 3))
            if deaths < 2 and rng.random() < 0.5 and (found := workers(process)):
                rng.choice(found).kill()
                deaths += 1
                kills["worker"] += 1
            elif process.poll() is None:
                family = psutil.Process(process.pid).children(recursive=True)
                process.kill()
                assert not psutil.wait_procs(family, timeout=20)[1]  # they end by themselves
                kills["driver"] += process.wait() == -signal.SIGKILL
        if process.returncode != -signal.SIGKILL:  # it came to its end before it was killed
            assert process.returncode == 1, process.stderr.read()
            assert content(out) == expected
            shutil.rmtree(out)
    assert start(out).wait() == 1
    assert content(out) == expected
    assert not list(out.rglob("*.tmp"))
    assert min(kills.values()) >= 3
    assert went_on >= 3  # what had been done before a kill was there after it
    rows = sum(pq.read_metadata(path).num_rows for path in (out / "data").iterdir())
    assert rows + pq.read_metadata(out / "errors.parquet").num_rows == PHOTOS


def test_a_killed_actor_of_ray_is_replaced_and_a_killed_driver_of_it_leaves_what_is_done(
    start, tmp_path
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert start(whole).wait() == 1
    process = start(out, "--engine", "ray")
    reports = out / ".viq" / "units"
    wait_for_reports(process, reports, 2)
    actors(process)[0].kill()
    before = len(list(reports.glob("*.json")))
    wait_for_reports(process, reports, before + 4)
    family, writers = psutil.Process(process.pid).children(recursive=True), actors(process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not psutil.wait_procs(writers, timeout=60)[1]
    for one in psutil.wait_procs(family, timeout=1)[1]:
        one.kill()  # Ray leaves some of its own behind
    assert before + 4 <= len(list(reports.glob("*.json"))) < UNITS
    assert start(out, "--engine", "ray").wait() == 1
    assert content(out) == content(whole)


def actors(process):
    children = psutil.Process(process.pid).children(recursive=True)
    found = [one for one in children if "".join(one.cmdline()[:1]).startswith("ray::MapWorker")]
    assert found
    return found


def wait_for_reports(process, folder, count):
    while len(list(folder.glob("*.json"))) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
