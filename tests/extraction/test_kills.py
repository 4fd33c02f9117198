"""Processes killed outright at random moments, again and again: nothing is lost or done twice."""

import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pyarrow.parquet as pq
import pytest

PHOTOS, UNITS, KILLS = 240, 30, 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def photos(make_photos):
    return make_photos(PHOTOS, (100, 500), [3, 77, 78, 200], ".jpg")


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


def test_twenty_kills_lose_nothing_and_repeat_nothing(start, written, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert start(whole).wait() == 1  # some of the photos cannot be read
    expected = written(whole)
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
            assert written(out) == expected
            shutil.rmtree(out)
    assert start(out).wait() == 1
    assert written(out) == expected
    assert not list(out.rglob("*.tmp"))
    assert min(kills.values()) >= 3
    assert went_on >= 3  # what had been done before a kill was there after it
    rows = sum(pq.read_metadata(path).num_rows for path in (out / "data").iterdir())
    assert rows + pq.read_metadata(out / "errors.parquet").num_rows == PHOTOS


@pytest.mark.parametrize("at_once", [False, True])
def test_a_worker_that_outlives_its_driver_changes_nothing(start, written, tmp_path, at_once):
    """It is stopped in the midst of a unit, and goes on when another job has done all of it."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert start(whole).wait() == 1
    process = start(out)
    while not list((out / ".viq").glob("run-*/.*.tmp")):  # a worker has begun a file
        assert process.poll() is None
    orphans = workers(process)
    for one in orphans:
        one.suspend()
    process.kill()
    process.wait()
    reports = len(list((out / ".viq" / "units").glob("*.json")))
    assert reports < UNITS
    if not at_once:
        assert start(out).wait() == 1
        assert written(out) == written(whole)
    else:  # it goes on while the new job works
        process = start(out)
        assert wait_for_workers(process)
    before = sorted(out.rglob("*"))
    for one in orphans:
        assert one.status() == psutil.STATUS_STOPPED
        one.resume()
    assert not psutil.wait_procs(orphans, timeout=20)[1]
    if at_once:
        assert process.wait() == 1, process.stderr.read()
    else:
        assert sorted(out.rglob("*")) == before
    assert written(out) == written(whole)
    assert sorted(path.name for path in (out / ".viq").iterdir()) == [
        *("listing.jsonl", "lock", "units")
    ]
    assert not list(out.rglob("*.tmp"))
    assert start(out).wait() == 1
    assert written(out) == written(whole)


def test_a_killed_actor_of_ray_is_replaced_and_a_killed_driver_of_it_leaves_what_is_done(
    start, written, tmp_path
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
    assert written(out) == written(whole)


def actors(process):
    children = psutil.Process(process.pid).children(recursive=True)
    found = [one for one in children if "".join(one.cmdline()[:1]).startswith("ray::MapWorker")]
    assert found
    return found


def wait_for_reports(process, folder, count):
    while len(list(folder.glob("*.json"))) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
