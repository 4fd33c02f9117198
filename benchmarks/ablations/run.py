"""Runs the ablations that have no result yet, each in processes of its own, and goes on if stopped.

python benchmarks/ablations/run.py --data CORPUS --start ALIGN --vae VAE

Every run is a chain of public commands (`viq train proximal`, `viq train quantize`, `viq eval
understanding`) and figures.py, on one thread each. As it ends it leaves ROW-seedN.json in --out;
table.py makes the page of those. A run that fails is reported with its log and does not stop
the others. Exit codes: 0 all done, 1 some failed, 2 nothing could be done, 130 stopped.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from budget import Budget
from processes import Processes, StoppedError, Work
from results import path_of, read, write
from rows import DEFAULT, GROUPS, ROWS, Row, rows_of
from tqdm import tqdm

from viq.errors import InputError, ViQError
from viq.evaluation.document import Document
from viq.evaluation.files import whole_text
from viq.evaluation.provenance import PACKAGES, commit
from viq.hardware import hardware

HERE = Path(__file__).parent
UNSEEN = (96, 320)  # pixels of other sizes, for the rows about positions
PROBE = "probe-letters"
COUNT = 200  # pictures that it is asked about
LOOK = 2.0  # seconds between two looks at how far the runs are
PARTS = ("figures", "understanding")  # behind the stages


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row with one seed."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        """As its files are called."""
        return f"{self.row.name}-seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things are."""

    data: Path | None
    start: Path
    vae: Path
    lm: str | None
    out: Path
    work: Path

    def hidden(self, command: Sequence[str], folder: Path) -> str:
        """A command with names in the place of this machine's paths."""
        names = {sys.executable: "python", str(folder): "WORK", str(HERE): "benchmarks/ablations"}
        names |= {str(self.start): "ALIGN", str(self.vae): "VAE", str(self.work): "WORK"}
        if self.data is not None:
            names[str(self.data)] = "CORPUS"
        if self.lm is not None:
            names[self.lm] = "LM"
        text = shlex.join(command)
        for path in sorted(names, key=len, reverse=True):
            text = text.replace(path, names[path])
        return text.replace("python -m viq.cli.main", "viq")


