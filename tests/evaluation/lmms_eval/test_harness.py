"""lmms-eval with our adapter finds what our own code finds; recorded, and live where it is."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viq.evaluation.benchmarks import load_benchmark

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def harness():
    """The module ``harness.py`` beside this file."""
    spec = importlib.util.spec_from_file_location("harness", FOLDER / "harness.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["harness"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def prepared(harness, tmp_path_factory):
    return harness.prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def recorded():
    return json.loads((FOLDER / "recorded.json").read_text("utf-8"))


@pytest.fixture
def python(request):
    """The interpreter that was named."""
    path = request.config.getoption("lmms_eval_python", None)
    if path is None:
        pytest.skip("no interpreter with lmms-eval; name one: --lmms-eval-python PATH")
    return path


def test_answers_are_those_of_our_evaluation(harness, prepared, recorded):
    assert harness.own_answers(*prepared) == recorded["answers"]


def test_scores_are_those_of_our_benchmark(prepared, recorded):
    task = load_benchmark("docvqa", prepared[1])
    answers = recorded["answers"]["docvqa"]
    scores = [task.score(item, one) for item, one in zip(task.items(None), answers, strict=True)]
    assert scores == recorded["anls"] == [1, 0, 1, 0]
    assert recorded["exact_match"] == pytest.approx(2 / 3)


def test_losses_are_those_of_our_evaluation_and_the_least_counts(harness, prepared, recorded):
    own = harness.own_losses(prepared[0])
    for losses, expected in zip(own, recorded["losses"], strict=True):
        assert losses == pytest.approx(expected, rel=1e-4)
    # Of the first picture the likeliest word is right, of the second the least likely one.
    assert recorded["acc"] == 1 / 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_real_harness_finds_what_is_recorded(harness, recorded, python, tmp_path):
    found = harness.find(python, tmp_path)
    for losses, expected in zip(found.pop("losses"), recorded["losses"], strict=True):
        assert losses == pytest.approx(expected, rel=1e-4)
    assert found == {k: v for k, v in recorded.items() if k != "losses"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_real_harness_goes_on_from_its_cache(harness, prepared, recorded, python, tmp_path):
    run, data = prepared
    data = Path(shutil.copytree(data, tmp_path / "data"))
    tasks, out, cache = (tmp_path / name for name in ("tasks", "out", "cache"))
    tasks.mkdir()
    out.mkdir()
    harness.write_tasks(tasks, data, harness.installed(python)[0])

    def go_on():
        command = (python, run, tasks, out, ["docvqa"], "--use_cache", str(cache))
        return harness.run_harness(*command)[1]["docvqa"]

    def asked():
        kept = cache / "runs" / harness.RUN / "rank_0.audit.jsonl"
        return len(kept.read_text("utf-8").splitlines())

    (file,) = (data / "DocVQA").rglob("*.parquet")
    whole = pq.read_table(file)
    rows = whole.to_pylist()
    rows[3]["image"]["bytes"] = b"no picture"
    pq.write_table(pa.Table.from_pylist(rows, whole.schema), file)
    with pytest.raises(RuntimeError, match="cannot identify image file"):
        go_on()
    assert asked() == harness.BATCH  # the first batch was kept
    pq.write_table(whole, file)
    answers = [sample["filtered_resps"].strip() for sample in go_on()]
    assert answers == recorded["answers"]["docvqa"]
    assert asked() == len(rows)
