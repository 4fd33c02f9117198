"""Which tasks there are, and which of them are asked for and can be had."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from viq.errors import InputError
from viq.evaluation.benchmarks import BENCHMARKS, load_benchmark
from viq.evaluation.task import Task
from viq.evaluation.understanding.captioned import repeated
from viq.evaluation.understanding.naming import digits, naming
from viq.evaluation.understanding.probes import PROBES
from viq.evaluation.understanding.synthetic import SYNTHETIC

OFFLINE, BENCHMARK, PROBE = "offline", "benchmarks", "probes"  # suites
NAMING = "naming"
_DRAWN: Mapping[str, Task] = {task.name: task for task in SYNTHETIC}
NAMES: Mapping[str, tuple[str, ...]] = {
    OFFLINE: (*_DRAWN, "digits", NAMING),
    BENCHMARK: tuple(BENCHMARKS),
    PROBE: tuple(PROBES),
}


@dataclass
class Chosen:
    """Tasks by suite, probes by name, and what was left out."""

    tasks: dict[str, list[Task]] = field(default_factory=dict)
    probes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def captioned(self) -> bool:
        """Whether anything is about captioned pictures."""
        named = any(task.name == NAMING for tasks in self.tasks.values() for task in tasks)
        return named or any(PROBES[name].pictures == "captioned" for name in self.probes)


def choose(
    wanted: Sequence[str],
    *,
    data: Path | None,
    pictures: Path | None,
    missing: Callable[[str], str | None],
) -> Chosen:
    """The tasks and probes that are asked for by name, or as a suite, as far as they can be had.

    Args:
        wanted: names of tasks, probes or suites; of a suite what cannot be had is noted.
        data: a folder with the benchmarks.
        pictures: a folder with captioned pictures.
        missing: says of a probe why it cannot be had; None: it can.

    Raises:
        InputError: a name is unknown, a task that is named cannot be had, or nothing of a suite.
    """
    chosen = Chosen()
    known = [*NAMES, *(name for names in NAMES.values() for name in names)]
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise InputError(f"no task or suite {name!r}{hint} there are: {', '.join(known)}")
    for suite, names in NAMES.items():
        found = 0
        for name in names:
            if name not in wanted and suite not in wanted:
                continue
            try:
                if suite == PROBE:
                    _check(name, missing)
                    chosen.probes.append(name)
                else:
                    task = _load(name, data, pictures)
                    chosen.tasks.setdefault(suite, []).append(task)
                found += 1
            except InputError as error:
                if name in wanted:
                    raise
                chosen.notes.append(f"Left out is {name}: {error.reason}.")
        if suite in wanted and not found:
            raise InputError(f"nothing of it can be had. {' '.join(chosen.notes)}", suite)
    if pictures is not None and chosen.captioned:
        chosen.notes.append(_held_out(pictures))
    return chosen


def _held_out(pictures: Path) -> str:
    """What of the captioned pictures is left out as it is not held out."""
    count, all = repeated(pictures)
    if not any(pictures.glob("train*.parquet")):
        return (
            f"Captioned pictures: whether their {all:,} concepts are held out could not be checked,"
            " as there are no train*.parquet beside them."
        )
    return (
        f"Captioned pictures: {count:,} of {all:,} validation pictures are left out, as the name in"
        " their caption is a train picture's, too."
    )


def _check(probe: str, missing: Callable[[str], str | None]) -> None:
    if (reason := missing(probe)) is not None:
        raise InputError(reason, probe)


def _load(name: str, data: Path | None, pictures: Path | None) -> Task:
    if name in _DRAWN:
        return _DRAWN[name]
    if name == "digits":
        return digits()
    if name == NAMING:
        if pictures is None:
            raise InputError("it needs --pictures, a folder of captioned ones", name)
        return naming(pictures)
    if data is None:
        raise InputError("it needs --data, a folder with copies of benchmarks", name)
    return load_benchmark(name, data)