class Bench:
    """Runs jobs."""

    def __init__(self, places: Places, budget: Budget, processes: Processes) -> None:
        self.places, self.budget, self.processes = places, budget, processes
        self.settings = budget.settings(places.start, places.vae)
        # What torch multiplies with must not depend on how many runs there are at a time.
        self.env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def commands(self, job: Job, folder: Path) -> dict[str, list[str]]:
        """The command of each part, in order."""
        viq, budget, places = [sys.executable, "-m", "viq.cli.main"], self.budget, self.places
        commands: dict[str, list[str]] = {}
        start = places.start
        for stage in job.row.stages:
            command = [*viq, "train", stage, "--recipe", budget.recipe]
            command += ["--start", str(start), "--vae", str(places.vae)]
            command += [] if places.data is None else ["--data", str(places.data)]
            command += [] if places.lm is None else ["--lm", places.lm]
            command += ["--out", str(folder / stage), "--resume"]
            command += [*budget.flags(job.row, stage, job.seed), *job.row.changes(stage)]
            commands[stage] = command
            start = folder / stage
        lm = [] if places.lm is None else ["--lm", places.lm]
        of_positions = any(line.row == job.row.name for line in GROUPS["position"].lines)
        sides = map(str, sorted({budget.side, *(UNSEEN if of_positions else ())}))
        corpus = [] if places.data is None else ["--data", str(places.data)]
        commands["figures"] = [sys.executable, str(HERE / "figures.py"), str(start), *corpus, *lm]
        commands["figures"] += ["--sides", *sides, "--reader", str(folder / "reader")]
        commands["figures"] += ["--json", str(folder / "figures.json")]
        asked = [*viq, "eval", "understanding", "--model", f"run={folder / 'reader'}", *lm]
        asked += ["--tasks", PROBE, "--count", str(COUNT), "--no-blind"]
        asked += ["--max-pixels", str(budget.side**2), "--out", str(folder / "understanding")]
        commands["understanding"] = asked
        return commands

    def run(self, job: Job) -> Path:
        """Does what is missing of a job; returns its result's file.

        Raises:
            FailedError: a part failed; what is done stays in the working folder.
            StoppedError: asked to end.
        """
        folder = self.places.work / job.name
        work = Work(folder, self.processes)
        commands = self.commands(job, folder)
        with work.held(tqdm.write) as lock:
            self._check(folder, job.row)
            for part, command in commands.items():
                work.do(part, command, self.env, lock)
            figures = json.loads((folder / "figures.json").read_text())
            figures["letters"] = letters(folder / "understanding")
            tallies = work.tallies()
            path = write(
                self.places.out,
                {
                    "row": job.row.name,
                    "seed": job.seed,
                    "changed": job.row.changed,
                    "settings": self.settings,
                    "commands": {k: self.places.hidden(c, folder) for k, c in commands.items()},
                    "steps": {s: self.budget.steps_of(job.row, s) for s in job.row.stages},
                    **_provenance(),
                    "cpu_seconds": {k: round(tallies[k].cpu_seconds, 1) for k in commands},
                    "unseen": sum(t.begun - t.ended for t in tallies.values()),
                    "figures": figures,
                },
            )
        shutil.rmtree(folder)
        return path

    def _check(self, folder: Path, row: Row) -> None:
        """Sees to it that what lies in a working folder was begun with the same settings."""
        path = folder / "settings.json"
        text = json.dumps({**self.settings, "changed": row.changed})
        if path.exists() and path.read_text() != text:
            raise InputError(
                "was begun with other settings; remove it or give another --work", folder
            )
        whole_text(path, text)

    def steps_done(self, job: Job) -> int:
        """Training steps that a job has behind it, as far as its logs say."""
        if path_of(self.places.out, job.row.name, job.seed).exists():
            return self.budget.steps
        folder = self.places.work / job.name
        return sum(_last_step(folder / stage / "log.jsonl") for stage in job.row.stages)


def letters(folder: Path) -> float:
    """Of an evaluation of understanding, the share of letters that the probe got, in percent."""
    (score,) = Document.load(folder).data["scores"]
    return float(score["score"]["value"])


def run_all(bench: Bench, jobs: Sequence[Job], at_once: int) -> dict[Job, str]:
    """Runs all jobs; why those that failed did.

    Raises:
        StoppedError: asked to end; what was done is kept.
    """
    failed: dict[Job, str] = {}
    total = bench.budget.steps * len(jobs)
    with (
        ThreadPoolExecutor(at_once) as pool,
        tqdm(total=total, unit="step", desc=f"0 of {len(jobs)} runs", dynamic_ncols=True) as bar,
    ):
        bar.update(sum(bench.steps_done(job) for job in jobs))
        bar.initial = bar.n  # so that the time left is of what is done now
        waiting: dict[Future[Path], Job] = {pool.submit(bench.run, job): job for job in jobs}
        ended = 0
        while waiting:
            over, _ = wait(waiting, timeout=LOOK, return_when=FIRST_COMPLETED)
            for future in over:
                job, error = waiting.pop(future), future.exception()
                ended += 1
                if isinstance(error, (ViQError, OSError)) and not isinstance(error, StoppedError):
                    failed[job] = str(error)
                    tqdm.write(f"ablations: error: {job.name}: {error}", file=sys.stderr)
                elif error is not None and not isinstance(error, StoppedError):
                    bench.processes.stop()
                    raise error
            bar.set_description(f"{ended} of {len(jobs)} runs")
            bar.update(max(0, sum(bench.steps_done(job) for job in jobs) - bar.n))
    if bench.processes.stopping:
        raise StoppedError("stopped; the same command goes on")
    return failed


