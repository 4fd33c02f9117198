"""The same units on a Ray cluster: Ray Data hands them to actors, each with the model loaded.

How many actors there are, between the bounds, where they run, and what happens when a machine is
lost is Ray's business. A unit that is done twice is the same file twice.
"""

import logging
import os
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from viq.errors import InputError
from viq.extraction.report import Event, Failure, UnitReport
from viq.extraction.unit import Extractor, Work


@dataclass(frozen=True)
class RayEngine:
    """Does units in Ray actors, on machines that share the source and the data set's folder.

    Attributes:
        workers: actors; by default from 1 to as many as the cluster has room for.
        address: of the cluster; by default what RAY_ADDRESS says, or a Ray of this machine's own.
    """

    workers: int | None = None
    address: str | None = None

    def __call__(self, work: Work, units: Sequence[int]) -> Generator[Event]:
        """Does the units and tells what became of each.

        Raises:
            InputError: Ray is not installed, or the cluster cannot be reached.
        """
        ray = _import()
        ours = not ray.is_initialized()
        if ours:
            self._connect(ray, work)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        settings = work.settings
        on_gpu = torch.device(settings.device).type != "cpu"
        count = {"size": self.workers} if self.workers else {"min_size": 1, "max_size": len(units)}
        try:
            # Two tasks an actor: at one, Ray Data never finds its actors busy enough to add more.
            outcomes = ray.data.from_items(list(units), override_num_blocks=len(units)).map_batches(
                _Actor,
                fn_constructor_args=(work,),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(**count, max_tasks_in_flight_per_actor=2),
                num_cpus=settings.threads,
                num_gpus=1 if on_gpu else None,
            )
            for row in outcomes.iter_rows():
                yield _event(row)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"Ray gave up ({type(error).__name__}): {reason}") from error
        finally:
            if ours:
                ray.shutdown()

    def _connect(self, ray: Any, work: Work) -> None:
        where = self.address or os.environ.get("RAY_ADDRESS") or "local"
        _reach(where)
        options: dict[str, Any] = {}
        if where == "local":
            cores = (self.workers or 0) * work.settings.threads
            options = {
                "include_dashboard": False,
                "num_cpus": max(cores, len(os.sched_getaffinity(0))),
            }
        try:
            with _hushed():
                ray.init(where, logging_level=logging.ERROR, log_to_driver=False, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"the Ray cluster cannot be reached: {reason}", where) from error


def _reach(where: str) -> None:
    """Ray itself tries for a quarter of an hour."""
    host, _, port = where.rpartition("//")[2].rpartition(":")
    if not host:
        return  # "auto" or "local"
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"the Ray cluster cannot be reached: {error}", where) from error


class _Actor:
    """What Ray makes once a worker and hands batches of one unit."""

    def __init__(self, work: Work) -> None:
        # Ray shows an actor its own GPU alone, so a number would be another machine's.
        device = torch.device(work.settings.device).type
        self._extractor = Extractor(work, device)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        outcomes = [self._extractor.attempt(int(u), lambda _: None) for u in batch["item"]]
        failures = [one if isinstance(one, Failure) else None for one in outcomes]
        return {
            "unit": [one.unit for one in outcomes],
            "report": [one.to_json() if isinstance(one, UnitReport) else "" for one in outcomes],
            "reason": ["" if one is None else one.reason for one in failures],
            "is_final": [one is not None and one.is_final for one in failures],
        }


def _event(row: Mapping[str, Any]) -> Event:
    if row["report"]:
        return UnitReport.from_json(row["report"])
    return Failure(unit=int(row["unit"]), reason=row["reason"], is_final=bool(row["is_final"]))


@contextmanager
def _hushed() -> Iterator[None]:
    """Keeps off stderr what Ray's own C++ writes there, whatever its level; errors are raised."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _import() -> Any:
    # Ray and its Data say a great deal of themselves, and none of it is of the extraction.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise InputError("the engine 'ray' needs Ray: pip install 'viq[ray]'") from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray
