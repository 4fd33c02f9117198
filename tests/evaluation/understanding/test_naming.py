"""Ranked tasks, of captioned pictures and of digits; and which tasks can be had."""

import io
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from viq.errors import InputError
from viq.evaluation.understanding.naming import CHOICES, digits, naming
from viq.evaluation.understanding.suite import NAMES, choose

KINDS = {
    "emoji": [f"thing {letter}; tag, another" for letter in "abcdefg"],
    "flag": [f"the flag of {letter}." for letter in "abcd"],  # too few
    "plot": [f"plot: {letter}" for letter in "abcdef"],  # nothing that is named
    "clipart": ["cat", "Cat", "dog", "man", "sun", "x" * 90, "car", "car", "", "cup"],
}


TRAINED = [("emoji", "Thing A ; other tags"), ("clipart", "MAN. "), ("clipart", None)]


def table(captions) -> pa.Table:
    rows = []
    for kind, caption in captions:
        file = io.BytesIO()
        Image.new("RGB", (32, 40), (len(rows) * 5 % 256, 99, len(rows))).save(file, "PNG")
        image = {"bytes": file.getvalue(), "path": None}
        rows.append({"image": image, "caption": caption, "kind": kind})
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Train and validation pictures with captions; two of the names are in both."""
    folder = tmp_path_factory.mktemp("captioned")
    captions = [(kind, caption) for kind, some in KINDS.items() for caption in some]
    for split, some in (("train", TRAINED), ("validation", captions)):
        pq.write_table(table(some), folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_choices_are_names_of_the_kind_with_the_right_one(folder):
    items = list(naming(folder).items(None))
    assert {one.facts["kind"] for one in items} == {"emoji", "clipart"}
    emoji = [one for one in items if one.facts["kind"] == "emoji"]
    assert sorted(one.answers[0] for one in emoji) == [f"thing {letter}" for letter in "bcdefg"]
    assert not any("man" in one.choices or "thing a" in one.choices for one in items)
    for one in items:
        assert len({choice.lower() for choice in one.choices}) == CHOICES
        assert one.choices.count(one.answers[0]) == 1
        assert all(len(choice) < 60 for choice in one.choices)
        Image.open(io.BytesIO(one.images[0])).load()
    places = {one.choices.index(one.answers[0]) for one in items}
    assert len(places) > 2
    assert [one.facts["kind"] for one in items] != sorted(one.facts["kind"] for one in items)


def test_items_and_chance_are_always_the_same(folder):
    task = naming(folder)
    assert list(task.items(5)) == list(naming(folder).items(None))[:5]
    assert task.chance(task.items(None)) == pytest.approx(1 / CHOICES)
    one = task.items(1)[0]
    assert [task.score(one, choice) for choice in one.choices].count(1) == 1
    with pytest.raises(ValueError, match="no items"):
        task.chance([])


def test_a_folder_without_names_says_what_is_needed(folder, tmp_path):
    rows = pq.read_table(next(folder.glob("validation*"))).to_pylist()
    few = [row for row in rows if row["kind"] in ("flag", "plot")]
    pq.write_table(pa.Table.from_pylist(few), tmp_path / "validation.parquet")
    with pytest.raises(InputError, match=f"^{tmp_path}: has no validation pictures to name: of a"):
        naming(tmp_path)
    for row in few:
        del row["kind"]  # then any caption is a name
    pq.write_table(pa.Table.from_pylist(few), tmp_path / "validation.parquet")
    assert len(naming(tmp_path).items(None)) == 10


def test_digits_are_ranked_among_ten():
    task = digits()
    assert len(task.items(None)) == 1000
    one = task.items(3)[2]
    assert one.choices == tuple("0123456789")
    assert one.answers[0] in one.choices
    assert task.chance([one]) == pytest.approx(0.1)
    assert len({item.answers[0] for item in task.items(60)}) == 10


def test_all_of_a_suite_that_can_be_had_is_chosen(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)  # as if it were not installed
    found = choose(["offline"], data=None, pictures=folder, missing=lambda name: None)
    assert [task.name for task in found.tasks["offline"]] == [
        name for name in NAMES["offline"] if name != "digits"
    ]
    assert found.notes[0].startswith("Left out is digits: ")
    total = sum(map(len, KINDS.values()))
    assert found.notes[1:] == [
        f"Captioned pictures: 2 of {total} validation pictures are left out, as the name in their"
        " caption is a train picture's, too."
    ]
    without = choose(["offline"], data=None, pictures=None, missing=lambda name: None)
    assert len(without.tasks["offline"]) == len(NAMES["offline"]) - 2
    assert without.notes[1:] == [
        "Left out is naming: it needs --pictures, a folder of captioned ones."
    ]
    with pytest.raises(InputError, match=r"needs a package: pip install 'viq\[eval\]'"):
        choose(["digits"], data=None, pictures=None, missing=lambda name: None)


def test_without_train_pictures_it_is_said_that_nothing_was_checked(folder, tmp_path):
    pq.write_table(pq.read_table(next(folder.glob("validation*"))), tmp_path / "validation.parquet")
    found = choose(["naming"], data=None, pictures=tmp_path, missing=lambda name: None)
    assert "could not be checked, as there are no train*.parquet" in found.notes[0]
    assert len(found.tasks["offline"][0].items(None)) == len(naming(folder).items(None)) + 2
    probes = choose(["retrieval-caption-1"], data=None, pictures=folder, missing=lambda name: None)
    assert "2 of " in probes.notes[0]
    others = choose(["probe-shape"], data=None, pictures=folder, missing=lambda name: None)
    assert others.notes == []


def test_single_tasks_are_chosen_in_the_suites_order():
    found = choose(["charts", "words"], data=None, pictures=None, missing=lambda name: None)
    assert [task.name for task in found.tasks["offline"]] == ["words", "charts"]


def test_probes_that_cannot_be_had_are_left_out():
    def missing(name):
        return "there is no package" if name == "probe-digits" else None

    found = choose(["probes", "words"], data=None, pictures=None, missing=missing)
    assert found.probes == [name for name in NAMES["probes"] if name != "probe-digits"]
    assert found.notes == ["Left out is probe-digits: there is no package."]
    assert list(found.tasks) == ["offline"]
    with pytest.raises(InputError, match=r"^probe-digits: there is no package$"):
        choose(["probe-digits"], data=None, pictures=None, missing=missing)


def test_what_cannot_be_had_says_what_to_give(tmp_path):
    for wanted, message in (
        ("chart", "no task or suite 'chart'; did you mean 'charts'[?] there are: offline, "),
        ("zzzz", "no task or suite 'zzzz'; there are: offline, benchmarks, "),
        ("naming", "naming: it needs --pictures"),
        ("docvqa", "docvqa: it needs --data, a folder with copies of benchmarks"),
        ("benchmarks", "benchmarks: nothing of it can be had. Left out is mmstar: it needs"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            choose([wanted], data=None, pictures=None, missing=lambda name: None)
    with pytest.raises(InputError, match=f"^{tmp_path}: has no folder docvqa"):
        choose(["docvqa"], data=tmp_path, pictures=None, missing=lambda name: None)
