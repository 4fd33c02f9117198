"""Samples: what an evaluation has finished outlives it."""

import json
import math
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from viq.errors import InputError
from viq.evaluation.samples import SETTINGS, Samples

ASKED = {"seed": 0, "tasks": ["words", "lines"], "model": {"name": "nano", "fingerprint": "ab12"}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results" / "understanding"


def add(folder, records, part="nano", asked=ASKED):
    with Samples.open(folder, asked) as samples:
        samples.add(part, records)


def read(folder, part="nano"):
    with Samples.open(folder, ASKED) as samples:
        return dict(samples.of(part))


def file_of(folder):
    (file,) = (folder / "samples").glob("*.jsonl")
    return file


def test_what_is_added_is_there_at_once_and_in_the_next_run(folder):
    records = {"a": {"score": 0.1 + 0.2, "answer": "ja"}, "b": {"score": 1, "answer": None}}
    expected = {name: {"id": name, **record} for name, record in records.items()}
    with Samples.open(folder, ASKED) as samples:
        assert samples.of("nano") == {}
        samples.add("nano", records)
        assert samples.of("nano") == expected
        assert samples.of("no image") == {}
    assert read(folder) == expected
    assert list(read(folder)) == ["a", "b"]


def test_the_records_of_one_run_are_those_that_json_gives_the_next(folder):
    with Samples.open(folder, ASKED) as samples:
        samples.add("nano", {"a": {"pair": (1, 2), "by": {3: "x"}, "psnr": math.inf}})
        now = dict(samples.of("nano"))
    assert (
        now
        == read(folder)
        == {"a": {"id": "a", "pair": [1, 2], "by": {"3": "x"}, "psnr": math.inf}}
    )


@pytest.mark.parametrize(
    "text",
    ["one\u2028two\u2029three", "a\nb\r\nc\x0bd\x0ce\x85f\x1cg", '"\\', "日本", "\udcff", ""],
)
def test_any_text_is_one_line_and_comes_back(text, folder):
    add(folder, {f"id {text}": {"answer": text}, "next": {"answer": "x"}}, part=f"part {text}")
    assert read(folder, f"part {text}") == {
        f"id {text}": {"id": f"id {text}", "answer": text},
        "next": {"id": "next", "answer": "x"},
    }
    assert file_of(folder).read_bytes().count(b"\n") == 2


def test_every_torn_end_loses_its_own_sample_and_no_other(folder):
    add(folder, {"a": {"answer": "ä"}, "b": {"answer": "ö"}})
    file = file_of(folder)
    data = file.read_bytes()
    first = data.index(b"\n") + 1
    for end in range(first, len(data)):
        file.write_bytes(data[:end])
        with Samples.open(folder, ASKED) as samples:
            assert list(samples.of("nano")) == ["a"]
            samples.add("nano", {"b": {"answer": "ö"}})
        assert file.read_bytes() == data


def test_a_damaged_line_is_named(folder):
    add(folder, {"a": {}, "b": {}, "c": {}})
    file = file_of(folder)
    lines = file.read_bytes().splitlines(keepends=True)
    for damaged in (
        b"{}\n",
        b"[1]\n",
        b'{"id": [1]}\n',
        b"\n",
        b'{"id": "\xff"}\n',
        b"7\n",
        b"[" * 9**5 + b"\n",
    ):
        file.write_bytes(lines[0] + damaged + lines[2])
        with pytest.raises(InputError) as error:
            read(folder)
        assert str(error.value) == f"{file}: line 2 is damaged; remove it to do it again"


def test_other_settings_are_refused_with_both_values(folder):
    add(folder, {"a": {}})
    before = file_of(folder).read_bytes()
    for asked, name, was, now in [
        ({**ASKED, "seed": 1}, "seed", "0", "1"),
        ({k: v for k, v in ASKED.items() if k != "seed"}, "seed", "0", "null"),
        ({**ASKED, "limit": 200}, "limit", "null", "200"),
        ({**ASKED, "tasks": ["wörter"]}, "tasks", '["words", "lines"]', '["wörter"]'),
    ]:
        with pytest.raises(InputError) as error:
            add(folder, {"b": {}}, asked=asked)
        assert str(error.value) == (
            f"{folder}: the evaluation here was begun with {name} {was}, this one has {now};"
            " give the same, or another --out"
        )
    assert file_of(folder).read_bytes() == before


def test_long_settings_are_cut_short_in_the_message(folder):
    add(folder, {})
    with pytest.raises(InputError, match=r'has \["word", .{100,120}\.\.\.; give the same'):
        add(folder, {}, asked={**ASKED, "tasks": ["word"] * 100})


def test_tuples_are_the_lists_that_json_makes_of_them(folder):
    add(folder, {"a": {}}, asked={**ASKED, "tasks": ("words", "lines")})
    assert list(read(folder)) == ["a"]


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "[" * 100_000])
def test_damaged_settings_are_named(content, folder):
    add(folder, {})
    (folder / SETTINGS).write_text(content)
    with pytest.raises(InputError) as error:
        read(folder)
    assert str(error.value) == (
        f"{folder / SETTINGS}: not the settings of an evaluation, or damaged; remove the"
        " folder, or give another --out"
    )


