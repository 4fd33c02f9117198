"""The line: its order, its length, and those who leave it."""

import asyncio
import threading

import pytest

from viq.app import work as work_module
from viq.app.limits import RefusedError
from viq.app.work import LeftError, Work
from viq.errors import InputError


@pytest.fixture
def line(monkeypatch):
    """Runs a coroutine function with a line, whose heart beats fast."""
    monkeypatch.setattr(work_module, "BEAT", 0.05)

    def run(test, **limits):
        async def whole():
            work = Work(**({"max_jobs": 10, "max_session_jobs": 10} | limits))
            try:
                await asyncio.wait_for(test(work), 20)
            finally:
                work.close()

        asyncio.run(whole())

    return run


async def listen(work, job, do, finish=lambda _: None):
    """All events of a job, heartbeats once."""
    events = []
    try:
        async for event in work.run(job, do, finish):
            if not events or events[-1] != event:
                events.append(event)
    finally:
        work.leave(job)
    return events


def test_one_runs_after_the_other_and_is_told_how_many_are_ahead(line):
    async def test(work):
        gate, order = threading.Event(), []

        def do(number):
            def run(job):
                gate.wait()
                order.append((number, threading.current_thread().name))
                job.tell(type="text", text=number)
                return number

            return run

        jobs = [work.enter(f"page {number}") for number in range(3)]
        tasks = []
        for number, job in enumerate(jobs):
            tasks.append(
                asyncio.create_task(
                    listen(work, job, do(number), lambda n: {"type": "picture", "number": n})
                )
            )
            await asyncio.sleep(0.01)
        gate.set()
        events = await asyncio.gather(*tasks)
        assert [number for number, _ in order] == [0, 1, 2]
        assert len({name for _, name in order}) == 1
        for number, found in enumerate(events):
            waiting = [{"type": "waiting", "ahead": n} for n in range(number, 0, -1)]
            assert found == [
                *waiting,
                {"type": "working"},
                {"type": "text", "text": number},
                {"type": "picture", "number": number},
                {"type": "done"},
            ]
        assert work.jobs == 0

    line(test)


def test_who_leaves_the_line_makes_room(line):
    async def test(work):
        gate, ran = threading.Event(), []
        first, second, third = (work.enter("page") for _ in range(3))
        tasks = [asyncio.create_task(listen(work, first, lambda _: gate.wait()))]
        await asyncio.sleep(0.01)
        tasks += [
            asyncio.create_task(listen(work, job, lambda _, n=n: ran.append(n)))
            for n, job in ((2, second), (3, third))
        ]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        await asyncio.sleep(0.01)
        assert work.jobs == 2
        gate.set()
        events = (await asyncio.gather(*tasks, return_exceptions=True))[2]
        assert ran == [3]
        assert [event.get("ahead") for event in events][:2] == [2, 1]

    line(test)


def test_work_for_those_who_left_stops_where_it_looks(line):
    async def test(work):
        steps, going = [], threading.Event()

        def do(job):
            while True:
                steps.append(None)
                going.set()
                try:
                    job.check()
                except LeftError:
                    steps.append("stopped")
                    raise

        job = work.enter("page")
        task = asyncio.create_task(listen(work, job, do))
        await asyncio.to_thread(going.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while work.jobs:
            await asyncio.sleep(0.01)
        assert steps[-1] == "stopped"
        again = await listen(work, work.enter("page"), lambda _: None)
        assert again[-1] == {"type": "done"}

    line(test)


def test_there_is_a_most_of_all_and_of_each(line):
    async def test(work):
        jobs = [work.enter("one") for _ in range(2)]
        with pytest.raises(RefusedError, match="Several of your requests") as refused:
            work.enter("one")
        assert refused.value.status == 429
        jobs.append(work.enter("two"))
        with pytest.raises(RefusedError, match="Too many people are waiting") as refused:
            work.enter("three")
        assert refused.value.status == 503
        for job in jobs:
            work.leave(job)
        work.enter("three")

    line(test, max_jobs=3, max_session_jobs=2)


def test_errors_are_events_and_the_line_goes_on(line):
    async def test(work):
        for error, message in (
            (InputError("bad", "a.png"), "a.png: bad"),
            (RefusedError(400, "No."), "No."),
            (ValueError("secret"), work_module.FAILED),
            (RuntimeError("[enforce fail] can't allocate memory"), work_module.NO_MEMORY),
        ):

            def do(_, error=error):
                raise error

            events = await listen(work, work.enter("page"), do)
            assert events[-1] == {"type": "error", "message": message}
        assert work.jobs == 0

    line(test)


def test_long_work_has_a_heartbeat(line):
    async def test(work):
        job, beats = work.enter("page"), 0
        stop = threading.Event()
        async for event in work.run(job, lambda _: stop.wait(), lambda _: None):
            beats += event == {"type": "working"}
            if beats == 3:
                stop.set()
        assert beats == 3

    line(test)
