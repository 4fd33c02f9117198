"""Asking all questions of a task, stopped anywhere and gone on with."""

from dataclasses import dataclass, field
from itertools import chain

import pytest
import torch

from viq.evaluation.samples import Samples
from viq.evaluation.task import Item
from viq.evaluation.understanding import runner
from viq.evaluation.understanding.answerer import Answerer, Question
from viq.evaluation.understanding.results import probe_result, seen_part
from viq.evaluation.understanding.runner import ask, item_of, probe
from viq.mllm import MultimodalConfig, MultimodalModel


@dataclass
class Letters:
    """Items of texts; the answers' lengths are the scores."""

    texts: list[str]
    way: str = "write"
    name: str = "letters"
    max_new_tokens: int = 4
    broken: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()

    def items(self, count):
        return [self._item(place, text) for place, text in enumerate(self.texts[:count])]

    def _item(self, place, text):
        return Item(
            id=f"n{place}",
            images=(b"no picture",) if place in self.broken else (),
            content=(
                *([{"type": "image"}] if place in self.broken else []),
                {"type": "text", "text": text},
            ),
            answers=(text,),
            choices=("a", "b") if self.way == "rank" else (),
            facts={"place": place},
        )

    def score(self, item, answer):
        return 1 / (1 + len(answer) + item.facts["place"])

    def measures(self, item, answer):
        return {"length": len(answer)}


@pytest.fixture(scope="module")
def model() -> MultimodalModel:
    torch.manual_seed(0)
    return MultimodalModel.build(MultimodalConfig(lm="tiny", width=4, adapter=None))


