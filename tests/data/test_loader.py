"""The loader, on crops of a folder of small pictures, two of which are damaged."""

import json
import logging
import multiprocessing
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from functools import partial
from itertools import islice, takewhile

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from viq.data.crops import CropConfig, Crops
from viq.data.folder import FolderSource
from viq.data.loader import MAX_FAILURES, Loader
from viq.data.mixture import Mixture
from viq.data.sample import Sample
from viq.errors import InputError, ViQError

CONFIG = CropConfig(sizes=((16, 16), (16, 32), (16, 16)), pixels=8 * 16 * 16)
PICTURES, DAMAGED = 23, {"pictures/pic04.png", "pictures/pic17.png"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        size = tuple(rng.integers(12, 60, 2))
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"pic{number:02}.png")
    for id in DAMAGED:
        (folder / id.removeprefix("pictures/")).write_bytes(b"\x89PNG and no more")
    return folder


def loader_of(folder, *, lanes_total=1, lanes=range(1), workers=0, steps=None, seed=5):
    source = FolderSource("pictures", folder, need_text=False)
    return Loader(
        {source.name: source},
        Mixture({source.name: len(source)}, {source.name: 1.0}, seed),
        partial(Crops, CONFIG, seed=seed),
        lanes_total=lanes_total,
        lanes=lanes,
        workers=workers,
        steps=steps,
    )


def take(loader, count):
    """The batches of some steps."""
    with loader:
        return [step.batches for step in islice(loader, count)]


def assert_same(some, other):
    assert len(some) == len(other) > 0
    for batches, others in zip(some, other, strict=True):
        assert len(batches) == len(others)
        for a, b in zip(batches, others, strict=True):
            assert a.samples == b.samples
            assert torch.equal(a.images, b.images)


def saved(loader):
    """The state as a checkpoint gives it back."""
    return json.loads(json.dumps(loader.state_dict()))


@pytest.mark.parametrize("workers", [1, 2])
def test_reading_in_other_processes_gives_the_same_batches(folder, workers):
    lanes = {"lanes_total": 2, "lanes": range(2)}
    expected = take(loader_of(folder, **lanes), 12)
    assert_same(take(loader_of(folder, **lanes, workers=workers), 12), expected)


@pytest.mark.parametrize(("workers", "at"), [(0, 1), (0, 4), (0, 7), (2, 5)])
def test_a_run_goes_on_exactly_where_it_stopped(folder, workers, at):
    lanes = {"lanes_total": 2, "lanes": range(2)}
    whole = take(loader_of(folder, **lanes), 14)
    stopped = loader_of(folder, **lanes, workers=workers)
    take(stopped, at)
    state = saved(stopped)
    assert any(lane["open"] for lane in state.values())  # or this shows nothing of open batches
    resumed = loader_of(folder, **lanes, workers=workers, steps=14)
    resumed.load_state_dict(state)
    assert saved(resumed) == state
    assert_same(take(resumed, 99), whole[at:])


def test_iterating_again_goes_on_too(folder):
    loader = loader_of(folder, steps=9)
    assert_same(take(loader, 4) + take(loader, 99), take(loader_of(folder), 9))
    assert take(loader, 99) == []


def test_two_processes_see_what_one_with_two_lanes_sees(folder):
    one = loader_of(folder, lanes_total=2, lanes=range(2))
    batches = take(one, 8)
    processes = [loader_of(folder, lanes_total=2, lanes=range(i, i + 1)) for i in range(2)]
    apart = [take(process, 8) for process in processes]
    assert_same([a + b for a, b in zip(*apart, strict=True)], batches)
    merged = {name: lane for one in processes for name, lane in saved(one).items()}
    assert merged == saved(one)
    following = take(one, 3)
    for lane, process in enumerate(processes):
        process.load_state_dict(merged)
        assert_same(take(process, 3), [step[lane : lane + 1] for step in following])


def test_every_draw_is_packed_or_waits_or_is_an_error(folder):
    loader = loader_of(folder)
    source = FolderSource("pictures", folder, need_text=False)
    mixture = Mixture({"pictures": PICTURES}, {"pictures": 1.0}, 5)
    ids = [source[mixture.draw(n)[1]].id for n in range(512)]
    packed = Counter()
    for step in loader:
        packed.update(id for batch in step.batches for id in batch.samples)
        lane = loader.state_dict()["0"]
        waiting = [ids[draw] for pack in lane["open"] for draw in pack]
        failed = [id for id, _ in loader.errors]
        assert packed + Counter(waiting) + Counter(failed) == Counter(ids[: lane["draw"]])
        assert len(failed) == step.errors
        if lane["draw"] > 480:
            break
    assert set(failed) == DAMAGED
    assert len(packed) == PICTURES - len(DAMAGED)


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_samples_are_named_counted_and_not_replaced(folder, workers, caplog):
    loader = loader_of(folder, workers=workers)
    with loader, caplog.at_level(logging.WARNING, "viq"):
        steps = takewhile(lambda _: loader.state_dict()["0"]["draw"] < 2 * PICTURES, loader)
        counts = [step.errors for step in steps]
    assert counts == sorted(counts)
    assert counts[-1] <= len(loader.errors) >= len(DAMAGED)
    assert {id for id, _ in loader.errors} == DAMAGED
    for id, reason in loader.errors:
        assert reason.startswith(("cannot be decoded", "not a readable image", "not an image"))
        assert f"{id} is left out: {reason}" in caplog.text
    assert loader.state_dict()["0"]["errors"] == len(loader.errors)


