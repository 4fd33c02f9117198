"""The nine benchmarks of the paper's main table, read from local copies of their data sets."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from viq.errors import InputError
from viq.evaluation.benchmarks.answers import (
    CHARTQA,
    DOCVQA,
    INFOVQA,
    OCRBENCH,
    SIMPLEVQA,
    TEXTVQA,
)
from viq.evaluation.benchmarks.benchmark import Benchmark, BenchmarkTask
from viq.evaluation.benchmarks.choices import AI2D, MMSTAR
from viq.evaluation.benchmarks.mmmu import MMMU

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkTask", "load_benchmark"]

BENCHMARKS: Mapping[str, Benchmark] = {  # in the paper's order
    benchmark.name: benchmark
    for benchmark in (
        *(MMSTAR, MMMU, SIMPLEVQA, INFOVQA, TEXTVQA, DOCVQA),
        *(OCRBENCH, AI2D, CHARTQA),
    )
}


def load_benchmark(name: str, folder: Path) -> BenchmarkTask:
    """A benchmark's task, from a folder that holds a folder for each data set.

    Raises:
        InputError: there is no such benchmark, or its data set is not there, not whole, or another.
    """
    if name not in BENCHMARKS:
        close = get_close_matches(name, BENCHMARKS, n=1)
        advice = f"; did you mean {close[0]!r}?" if close else ";"
        raise InputError(f"no benchmark named {name!r}{advice} there are: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name].load(folder)
