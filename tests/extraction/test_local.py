"""Units in processes of this machine: any number of them writes the same bytes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from viq.errors import InputError, ViQError
from viq.extraction.local import LocalEngine, _default_workers, _device

PHOTOS = 16  # of job_of_four


def test_one_two_and_four_workers_write_the_same_bytes(written, job_of_four, tmp_path):
    contents = []
    for workers in (1, 2, 4):
        with job_of_four(tmp_path / str(workers)) as one:
            steps = list(one.run(LocalEngine(workers)))
            assert steps[-1] == (PHOTOS, PHOTOS - 1, steps[-1].pixels, 1, 4)
            assert one.finish().rows == PHOTOS - 1
        assert not multiprocessing.active_children()
        contents.append(written(tmp_path / str(workers)))
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


def test_killed_workers_are_replaced_and_their_units_done_again(written, job_of_four, tmp_path):
    with job_of_four(tmp_path / "whole") as one:
        list(one.run(LocalEngine(1)))
        one.finish()
    with job_of_four(tmp_path / "out") as one:
        killer = Killer(2)
        steps = list(one.run(LocalEngine(2)))
        assert len(killer.killed) == 2
        assert steps[-1].units == 4
        one.finish()
    assert written(tmp_path / "out") == written(tmp_path / "whole")


def test_a_unit_that_kills_every_worker_ends_the_job_by_name(job_of_four, tmp_path):
    with job_of_four(tmp_path / "out") as one:
        killer = Killer(3)
        with pytest.raises(ViQError, match="the process that extracted unit 0 ") as raised:
            list(one.run(LocalEngine(1)))
        killer.is_over.set()
    assert len(killer.killed) == 3
    assert "was killed by SIGKILL, 3 times in all; if memory ran out" in str(raised.value)
    assert not multiprocessing.active_children()


def test_who_stops_listening_stops_the_workers(job_of_four, tmp_path):
    with job_of_four(tmp_path / "out") as one:
        with closing(one.run(LocalEngine(2))) as steps:
            next(progress for progress in steps if progress.units)
            assert multiprocessing.active_children()
        assert not multiprocessing.active_children()
    assert not list((tmp_path / "out").rglob("*.tmp"))
    with job_of_four(tmp_path / "out") as again:
        assert 0 < len(again.missing) < 4


def test_there_are_no_more_workers_than_units(job_of_four, tmp_path):
    with job_of_four(tmp_path / "out") as one, closing(one.run(LocalEngine(50))) as steps:
        next(steps)
        assert len(multiprocessing.active_children()) == 4


def test_what_a_worker_cannot_do_is_told_in_its_words(job_of_four, tmp_path):
    with job_of_four(tmp_path / "out") as one:
        (tmp_path / "out" / "data").rmdir()
        with pytest.raises(ViQError, match=r"parquet: cannot be written: No such file or dir"):
            list(one.run(LocalEngine(2)))


def test_a_lock_is_not_kept_by_workers(job_of_four, tmp_path):
    one = job_of_four(tmp_path / "out")
    with closing(one.run(LocalEngine(1))) as steps:
        next(steps)
        with pytest.raises(InputError, match="another extraction"):
            job_of_four(tmp_path / "out")
        one.__exit__(None, None, None)
        assert multiprocessing.active_children()
        with job_of_four(tmp_path / "out"):
            pass


def test_by_default_there_is_a_worker_for_each_core_and_one_for_a_chosen_gpu():
    assert _default_workers("cpu") == len(os.sched_getaffinity(0))
    assert _default_workers("cuda:1") == 1
    assert _device("cuda:1", 3) == "cuda:1"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_workers_are_forked_with_ctrl_c_held_back():
    """Otherwise one that comes at the moment of the fork prints a traceback."""
    code = (
        "from multiprocessing import forkserver\n"
        "from viq.extraction.local import _start_server\n"
        "_start_server()\n"
        "print(open(f'/proc/{forkserver._forkserver._forkserver_pid}/status').read())"
    )
    status = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    (blocked,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    assert int(blocked, 16) & 1 << (signal.SIGINT - 1)
