"""Processes that are asked by number; the functions are the standard library's."""

import math
import multiprocessing
import os
import time

import pytest

from viq.data.workers import WorkerPool
from viq.errors import ViQError


@pytest.fixture
def open_pool():
    pools = []

    def open(function, workers=1):
        pools.append(WorkerPool(function, workers))
        return pools[-1]

    yield open
    for pool in pools:
        pool.close()
    assert not multiprocessing.active_children()


def test_results_belong_to_their_numbers(open_pool):
    pool = open_pool(math.factorial, 2)
    futures = [pool.submit(number) for number in range(50)]
    assert [future.result() for future in futures] == [math.factorial(n) for n in range(50)]


def test_a_result_larger_than_any_pipe_comes_whole(open_pool):
    assert open_pool(bytes).submit(3_000_000).result() == bytes(3_000_000)


def test_a_defect_shows_the_traceback_and_the_process_goes_on(open_pool):
    pool = open_pool(math.sqrt)
    with pytest.raises(RuntimeError, match=r"(?s)in a process that reads data:.*domain error"):
        pool.submit(-1).result()
    assert pool.submit(4).result() == 2.0


def test_a_process_that_ends_fails_what_it_had_and_what_nobody_else_can_do(open_pool):
    pool = open_pool(os._exit)
    futures = [pool.submit(3) for _ in range(3)]
    for future in futures:
        with pytest.raises(ViQError, match=r"a process that reads data ended \(3\); .* use fewer"):
            future.result(30)


def test_a_killed_process_is_an_error_that_names_the_signal(open_pool):
    pool = open_pool(time.sleep)
    pool.submit(0).result()  # it has started
    future = pool.submit(1000)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(ViQError, match="was killed by signal 9; if memory ran out"):
        future.result(30)


def test_closing_does_not_wait_for_what_is_being_read(open_pool):
    pool = open_pool(time.sleep)
    pool.submit(0).result()
    pool.submit(1000)
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < 10
