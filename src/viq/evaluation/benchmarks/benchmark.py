"""A benchmark: where its questions lie, how they are asked, and how an answer counts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, overload

from viq.evaluation.benchmarks.rows import Row, Rows, find_files, find_folder
from viq.evaluation.pictures import listing
from viq.evaluation.task import Item, best_constant

Reader = Callable[[Row], Item]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is known of a benchmark without its data.

    Attributes:
        name: of its task.
        title: with the measure.
        metric: the measure.
        repository: of the hub's data set.
        config: the folder of the repository that holds it, where there are several.
        split: that counts.
        columns: that are read.
        id: the column that names a question; None: its row's number does.
        read: makes an item of a row.
        score: in [0, 1], of an answer; both ends of it have no white space.
        max_new_tokens: of an answer.
        parts: the items' facts that a score can be broken down by.
        guess: what a draw among the choices scores, of an item that has choices.
    """

    name: str
    title: str
    metric: str
    repository: str
    config: str | None = None
    split: str
    columns: tuple[str, ...]
    id: str | None = None
    read: Reader
    score: Callable[[Item, str], float]
    max_new_tokens: int
    parts: tuple[str, ...] = ()
    guess: Callable[[Item], float] = lambda _: 0.0

    @property
    def download(self) -> str:
        """What to do to have it."""
        folder = self.repository.split("/")[-1]
        return f"hf download --repo-type dataset {self.repository} --local-dir DATA/{folder}"

    def load(self, data: Path) -> "BenchmarkTask":
        """The task, from a folder that holds a folder for each data set.

        Raises:
            InputError: the data set is not there, not whole, or another.
        """
        advice = f"get it by: {self.download}"
        names = (self.repository.split("/")[-1], self.name)
        folder = find_folder(data, names, advice)
        files = find_files(folder, config=self.config, split=self.split, download=advice)
        expected = f"the split {self.split} of {self.repository}"
        return BenchmarkTask(self, Rows(files, self.columns, expected), folder)


class BenchmarkTask:
    """See ``viq.evaluation.task.Task``."""

    way: Literal["write"] = "write"

    def __init__(self, benchmark: Benchmark, rows: Rows, folder: Path) -> None:
        """For ``Benchmark.load``."""
        self.name, self.title, self.metric = benchmark.name, benchmark.title, benchmark.metric
        self.max_new_tokens, self.parts = benchmark.max_new_tokens, benchmark.parts
        self._benchmark, self._rows, self._folder = benchmark, rows, folder
        self._ids = None if benchmark.id is None else _told_apart(rows.column(benchmark.id))

    def identity(self) -> Mapping[str, Any]:
        """What tells the data from others: their files' names, sizes and rows."""
        names = [file.relative_to(self._folder).as_posix() for file in self._rows.files]
        return {"rows": len(self._rows), **listing(self._folder, names)}

    def items(self, count: int | None) -> Sequence[Item]:
        """All items in the data's order, or ``count`` of them; each is read when it is asked for.

        Data are often sorted, so the ones that count are drawn, always the same ones, and more
        have all of fewer among them.
        """
        rows: Sequence[int] = range(len(self._rows))
        if count is not None and count < len(rows):
            rows = sorted(sorted(rows, key=self._draw)[:count])
        return _Items(rows, self._item)

    def _item(self, number: int) -> Item:
        item = self._benchmark.read(self._rows[number])
        return item if self._ids is None else replace(item, id=self._ids[number])

    def _draw(self, row: int) -> bytes:
        """Puts rows in an order that depends on nothing but their numbers."""
        return blake2b(f"{self.name} {row}".encode(), digest_size=8).digest()

    def score(self, item: Item, answer: str) -> float:
        """How good an answer is, in [0, 1]. White space at its ends does not count."""
        return self._benchmark.score(item, answer.strip())

    def chance(self, items: Sequence[Item]) -> float:
        """A draw among the choices, or the best constant answer if that scores more.

        Raises:
            ValueError: there are no items.
        """
        constant = best_constant(self.score, items)
        return max(constant, sum(map(self._benchmark.guess, items)) / len(items))


def _told_apart(ids: Sequence[str]) -> list[str]:
    """The ids; one that was there before gets its count, so that no two questions are one."""
    counts: Counter[str] = Counter()
    found = []
    for id in ids:
        counts[id] += 1
        found.append(id if counts[id] == 1 else f"{id}#{counts[id]}")
    return found


class _Items(Sequence[Item]):
    """Some rows' items, each made when it is asked for."""

    def __init__(self, numbers: Sequence[int], item: Callable[[int], Item]) -> None:
        self._numbers, self._item = numbers, item

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return _Items(self._numbers[index], self._item)
        return self._item(self._numbers[index])


def question(
    row: Row,
    text: str,
    answers: Sequence[str],
    *,
    facts: Mapping[str, Any] | None = None,
) -> Item:
    """The usual item: one picture, ``image``, and then the text."""
    return Item(
        id=str(row.number),
        images=(row.picture("image"),),
        content=({"type": "image"}, {"type": "text", "text": text}),
        answers=tuple(answers),
        facts=facts or {},
    )