def test_the_count_of_errors_outlives_a_restart(folder):
    loader = loader_of(folder)
    take(loader, 8)
    assert loader.state_dict()["0"]["errors"] > 0
    resumed = loader_of(folder)
    resumed.load_state_dict(saved(loader))
    expected = loader.state_dict()["0"]["errors"]
    assert next(iter(resumed)).errors >= expected


def test_nothing_readable_is_an_error_and_not_an_endless_search(folder, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"not a picture")
    with pytest.raises(InputError, match=f"none of the last {MAX_FAILURES} samples") as caught:
        take(loader_of(tmp_path), 1)
    assert "pictures/" in str(caught.value)


def test_a_sample_that_vanished_from_an_open_batch_is_named(folder, tmp_path):
    for number in range(5):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
    loader = loader_of(tmp_path)
    take(loader, 3)
    for file in tmp_path.iterdir():
        file.write_bytes(b"gone")
    assert loader.state_dict()["0"]["open"]
    with pytest.raises(InputError, match=r"pictures/\d\.png: cannot be read any more"):
        take(loader, 1)


def test_a_killed_process_ends_the_run_with_one_line(folder):
    loader = loader_of(folder, workers=2)
    steps = iter(loader)
    next(steps)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(ViQError, match="was killed by signal 9"):
        list(steps)
    assert not multiprocessing.active_children()


def test_processes_end_with_the_context_and_with_the_iteration(folder):
    with loader_of(folder, workers=1) as loader:
        steps = iter(loader)
        next(steps)
        assert len(multiprocessing.active_children()) == 1
    assert not multiprocessing.active_children()
    assert len(list(loader_of(folder, workers=1, steps=2))) == 2
    assert not multiprocessing.active_children()


class Pool:
    """Stands in for the processes: reads at once, and counts what waits."""

    most = waiting = 0

    def __init__(self, function, workers):
        self.function = function

    def submit(self, number):
        Pool.waiting += 1
        Pool.most = max(Pool.most, Pool.waiting)
        result = self.function(number)

        class Result:
            def result(self):
                Pool.waiting -= 1
                return result

        return Result()

    def close(self):
        Pool.waiting = 0


def test_no_more_is_read_ahead_than_two_batches(folder, monkeypatch):
    monkeypatch.setattr("viq.data.loader.WorkerPool", Pool)
    loader = loader_of(folder, workers=2)
    most = max(len(step.batches[0].samples) for step in islice(loader, 60))
    assert most < Pool.most <= 2 * (2 + most)


def test_a_position_of_other_data_or_lanes_is_refused(folder, tmp_path):
    state = saved(loader_of(folder, lanes_total=2, lanes=range(2)))
    with pytest.raises(InputError, match=r"lanes \(processes x accumulation\) 2, but .* has 1"):
        loader_of(folder).load_state_dict(state)
    Image.new("RGB", (20, 20)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match=r"data \{'pictures': 23\}, but .* has \{'pictures': 1\}"):
        loader_of(tmp_path, lanes_total=2, lanes=range(2)).load_state_dict(state)
    with pytest.raises(InputError, match="lacks lane 0"):
        loader_of(folder).load_state_dict({})


@pytest.mark.parametrize("lanes", [range(0), range(1, 3), range(-1, 1)])
def test_lanes_that_are_not_there_are_refused(folder, lanes):
    with pytest.raises(ValueError, match="but there are lanes 0 to 1"):
        loader_of(folder, lanes_total=2, lanes=lanes)


def test_the_time_spent_waiting_is_told(folder):
    step = next(iter(loader_of(folder)))
    assert 0 < step.waited < 60


def test_nothing_is_drawn_before_it_is_iterated(folder):
    class Untouchable:
        name = "pictures"

        def __len__(self):
            return 3

        def __getitem__(self, index) -> Sample:
            raise AssertionError

    loader = Loader(
        {"pictures": Untouchable()},
        Mixture({"pictures": 3}, {"pictures": 1.0}, 0),
        partial(Crops, CONFIG),
        lanes_total=1,
        lanes=range(1),
        workers=2,
    )
    assert loader.state_dict()["0"]["draw"] == 0
    assert not multiprocessing.active_children()


SCRIPT = """
    import sys, time
    from functools import partial
    from pathlib import Path
    from viq.data.crops import CropConfig, Crops
    from viq.data.folder import FolderSource
    from viq.data.loader import Loader
    from viq.data.mixture import Mixture

    if __name__ == "__main__":
        source = FolderSource("pictures", Path(sys.argv[1]), need_text=False)
        mixture = Mixture({"pictures": len(source)}, {"pictures": 1.0}, 0)
        crops = partial(Crops, CropConfig(sizes=((16, 16),), pixels=1024))
        lanes = {"lanes_total": 1, "lanes": range(1)}
        for step in Loader({"pictures": source}, mixture, crops, workers=1, **lanes):
            print("step", flush=True)
            time.sleep(0.02)
"""


def test_no_process_outlives_the_main_one(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    mains = {
        how: subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for how in (signal.SIGINT, signal.SIGKILL)
    }
    for how, main in mains.items():
        assert main.stdout.readline() == "step\n"
        family = psutil.Process(main.pid).children(recursive=True)
        assert len(family) >= 2  # the one that reads, and what starts or tracks it
        if how == signal.SIGINT:  # the terminal sends it to all
            for process in family:
                process.send_signal(how)
        main.send_signal(how)
        _, errors = main.communicate(timeout=60)
        assert errors.count("Traceback") == (how == signal.SIGINT)  # the main process's own
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
