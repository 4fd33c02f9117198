"""The nine benchmarks: questions and scores as lmms-eval's own, and what is said of bad data."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.evaluation.benchmarks.documents import FILES, ROWS, picture, write
from viq.errors import InputError
from viq.evaluation.benchmarks import BENCHMARKS, load_benchmark

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text("utf-8"))["benchmarks"]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with all nine data sets, which tests leave as they are."""
    folder = tmp_path_factory.mktemp("data")
    write(folder)
    return folder


@pytest.fixture
def own(data, tmp_path):
    """A copy of it."""
    return shutil.copytree(data, tmp_path / "data")


def message(name, folder):
    with pytest.raises(InputError) as caught:
        list(load_benchmark(name, folder).items(None))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_are_the_papers_nine():
    assert list(BENCHMARKS) == [
        *("mmstar", "mmmu", "simplevqa", "infovqa", "textvqa", "docvqa"),
        *("ocrbench", "ai2d", "chartqa"),
    ]
    assert all(name == benchmark.name for name, benchmark in BENCHMARKS.items())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_is_lmms_evals_data_set(name):
    benchmark, recorded = BENCHMARKS[name], RECORDED[name]
    assert benchmark.repository == recorded["repository"]
    assert benchmark.config == recorded["config"]
    assert benchmark.split == recorded["split"]
    if recorded["max_new_tokens"] is not None:
        assert benchmark.max_new_tokens == recorded["max_new_tokens"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_questions_are_lmms_evals(data, name):
    items = load_benchmark(name, data).items(None)
    asked = [[part.get("text") for part in item.content] for item in items]
    assert asked == [item["content"] for item in RECORDED[name]["items"]]
    assert all({p["type"] for p in item.content} <= {"text", "image"} for item in items)
    assert len({item.id for item in items}) == len(items) == len(ROWS[name])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_scores_are_lmms_evals(data, name):
    task = load_benchmark(name, data)
    scores = []
    for item, recorded in zip(task.items(None), RECORDED[name]["items"], strict=True):
        for reply, score in recorded["scores"].items():
            if score is None:  # drawn there, a draw's mean here
                score = 1 / len(item.facts["options"])
            scores.append(score)
            assert task.score(item, reply) == pytest.approx(score, abs=1e-12), (item, reply)
    assert 0 < sum(scores) < len(scores)  # some are right, and some wrong


@pytest.mark.parametrize("name", BENCHMARKS)
def test_pictures_are_the_rows_in_their_order(data, name):
    for number, item in enumerate(load_benchmark(name, data).items(None)):
        images = [part for part in item.content if part["type"] == "image"]
        assert len(item.images) == len(images) > 0
        for encoded in item.images:
            read = np.asarray(Image.open(io.BytesIO(encoded)))
            assert np.array_equal(read, np.asarray(picture(number)))


def test_some_items_are_always_the_same_ones_in_the_datas_order(data):
    task = load_benchmark("mmmu", data)
    everything = list(task.items(None))
    chosen = []
    for count in range(1, 7):
        some = task.items(count)
        assert len(some) == count
        places = [everything.index(item) for item in some]
        assert places == sorted(set(places))
        assert not chosen or {*chosen[-1]} < {*places}
        chosen.append(places)
    assert chosen[1] == [2, 4]  # golden: other releases must not choose others
    assert list(task.items(1000)) == everything
    assert list(task.items(4)[1:3]) == [everything[n] for n in chosen[3][1:3]]
    assert task.items(4)[-1] == everything[chosen[3][-1]]
    with pytest.raises(IndexError):
        task.items(4)[4]


def test_scores_can_be_broken_down(data):
    parts = {
        name: [[item.facts[p] for p in task.parts] for item in task.items(None)]
        for name in BENCHMARKS
        if (task := load_benchmark(name, data)).parts
    }
    subjects = ["Art", "Clinical_Medicine", "Music", "Math", "History", "Art_Theory"]
    assert parts == {
        "mmstar": [["coarse perception", "image emotion"], ["math", "geometry"]],
        "mmmu": [[subject] for subject in subjects],
        "ocrbench": [[row["question_type"]] for row in ROWS["ocrbench"]],
        "chartqa": [["human"], ["augmented"], ["human"]],
    }


@pytest.mark.parametrize("name", BENCHMARKS)
def test_chance_is_a_draw_or_the_best_constant_answer(data, name):
    task = load_benchmark(name, data)
    items = task.items(None)
    guess = sum(map(BENCHMARKS[name].guess, items)) / len(items)
    constants = [
        sum(task.score(item, answer) for item in items) / len(items)
        for answer in {answer for item in items for answer in item.answers}
    ]
    assert task.chance(items) == max(guess, *constants) > 0
    with pytest.raises(ValueError, match="no items"):
        task.chance([])


def test_a_draw_counts_where_it_is_better_than_any_letter(data):
    task = load_benchmark("ai2d", data)
    (one, *_) = task.items(None)
    every = [replace(one, answers=(letter,)) for letter in "ABCD"]
    assert task.chance(every) == 1 / 4
    assert task.chance(every[:1]) == 1
    two = [replace(one, answers=(letter,), facts={"choices": 2}) for letter in "ABCD"]
    assert task.chance(two) == 1 / 2


@pytest.mark.parametrize(
    ("name", "column"),
    [("docvqa", "questionId"), ("textvqa", "question_id"), ("mmstar", "index"), ("mmmu", "id")],
)
def test_ids_that_occur_twice_are_told_apart(own, name, column):
    file = own / FILES[name]
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows = [*rows, rows[0] | {"question": "Another?"}, rows[0]]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file, row_group_size=2)
    items = load_benchmark(name, own).items(None)
    first = str(rows[0][column])
    assert [item.id for item in items[-2:]] == [f"{first}#2", f"{first}#3"]
    assert items[0].id == first
    assert items[-2].content != items[0].content
    some = load_benchmark(name, own).items(2)  # the same names, whichever are drawn
    assert {item.id for item in some} <= {item.id for item in items}