def choose(names: Sequence[str], known: Mapping[str, Any], what: str) -> list[str]:
    """The names, if there are such.

    Raises:
        InputError: there is none of that name; says which there are.
    """
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise InputError(f"no {what} {name!r}{hint} there are: {', '.join(known)}")
    return list(names)


def _provenance() -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "hardware": hardware("cpu"),
        "threads": 1,
        "versions": {"python": platform.python_version()} | {n: version(n) for n in PACKAGES},
    }


def _last_step(log: Path) -> int:
    try:
        lines = log.read_text().splitlines()
    except OSError:
        return 0
    try:
        return int(json.loads(lines[-1])["step"])
    except (IndexError, ValueError, KeyError):  # it is being written
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the corpus (the recipe debug needs none)")
    parser.add_argument("--start", type=Path, required=True, help="a run of stage align")
    parser.add_argument("--vae", type=Path, required=True, help="the autoencoder's folder")
    parser.add_argument("--lm", help="where the start's language model is now, if it has moved")
    parser.add_argument(
        "--out", type=Path, default=HERE.parent / "results" / "ablations", help="of the results"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/ablations"), help="of what is not kept"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    first = [name for name, group in GROUPS.items() if not group.later]
    parser.add_argument(
        "--groups",
        nargs="+",
        default=first,
        metavar="GROUP",
        help=f"of {', '.join(GROUPS)} (default: {', '.join(first)})",
    )
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="in the place of --groups")
    parser.add_argument("--list", action="store_true", help="print what would be run, and stop")
    parser.add_argument("--recipe", default=Budget.recipe)
    parser.add_argument("--steps", type=int, default=Budget.steps, help="of both stages together")
    parser.add_argument("--proximal-steps", type=int, default=Budget.proximal_steps)
    parser.add_argument("--side", type=int, default=Budget.side, help="pixels")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    args = _parser().parse_args(arguments)
    try:
        return _main(args)
    except StoppedError as stopped:
        print(f"ablations: {stopped}", file=sys.stderr)
        return 130
    except (ViQError, OSError) as error:
        print(f"ablations: error: {error}", file=sys.stderr)
        return 2


def _main(args: argparse.Namespace) -> int:
    budget = Budget(
        recipe=args.recipe,
        steps=args.steps,
        proximal_steps=args.proximal_steps,
        side=args.side,
    )
    rows = rows_of(choose(args.groups, GROUPS, "group"))
    if args.rows is not None:
        rows = [ROWS[name] for name in choose(args.rows, ROWS, "row")]
        rows.sort(key=lambda row: row.name != DEFAULT)
    if args.jobs < 1:
        raise InputError(f"--jobs is {args.jobs}; it must be 1 or more")
    places = Places(
        data=None if args.data is None else args.data.resolve(),
        start=args.start.resolve(),
        vae=args.vae.resolve(),
        lm=str(Path(args.lm).resolve()) if args.lm and Path(args.lm).exists() else args.lm,
        out=args.out,
        work=args.work.resolve(),
    )
    processes = Processes()
    bench = Bench(places, budget, processes)
    done = read(args.out, bench.settings)
    # Seed by seed: stopped early there is a whole table, of fewer seeds.
    all_jobs = [Job(row=row, seed=seed) for seed in dict.fromkeys(args.seeds) for row in rows]
    jobs = [job for job in all_jobs if job.seed not in done.get(job.row.name, {})]
    if args.list:
        for job in jobs:
            print(f"{job.name}: {job.row.changed or 'the default'}")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    before = {
        number: signal.signal(number, lambda *_: processes.stop())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        failed = run_all(bench, jobs, args.jobs)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print(
        f"{len(jobs) - len(failed)} runs done, {len(all_jobs) - len(jobs)} were there before,"
        f" {len(failed)} failed"
    )
    for job, why in failed.items():
        print(f"ablations: error: {job.name}: {why}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