@pytest.mark.parametrize(
    ("records", "error", "message"),
    [
        ({"new": {}, "a": {}}, ValueError, "sample 'a' is there already."),
        ({"new": {}, "b": {"id": "c"}}, ValueError, "sample 'b' has the id 'c' in its record."),
        ({"new": {}, "b": {"x": object()}}, TypeError, "not JSON serializable"),
    ],
)
def test_of_records_one_of_which_is_refused_none_is_kept(records, error, message, folder):
    with Samples.open(folder, ASKED) as samples:
        samples.add("nano", {"a": {"score": 1}})
        with pytest.raises(error, match=message):
            samples.add("nano", records)
        assert list(samples.of("nano")) == ["a"]
    assert list(read(folder)) == ["a"]


def test_a_full_disk_names_the_file_and_leaves_no_half_line(folder):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Samples.open(folder, ASKED) as samples:
        samples.add("nano", {"a": {}})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            with pytest.raises(OSError, match="File too large") as error:
                samples.add("nano", {"b": {"answer": "x" * 1000}})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert error.value.filename == str(file_of(folder))
        assert error.value.strerror == "cannot be written: File too large"
        assert list(samples.of("nano")) == ["a"]
        samples.add("nano", {"b": {}})
    assert list(read(folder)) == ["a", "b"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
def test_a_full_disk_says_what_to_do(folder):
    with Samples.open(folder, ASKED) as samples:
        assert samples.of("nano") == {}
        file = folder / "samples" / "nano.jsonl"
        file.symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left on device; free some and repeat") as error:
            samples.add("nano", {"a": {}})
    assert error.value.filename == str(file)


def test_a_record_may_carry_its_own_name(folder):
    add(folder, {"a": {"id": "a", "score": 1}})
    assert read(folder) == {"a": {"id": "a", "score": 1}}


def test_parts_never_share_a_file(folder):
    parts = ["runs/a", "runs_a", "runs:a", "../a", "a" * 300, "a" * 301, "/", "\\", "é", "e\u0301"]
    with Samples.open(folder, ASKED) as samples:
        for number, part in enumerate(parts):
            samples.add(part, {"x": {"number": number}})
    assert [read(folder, part)["x"]["number"] for part in parts] == list(range(len(parts)))
    assert len(list((folder / "samples").glob("*.jsonl"))) == len(parts)
    assert sorted(path.name for path in folder.iterdir()) == ["samples", SETTINGS]


def test_a_plain_part_is_its_files_name(folder):
    add(folder, {"a": {}}, part="nano-quantised_words.v2=1")
    assert file_of(folder).name == "nano-quantised_words.v2=1.jsonl"


HOLD = """
import sys
from pathlib import Path
from viq.evaluation.samples import Samples
with Samples.open(Path(sys.argv[1]), {}) as samples:
    samples.add("nano", {"a": {}})
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_goes_on_where_the_first_was_killed(folder):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        try:
            assert first.stdout.readline() == b"open\n"
            with pytest.raises(InputError) as error:
                add(folder, {"b": {}}, asked={})
        finally:
            first.send_signal(signal.SIGKILL)
    assert str(error.value) == f"{folder}: another evaluation is writing here"
    with Samples.open(folder, {}) as samples:
        assert list(samples.of("nano")) == ["a"]
        samples.add("nano", {"b": {}})
        assert list(samples.of("nano")) == ["a", "b"]


def test_settings_can_be_read_by_others(folder):
    add(folder, {})
    assert json.loads((folder / SETTINGS).read_text("utf-8")) == ASKED