def test_data_are_known_by_their_files(own):
    before = load_benchmark("docvqa", own).identity()
    assert before["rows"] == 2
    assert not any(str(own) in str(value) for value in before.values())
    file = own / FILES["docvqa"]
    table = pq.read_table(file)
    pq.write_table(pa.concat_tables([table, table]), file)
    assert load_benchmark("docvqa", own).identity() != before


def test_a_damaged_column_of_ids_is_named(own):
    file = own / FILES["mmmu"]
    data = bytearray(file.read_bytes())
    data[4:400] = b"\xff" * 396
    file.write_bytes(data)
    assert f"{file}: its column id is not readable (" in message("mmmu", own)


def test_facts_are_json(data):
    for name in BENCHMARKS:
        for item in load_benchmark(name, data).items(None):
            assert json.loads(json.dumps(item.facts)) == item.facts


def test_a_row_group_at_a_time_is_read(data, monkeypatch):
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, number, *rest: read.append(number) or original(self, number, *rest),
    )
    items = load_benchmark("mmmu", data).items(None)
    assert read == []
    assert items[5].id == "validation_Art_Theory_9"
    assert read == [2]  # the last two rows
    list(items)
    assert read == [2, 0, 1, 2]


def test_shards_are_read_in_order_and_a_repository_has_any_case(own):
    folder = own / "ChartQA" / "data"
    whole = pq.read_table(folder / "test-00000-of-00001.parquet")
    pq.write_table(whole[2:], folder / "test-00001-of-00002.parquet")
    pq.write_table(whole[:2], folder / "test-00000-of-00002.parquet")
    pq.write_table(whole[:0], folder / "train-00000-of-00001.parquet")
    (folder / "test-00000-of-00001.parquet").unlink()
    (own / "ChartQA").rename(own / "chartqa")
    (own / "chartqa" / ".cache" / "data").mkdir(parents=True)
    (own / "chartqa" / ".cache" / "data" / "test-00000-of-00002.parquet").write_bytes(b"half")
    items = load_benchmark("chartqa", own).items(None)
    assert [item.id for item in items] == ["0", "1", "2"]
    assert [item.answers[0] for item in items] == ["42", "0.425", "Yes"]


