"""What ends a run before its last step: numbers that went wrong, and somebody's wish."""

import logging
import math
import signal
import statistics
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from viq.errors import ViQError

log = logging.getLogger(__name__)

_MEMORY = 101  # losses that the median is taken of
_FLOOR = 1e-3  # of the median: below it, ten times as much is still nothing


class TrainingError(ViQError):
    """Training cannot go on: a loss or gradient is not finite, or the loss runs away."""


class StoppedError(ViQError):
    """Training was asked to stop, and its state is saved."""


class Guard:
    """Looks at every step's numbers before they can do harm."""

    def __init__(self, ratio: float, patience: int, recent: Sequence[float] = ()) -> None:
        self.ratio, self.patience = ratio, patience
        self.recent = deque(recent, maxlen=_MEMORY)
        self.bad_steps = 0  # in a row

    @property
    def is_calm(self) -> bool:
        """Whether the state is worth keeping: the last loss was an ordinary one."""
        return self.bad_steps == 0

    def check(self, step: int, losses: Mapping[str, float], total: float, norm: float) -> None:
        """Called before the optimizer's step, with the losses by name and their weighted sum.

        Raises:
            TrainingError: naming what is wrong.
        """
        for name, value in (*losses.items(), ("gradient", norm)):
            if not math.isfinite(value):
                what = "gradient" if name == "gradient" else f"loss {name!r}"
                raise TrainingError(f"the {what} is {value} at step {step}")
        median = statistics.median(self.recent) if self.recent else math.inf
        if total > self.ratio * max(abs(median), _FLOOR):
            self.bad_steps += 1
        else:
            self.bad_steps = 0
            self.recent.append(total)  # ordinary ones alone, or the median would follow
        if self.bad_steps >= self.patience:
            raise TrainingError(
                f"the loss diverges: at step {step} it is {total:.4g}, and for {self.patience}"
                f" steps it has been over {self.ratio:g} times its median of {median:.4g}"
            )


class StopWish:
    """Set by Ctrl-C or SIGTERM. A second one ends the process at once, as it would have."""

    def __init__(self) -> None:
        self.is_set = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catches both signals; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def note(_number: int, _frame: FrameType | None) -> None:
            self.is_set = True
            restore()
            log.warning("stopping after this step")

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            restore()
