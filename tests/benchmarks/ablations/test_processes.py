import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import FailedError, Processes, StoppedError, Work

from viq.errors import InputError

BUSY = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
SLEEP = "import time; print('ready', flush=True); time.sleep(60)"


def python(code):
    return [sys.executable, "-c", code]


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "work", Processes())


def do(work, part, code):
    with work.held(pytest.fail) as lock:
        work.do(part, python(code), {**os.environ}, lock)


def test_a_part_is_run_once_and_its_cpu_time_kept(work):
    code = f"open('{work.folder}/count', 'a').write('x')\n{BUSY}"
    do(work, "train", code)
    do(work, "train", code)
    assert (work.folder / "count").read_text() == "x"
    tally = work.tallies()["train"]
    assert tally.done
    assert 0.3 <= tally.cpu_seconds < 3
    assert (tally.begun, tally.ended) == (1, 1)


def test_a_failed_part_is_told_with_its_log_and_done_again(work):
    code = "import sys; print('50%\\rno such model', file=sys.stderr); sys.exit(2)"
    with pytest.raises(FailedError, match=r"train.log: train ended with code 2: no such model"):
        do(work, "train", code)
    assert not work.tallies()["train"].done
    do(work, "train", "pass")
    assert work.tallies()["train"].done
    assert "no such model" in (work.folder / "train.log").read_text()
    with pytest.raises(FailedError, match="it said nothing"):
        do(work, "eval", "import sys; sys.exit(3)")


def test_all_processes_end_when_asked_to_and_none_begins(work):
    def stop():
        while "ready" not in (work.folder / "train.log").read_text():
            time.sleep(0.02)
        work.processes.stop()

    (work.folder / "train.log").touch()
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(StoppedError):
        do(work, "train", SLEEP)
    thread.join()
    assert work.tallies()["train"].ended == 1
    with pytest.raises(StoppedError):
        do(work, "other", "pass")


def test_a_killed_starts_child_keeps_the_folder(work):
    """The child of a killed program lives on; until it ends nobody else works there."""
    program = f"""
import os, sys
from pathlib import Path
sys.path[:0] = {sys.path!r}
from processes import Processes, Work
work = Work(Path({str(work.folder)!r}), Processes())
with work.held(print) as lock:
    work.do("train", [sys.executable, "-c", {SLEEP!r}], {{**os.environ}}, lock)
"""
    runner = subprocess.Popen(python(program))
    log = work.folder / "train.log"
    while not (log.exists() and "ready" in log.read_text()):
        assert runner.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children")
    (child,) = map(int, children.read_text().split())
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    said = []

    def end(text):
        said.append(text)
        os.kill(child, signal.SIGKILL)

    with work.held(end) as lock:
        work.do("train", python("pass"), {**os.environ}, lock)
    assert said == [f"{work.folder}: waits for a process of an earlier start"]
    tally = work.tallies()["train"]
    assert (tally.begun, tally.ended, tally.done) == (2, 1, True)


def test_a_damaged_tally_is_named(work):
    (work.folder / "parts.json").write_text("{")
    with pytest.raises(InputError, match=r"parts.json: cannot be read .*; remove the folder"):
        work.tallies()
