"""One process's share of the data: numbered draws become batches, the same ones for any workers.

All draws 0, 1, 2 ... are dealt to a fixed number of lanes, processes times accumulation steps:
lane l of n gets l, l + n, l + 2n ... Every lane assembles batches on its own, in the order of its
draws, and step t is batch t of every lane. So neither the number of reading processes nor how
lanes are spread over training processes changes what is trained on.

The state of a lane is its next draw and the draws whose samples lie in batches that are not full
yet; these are read again when a run goes on. What was read ahead is no part of it.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from viq.data.sample import Sample, Source
from viq.data.workers import WorkerPool
from viq.errors import InputError, ViQError

log = logging.getLogger(__name__)

MAX_FAILURES = 1000  # one after the other in one lane: then nothing can be read at all
MAX_ERRORS = 1000  # that are kept with their reasons

State = dict[str, dict[str, Any]]
"""By lane number. JSON can hold it; states of several processes are merged by ``|``."""


class Assembler(Protocol):
    """Turns samples into items, anywhere, and items into batches, in order."""

    def prepare(self, sample: Sample, draw: int) -> Any:
        """The costly part, in another process: decodes, cuts, tokenises. Uses no state.

        Raises:
            ViQError: the sample cannot be used.
        """

    def add(self, item: Any) -> Any | None:
        """Takes the next item; returns a batch, with the ids ``samples``, if that finished one."""

    def open(self) -> list[list[int]]:
        """Draw numbers of the items in each unfinished batch."""

    def restore(self, items: list[list[Any]]) -> None:
        """Puts items back as ``open`` had told them."""


class Draws(Protocol):
    """Which sample a draw is: a pure function of its number."""

    def draw(self, n: int) -> tuple[str, int, int]:
        """The source's name, the sample's number in it, and the epoch."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one process trains on in one optimizer step."""

    batches: list[Any]  # one of each lane
    waited: float  # seconds until all were there
    errors: int  # samples of these lanes that could not be used, since the run began
    phase: int = 0


class TrainingData(Protocol):
    """What the training loop asks of its data."""

    steps: int | None  # all of the run's; None for no end
    errors: list[
        tuple[str, str]
    ]  # (id, reason) of samples that could not be used; read and empty it

    def __iter__(self) -> Iterator[Step]:
        """Steps from the present position on."""

    def state_dict(self) -> State:
        """The position after the step that was given last."""

    def load_state_dict(self, state: State) -> None:
        """Goes to a position."""

    def close(self) -> None:
        """Ends the processes."""


class Failure(NamedTuple):
    """A sample that could not be used."""

    id: str
    reason: str


@dataclass(frozen=True)
class _Reader:
    """What the processes run: a draw's number to its item."""

    sources: Mapping[str, Source]
    draws: Draws
    prepare: Callable[[Sample, int], Any]

    def __call__(self, draw: int) -> Any:
        name, index, _ = self.draws.draw(draw)
        id = f"{name}[{index}]"
        try:
            sample = self.sources[name][index]
            id = sample.id
            return self.prepare(sample, draw)
        except ViQError as error:
            return Failure(id, str(error).removeprefix(f"{id}: "))


