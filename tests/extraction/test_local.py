"""Units in processes of this machine: any number of them writes the same bytes."""

import multiprocessing
import os
import threading
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from viq.errors import InputError, ViQError
from viq.extraction.job import Job
from viq.extraction.local import LocalEngine, _default_workers, _device
from viq.extraction.unit import Settings

PHOTOS = 16


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for n in range(PHOTOS):
        height, width = rng.integers(16, 80, 2)
        values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{n:02}.png")
    (folder / "07.png").write_bytes(b"")
    return folder


@pytest.fixture
def job(photos, tiny_tokenizer_folder):
    """A job of four units."""

    def job(out):
        return Job(str(photos), out, Settings(model=str(tiny_tokenizer_folder)), rows_a_unit=4)

    return job


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and ".viq" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_one_two_and_four_workers_write_the_same_bytes(job, tmp_path):
    contents = []
    for workers in (1, 2, 4):
        with job(tmp_path / str(workers)) as one:
            steps = list(one.run(LocalEngine(workers)))
            assert steps[-1] == (PHOTOS, PHOTOS - 1, steps[-1].pixels, 1, 4)
            assert one.finish().rows == PHOTOS - 1
        assert not multiprocessing.active_children()
        contents.append(content(tmp_path / str(workers)))
    assert contents[0] == contents[1] == contents[2]
    assert len([name for name in contents[0] if name.startswith("data/")]) == 4


class Killer(threading.Thread):
    """Kills every worker as soon as it is there, ``times`` in all."""

    def __init__(self, times):
        super().__init__(daemon=True)
        self.times, self.killed, self.is_over = times, set(), threading.Event()
        self.start()

    def run(self):
        while len(self.killed) < self.times and not self.is_over.wait(0.001):
            for child in multiprocessing.active_children():
                if child.pid not in self.killed and len(self.killed) < self.times:
                    self.killed.add(child.pid)
                    child.kill()


def test_killed_workers_are_replaced_and_their_units_done_again(job, tmp_path):
    with job(tmp_path / "whole") as one:
        list(one.run(LocalEngine(1)))
        one.finish()
    with job(tmp_path / "out") as one:
        killer = Killer(2)
        steps = list(one.run(LocalEngine(2)))
        assert len(killer.killed) == 2
        assert steps[-1].units == 4
        one.finish()
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_unit_that_kills_every_worker_ends_the_job_by_name(job, tmp_path):
    with job(tmp_path / "out") as one:
        killer = Killer(3)
        with pytest.raises(ViQError, match="the process that extracted unit 0 ") as raised:
            list(one.run(LocalEngine(1)))
        killer.is_over.set()
    assert len(killer.killed) == 3
    assert "was killed by SIGKILL, 3 times in all; if memory ran out" in str(raised.value)
    assert not multiprocessing.active_children()


def test_who_stops_listening_stops_the_workers(job, tmp_path):
    with job(tmp_path / "out") as one:
        with closing(one.run(LocalEngine(2))) as steps:
            next(steps)
            assert multiprocessing.active_children()
        assert not multiprocessing.active_children()
    assert not list((tmp_path / "out").rglob("*.tmp"))
    with job(tmp_path / "out") as again:
        assert 0 < len(again.missing) < 4


def test_there_are_no_more_workers_than_units(job, tmp_path):
    with job(tmp_path / "out") as one, closing(one.run(LocalEngine(50))) as steps:
        next(steps)
        assert len(multiprocessing.active_children()) == 4


def test_what_a_worker_cannot_do_is_told_in_its_words(job, tmp_path):
    with job(tmp_path / "out") as one:
        (tmp_path / "out" / "data").rmdir()
        with pytest.raises(ViQError, match=r"parquet: cannot be written: No such file or dir"):
            list(one.run(LocalEngine(2)))


def test_a_lock_is_not_kept_by_workers(job, tmp_path):
    one = job(tmp_path / "out")
    with closing(one.run(LocalEngine(1))) as steps:
        next(steps)
        with pytest.raises(InputError, match="another extraction"):
            job(tmp_path / "out")
        one.__exit__(None, None, None)
        assert multiprocessing.active_children()
        with job(tmp_path / "out"):
            pass


def test_by_default_there_is_a_worker_for_each_core_and_one_for_a_chosen_gpu():
    assert _default_workers("cpu") == len(os.sched_getaffinity(0))
    assert _default_workers("cuda:1") == 1
    assert _device("cuda:1", 3) == "cuda:1"