def test_the_hubs_own_conversion_is_read(own):
    (own / "ai2d" / "default" / "test").mkdir(parents=True)
    shutil.move(own / FILES["ai2d"], own / "ai2d" / "default" / "test" / "0000.parquet")
    assert len(load_benchmark("ai2d", own).items(None)) == 2


def test_unknown_names_are_told_the_known(data):
    with pytest.raises(InputError, match=r"no benchmark named 'mmsta'; did you mean 'mmstar'\?"):
        load_benchmark("mmsta", data)
    with pytest.raises(InputError, match="no benchmark named 'x'; there are: mmstar, mmmu, "):
        load_benchmark("x", data)


def test_what_is_not_there_is_named_with_how_to_get_it(own):
    advice = "hf download --repo-type dataset lmms-lab-encoder/ai2d --local-dir DATA/ai2d"
    shutil.rmtree(own / "ai2d" / "data")
    says = message("ai2d", own)
    assert "holds no Parquet files of the split test, none at all; get it by: " + advice in says
    shutil.rmtree(own / "ai2d")
    assert f"{own}: has no folder ai2d, in any case; get it by: {advice}" == message("ai2d", own)
    assert "no such folder" in message("ai2d", own / "nowhere")


def test_a_wrong_split_is_named(own):
    file = own / FILES["mmmu"]
    file.rename(file.with_name("dev-00000-of-00001.parquet"))
    assert "no Parquet files of the split validation, only of dev; " in message("mmmu", own)


def test_a_wrong_config_is_named(own):
    shutil.rmtree(own / "DocVQA" / "InfographicVQA")
    says = message("infovqa", own)
    assert "holds no Parquet files in a folder InfographicVQA, only in: DocVQA; get it" in says
    assert len(load_benchmark("docvqa", own).items(None)) == 2


def test_a_download_that_is_not_whole_is_refused(own):
    file = own / FILES["textvqa"]
    file.rename(file.with_name("validation-00000-of-00003.parquet"))
    assert "holds 1 of 3 files; get it by: hf download" in message("textvqa", own)


def test_a_missing_column_is_named(own):
    file = own / FILES["chartqa"]
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["type"]), file)
    assert message("chartqa", own) == (
        f"{file}: has no column type, so it is not the split test of lmms-lab-encoder/ChartQA;"
        " its columns: question, answer, image"
    )
    pq.write_table(table[:0], file)
    assert "holds no rows, so it is not the split test of" in message("chartqa", own)


def test_damaged_files_are_named(own):
    file = own / FILES["docvqa"]
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert f"{file}: not a readable Parquet file (" in message("docvqa", own)


@pytest.mark.parametrize(
    ("name", "cells", "says"),
    [
        ("mmstar", {"question": None}, "row 0: its question is None, not text"),
        ("docvqa", {"answers": []}, "row 0: its answers are [], not a list of texts"),
        ("docvqa", {"image": None}, "row 0: its image is None, not a picture"),
        ("simplevqa", {"image": "a.png"}, "row 0: its image is text, but not base64"),
        ("ai2d", {"answer": "4"}, "row 0: its answer is '4', but it has 4 options"),
        ("mmmu", {"options": "A, B"}, "row 0: its options are 'A, B', not a list"),
        ("mmmu", {"question": "<image 9>"}, "its question is of image 9, which there is not"),
        ("mmmu", {"image_1": None}, "row 0: its image_1 is None, not a picture"),
        ("mmmu", {"id": "Art"}, "row 0: its id is 'Art', not like validation_Art_1"),
    ],
)
def test_rows_that_are_otherwise_are_named(own, name, cells, says):
    file = own / FILES[name]
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[0] |= cells
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    assert f"{file}: " in message(name, own)
    assert says in message(name, own)