class Loader:
    """Steps of the lanes of one process; a context manager that ends its processes."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        draws: Draws,
        assembler: Callable[[], Assembler],
        *,
        lanes_total: int,
        lanes: range,
        workers: int = 0,
        steps: int | None = None,
    ) -> None:
        """``assembler`` makes one for each lane; with 0 ``workers`` this process reads."""
        if not lanes or lanes[0] < 0 or lanes[-1] >= lanes_total:
            raise ValueError(f"lanes are {lanes}, but there are lanes 0 to {lanes_total - 1}.")
        self.steps = steps
        self.errors: list[tuple[str, str]] = []
        self._named: set[str] = set()  # in the program's own log
        self._reader = _Reader(sources, draws, assembler().prepare)
        self._assembler = assembler
        self._workers = workers
        self._pool: WorkerPool | None = None
        about = {"lanes": lanes_total, "samples": {k: len(v) for k, v in sources.items()}}
        start = {"step": 0, "open": [], "errors": 0}
        self._state: State = {str(lane): {**about, **start, "draw": lane} for lane in lanes}

    def __iter__(self) -> Iterator[Step]:
        step = min(lane["step"] for lane in self._state.values())
        if self.steps is not None and step >= self.steps:
            return
        read = self._open_reading()
        try:
            lanes = [
                _Lane(self._assembler(), state, read, self._workers)
                for state in self._state.values()
            ]
            while self.steps is None or step < self.steps:
                start = time.perf_counter()
                batches = [lane.batch(self._report) for lane in lanes]
                waited = time.perf_counter() - start
                step += 1
                for name, lane in zip(self._state, lanes, strict=True):
                    self._state[name] = {**self._state[name], **lane.state(), "step": step}
                errors = sum(lane.errors for lane in lanes)
                yield Step(batches=batches, waited=waited, errors=errors)
        finally:
            self.close()

    def state_dict(self) -> State:
        """The position after the step that was given last."""
        return dict(self._state)

    def load_state_dict(self, state: State) -> None:
        """Goes to a position; iterate anew afterwards. Lanes of other processes may be in it.

        Raises:
            InputError: it is of other data, or of another number of lanes.
        """
        for name, own in self._state.items():
            if name not in state:
                raise InputError(f"the saved position in the data lacks lane {name}")
            for key, unit in (("lanes", "lanes (processes x accumulation)"), ("samples", "data")):
                if state[name][key] != own[key]:
                    raise InputError(
                        f"the position in the data was saved with {unit} {state[name][key]}, but"
                        f" this run has {own[key]}; go on with what the run began with"
                    )
        self._state = {name: dict(state[name]) for name in self._state}

    def close(self) -> None:
        """Ends the processes that read; they start again with the next iteration."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open_reading(self) -> "_Read":
        self.close()
        if not self._workers:
            return lambda draw: partial(self._reader, draw)
        pool = self._pool = WorkerPool(self._reader, self._workers)
        return lambda draw: pool.submit(draw).result

    def _report(self, failure: Failure) -> None:
        if failure.id not in self._named:  # it comes again in every epoch
            log.warning("%s is left out: %s", failure.id, failure.reason)
        if len(self._named) < MAX_ERRORS:
            self._named.add(failure.id)
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((failure.id, failure.reason))


_Read = Callable[[int], Callable[[], Any]]  # asks for a draw; what it returns waits for the item


class _Lane:
    """A lane while it is read."""

    def __init__(
        self, assembler: Assembler, state: Mapping[str, Any], read: _Read, workers: int
    ) -> None:
        self.errors: int = state["errors"]
        self._assembler = assembler
        self._stride: int = state["lanes"]
        self._next: int = state["draw"]  # all before it were added
        self._read = read
        self._workers = workers
        self._ahead: deque[Callable[[], Any]] = deque()
        self._samples = 0  # in the last batch
        self._failing = 0  # failures since the last item
        waiting = [[read(draw) for draw in pack] for pack in state["open"]]
        packs = [[result() for result in pack] for pack in waiting]
        for failure in (item for pack in packs for item in pack if isinstance(item, Failure)):
            raise InputError(f"cannot be read any more: {failure.reason}", failure.id)
        assembler.restore(packs)

    def batch(self, report: Callable[[Failure], None]) -> Any:
        """The next batch, after as many draws as it needs."""
        while True:
            self._read_ahead()
            item = self._ahead.popleft()()
            self._next += self._stride
            if isinstance(item, Failure):
                self.errors += 1
                self._failing += 1
                report(item)
                if self._failing == MAX_FAILURES:
                    raise InputError(
                        f"none of the last {MAX_FAILURES} samples could be used; of the last one:"
                        f" {item.id}: {item.reason}"
                    )
                continue
            self._failing = 0
            if (batch := self._assembler.add(item)) is not None:
                self._samples = len(batch.samples)
                self._read_ahead()
                return batch

    def state(self) -> dict[str, Any]:
        return {"draw": self._next, "open": self._assembler.open(), "errors": self.errors}

    def _read_ahead(self) -> None:
        """Two batches as large as the last, and two samples more for each process."""
        depth = 2 * (self._workers + self._samples) if self._workers else 1
        while len(self._ahead) < depth:
            self._ahead.append(self._read(self._next + len(self._ahead) * self._stride))