@dataclass
class Counting:
    """An answerer that notes what it is asked, and can stop."""

    answerer: Answerer
    stop_after: int = 10**6  # batches
    batches: list[list[Question]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def read(self, item, room):
        return self.answerer.read(item, room)

    def write(self, questions, max_new_tokens):
        self._note(questions)
        return self.answerer.write(questions, max_new_tokens)

    def rank(self, questions):
        self._note(questions)
        return self.answerer.rank(questions)

    def _note(self, questions):
        if len(self.batches) == self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(questions)

    @property
    def asked(self) -> int:
        return sum(map(len, self.batches))


def run(task, model, folder, count=None, **options):
    answerer, steps = Counting(Answerer(model), **options), []
    try:
        with Samples.open(folder, {}) as samples:
            answerer.failed = ask(
                task, count, answerer, samples, "part", batch=3, progress=steps.append
            )
    except KeyboardInterrupt:
        pass
    with Samples.open(folder, {}) as samples:
        return samples.of("part"), answerer, sum(steps)


def test_each_item_gets_a_record(model, tmp_path):
    task = Letters(["one", "two two", "three", "4"])
    records, answerer, steps = run(task, model, tmp_path)
    assert (answerer.asked, steps) == (4, 4)
    assert set(records) == {"n0", "n1", "n2", "n3"}
    record = records["n1"]
    assert record == {
        "id": "n1",
        "place": 1,
        "question": "two two",
        "right": ["two two"],
        "facts": {"place": 1},
        "answer": record["answer"],
        "score": 1 / (2 + len(record["answer"])),
        "measures": {"length": len(record["answer"])},
    }
    assert item_of(record) == task.items(None)[1]
    assert len({record["answer"] for record in records.values()}) > 1


def test_of_ranked_choices_the_likeliest_is_the_answer(model, tmp_path):
    records, _, _ = run(Letters(["one", "two"], way="rank"), model, tmp_path)
    for record in records.values():
        likelihoods = dict(zip(record["choices"], record["likelihoods"], strict=True))
        assert len(set(likelihoods.values())) == 2
        assert record["answer"] == max(likelihoods, key=likelihoods.get)


def test_batches_are_of_like_lengths_and_the_same_question_is_asked_once(model, tmp_path):
    task = Letters(["a", "bbbb", "a", "cc", "ddddd", "a", "ee"])
    records, answerer, _ = run(task, model, tmp_path)
    lengths = [[question.length for question in batch] for batch in answerer.batches]
    assert [len(batch) for batch in lengths] == [3, 2]
    flat = [*chain.from_iterable(lengths)]
    assert flat == sorted(flat, reverse=True)
    assert len({records[name]["answer"] for name in ("n0", "n2", "n5")}) == 1
    assert len(records) == 7


def test_items_that_cannot_be_read_are_named_and_tried_again(model, tmp_path):
    texts = ["a", "bb", "ccc"]
    for _ in range(2):
        records, answerer, steps = run(Letters(texts, broken=(1,)), model, tmp_path)
        assert list(answerer.failed) == ["n1"]
        assert answerer.failed["n1"].startswith("not a readable image")
        assert (set(records), steps) == ({"n0", "n2"}, 3)
    records, answerer, steps = run(Letters(texts), model, tmp_path)  # it has come back
    assert (answerer.failed, set(records), steps) == ({}, {"n0", "n1", "n2"}, 3)
    alone, _, _ = run(Letters(texts), model, tmp_path / "alone")
    assert records["n1"] == alone["n1"]


@pytest.mark.parametrize("way", ["write", "rank"])
def test_questions_that_are_too_long_score_nothing(model, tmp_path, way):
    task = Letters(["a", "b" * 2100, "c"], way=way)
    for _ in range(2):
        records, answerer, steps = run(task, model, tmp_path)
        assert (answerer.failed, steps) == ({}, 3)
    assert answerer.asked == 0
    record = records["n1"]
    assert (record["score"], record["answer"], record["right"]) == (0, "", ["b" * 2100])
    assert record["too_long"].startswith("takes 2,1")
    assert record["measures"] == {"length": 0}
    assert item_of(record) == task.items(None)[1]
    assert "too_long" not in records["n0"]
    assert records["n0"]["score"] > 0


class Torn:
    """A probe of four pictures, some of which cannot be read."""

    def __init__(self, torn):
        self.torn, self.fits = torn, 0

    def look(self, name, subject, look):
        return {f"p{i}": "torn" for i in range(self.torn)}

    def records(self, name, subject, look):
        self.fits += 1
        return {f"p{i}": {"place": i, "score": 1.0, "right": "3"} for i in range(self.torn, 4)}


def test_a_probe_is_fitted_anew_when_more_pictures_can_be_read(tmp_path):
    with Samples.open(tmp_path, {}) as samples:
        for torn, fits, scored in ((2, 1, 2), (2, 0, 2), (1, 1, 3), (0, 1, 4), (0, 0, 4)):
            probing = Torn(torn)
            failed = probe(
                probing, "probe-shape", "m", None, samples, seen_part("m", "probe-shape")
            )
            assert len(failed) == torn
            assert probing.fits == fits
            found = probe_result(samples, "m", "probe-shape")
            assert (len(found.scores), found.failed) == (scored, torn)


@pytest.mark.parametrize("stop_after", range(4))
def test_a_stopped_run_goes_on_with_the_same_batches(model, tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(runner, "WINDOW", 5)
    task = Letters(["a", "bb", "ccc", "dddd", "x", "fff", "gg", "h", "iiii"], broken=(4,))
    whole, uninterrupted, _ = run(task, model, tmp_path / "whole")
    before, first, _ = run(task, model, tmp_path / "parts", stop_after=stop_after)
    after, second, steps = run(task, model, tmp_path / "parts")
    assert dict(after) == dict(whole)
    assert first.asked + second.asked == uninterrupted.asked == 8  # nothing twice
    assert steps == len(task.texts)  # the bar begins where the run was stopped
    batches = [[q.tensors["input_ids"].tolist() for q in b] for b in first.batches + second.batches]
    assert batches == [[q.tensors["input_ids"].tolist() for q in b] for b in uninterrupted.batches]
    assert len(before) < len(after)


def test_a_batch_that_was_half_kept_is_asked_again_as_a_whole(model, tmp_path):
    """As after a crash in the middle of writing; its finished items keep their records."""
    task = Letters(["a", "bb", "ccc"])
    whole, _, _ = run(task, model, tmp_path)
    path = next((tmp_path / "samples").glob("*.jsonl"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1]) + lines[1][:20])
    again, answerer, _ = run(task, model, tmp_path)
    assert dict(again) == dict(whole)
    assert [len(batch) for batch in answerer.batches] == [3]
    assert path.read_text().splitlines(keepends=True) == lines


def test_a_finished_run_asks_nothing(model, tmp_path):
    task = Letters(["a", "bb", "ccc"])
    run(task, model, tmp_path)
    _, answerer, steps = run(task, model, tmp_path)
    assert (answerer.asked, steps) == (0, 3)
