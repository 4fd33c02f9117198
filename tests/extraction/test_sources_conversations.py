import json
import pickle

import pyarrow as pa
import pytest

from viq.errors import InputError

TURN = pa.struct([("from", pa.string()), ("value", pa.string())])


@pytest.fixture
def write(tmp_path):
    def write(name, rows, lines=False, indent=None):
        path = tmp_path / name
        if lines:
            path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
        else:
            path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), "utf-8")
        return path

    return write


def turns(*texts):
    return [{"from": "gpt" if n % 2 else "human", "value": value} for n, value in enumerate(texts)]


LAYOUTS = pytest.mark.parametrize(
    "layout", [{}, {"indent": 2}, {"lines": True}], ids=["list", "indented", "lines"]
)


@LAYOUTS
def test_rows_come_once_each_in_the_files_order(write, opened, rows, cells, content, png, layout):
    path = write(
        "train.json", [{"id": f"é{n}", "image": f"{n % 3}.png"} for n in range(25)], **layout
    )
    for n in range(3):
        (path.parent / f"{n}.png").write_bytes(png(n))
    source = opened(path, rows_a_unit=10)
    assert [source.rows(unit) for unit in range(source.units)] == [10, 10, 5]
    found = rows(source)
    assert [row.id for row in found] == [f"é{n}" for n in range(25)]
    assert [row.images for row in content(found)] == [(png(n % 3),) for n in range(25)]
    assert cells(found) == [{"id": f"é{n}", "image": f"{n % 3}.png"} for n in range(25)]
    which = "from line 11 on" if "lines" in layout else "rows 10-19"
    assert source.where(1) == f"{path}: {which}"


@LAYOUTS
def test_columns_hold_what_the_rows_hold(write, opened, rows, cells, tmp_path, layout):
    (tmp_path / "a.png").write_bytes(b"a")
    samples = [
        {"id": 1, "conversations": turns("<image> é?", "日本"), "image": ["a.png", "a.png"]},
        {"conversations": turns("1 + 1?", "2"), "width": 3, "image": []},
        {"id": 2**60, "width": 2.5, "empty": None, "flag": True, "nothing": [], "boxes": [[1, 2]]},
    ]
    source = opened(write("a.json", samples, **layout))
    assert source.schema == pa.schema(
        [
            ("id", pa.int64()),
            ("conversations", pa.list_(TURN)),
            ("image", pa.list_(pa.string())),
            ("width", pa.float64()),
            ("empty", pa.string()),
            ("flag", pa.bool_()),
            ("nothing", pa.list_(pa.string())),
            ("boxes", pa.list_(pa.list_(pa.int64()))),
        ]
    )
    found = rows(source)
    assert [row.id for row in found] == ["1", "1", str(2**60)]  # the second one's is its number
    assert [len(row.images) for row in found] == [2, 0, 0]
    keys = source.schema.names
    assert cells(found) == [{key: sample.get(key) for key in keys} for sample in samples]


@pytest.mark.parametrize(
    "values",
    [
        ["a.png", ["a.png", "a.png"]],
        [1, "one"],
        [1, True],
        [2**53 + 1, 0.5],
        [2**63, 1],
        [{"a": 1}, {"a": "é"}],
        [{}, None],
        [[1, "x"]],
        [[{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "image"}]}]],
        [{str(n): n for n in range(101)}],
        [{"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}],
        [[[[[[[[[[1]]]]]]]]]],
    ],
    ids=str,
)
def test_values_that_no_type_holds_are_kept_as_json(write, opened, rows, values):
    path = write("a.json", [{"other": 1}, *({"key": value} for value in values)])
    source = opened(path)
    assert source.schema == pa.schema([("other", pa.int64()), ("key", pa.string())])
    first, *others = rows(source)
    assert first.columns["key"].to_pylist() == [None]
    held = [row.columns["key"][0].as_py() for row in others]
    assert [None if text is None else json.loads(text) for text in held] == values


def test_types_are_those_of_all_rows_not_of_the_first_ones(write, opened):
    samples = [{"n": 1} for _ in range(3000)] + [{"n": 0.5, "late": "x"}]
    schema = opened(write("a.jsonl", samples, lines=True)).schema
    assert schema == pa.schema([("n", pa.float64()), ("late", pa.string())])


def test_damaged_lines_are_errors_of_their_rows(opened, rows, tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [
        b"\xef\xbb\xbf\r",
        b'{"id": "a"}\r',
        b'{"id": "b", ',
        b"",
        b"[1]",
        b'{"id": "\xff"}',
        b"[" * 100_000,
        b'{"id": "\\ud800"}',
        b'{"id": "z", "image": 3}',
        b'{"id": "c"}',
    ]
    path.write_bytes(b"\n".join(lines))
    source = opened(path, rows_a_unit=3)
    assert [source.rows(unit) for unit in range(source.units)] == [3, 3, 2]
    found = rows(source)
    assert [row.id for row in found] == ["a", "1", "2", "3", "4", "\\ud800", "z", "c"]
    errors = [row.error for row in found]
    assert (errors[0], errors[-1]) == (None, None)
    assert errors[1].startswith("line 3 is not JSON (Expecting property name")
    assert errors[2] == "line 5 is [1], not an object"
    assert errors[3].startswith("line 6 is not JSON ('utf-8' codec can't decode byte 0xff")
    assert errors[4].startswith("line 7 is not JSON (maximum recursion depth exceeded")
    assert errors[5].startswith("its values cannot be stored as the other rows' ('utf-8' codec")
    assert errors[6] == "its image is of type int, neither bytes nor a path"


def test_items_that_are_no_objects_are_errors_of_their_rows(write, opened, rows):
    found = rows(opened(write("a.json", [{"id": 1}, 12345, "é" * 50, None, {"id": 2}])))
    assert [row.error for row in found] == [
        None,
        "is 12345, not an object",
        f'is "{"é" * 36}..., not an object',
        "is null, not an object",
        None,
    ]


@pytest.mark.parametrize("size", [1, 7, 64, 4096])
def test_lists_are_read_in_chunks_wherever_these_end(write, opened, rows, monkeypatch, size):
    from viq.extraction.sources import json_rows

    texts = ["é" * 3, '"]}{["', "\\u00e9\\", "x" * 5000, "日本\n"]
    samples = [{"n": -12.5e-7, "t": t, "l": [None, True, False], "b": 12345} for t in texts * 3]
    path = write("a.json", samples)
    path.write_text("\ufeff \n" + path.read_text("utf-8").replace("}, ", "}\n ,\t") + " ", "utf-8")
    expected = rows(opened(path))
    monkeypatch.setattr(json_rows, "_CHUNK", size)
    source = opened(path, rows_a_unit=4)
    assert source.units == 4
    assert rows(source)[0].columns["l"].type == pa.list_(pa.bool_())
    assert [row.columns for row in rows(source)] == [row.columns for row in expected]
    assert [row.columns["t"][0].as_py() for row in expected] == texts * 3


def test_damaged_lists_are_refused(refusal, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    for text, byte, reason in [
        (b'[{"a": 1}, {"a": ', 11, "Expecting value"),
        (b'[{"a": 1}', 9, "the end of the list is missing"),
        (b'[{"a": 1}, {"a": "', 11, "Unterminated string starting at"),
        (b'[{"a": 1}]\n[{"a": 2}]', 11, "more comes after the end of the list"),
        (b'[{"a": 1} {"a": 2}]', 10, "a comma or the end of the list is missing"),
        (b'[{"a" 1}, {"a": 2, "b": "more text than a cut could explain"}]', 1, "Expecting ':'"),
        (b'[{"a": "\xff"}]', 1, "not UTF-8: invalid start byte"),
        (b'[{"a": "\xc3', 1, "not UTF-8: unexpected end of data"),
        (b"[1, " + b"[" * 100_000, 4, "an item is nested too deep"),
    ]:
        path.write_bytes(text)
        begin = f"{path}: is not a JSON list (in the item at byte {byte}: {reason}"
        assert refusal(path).startswith(begin), text
    path.write_bytes(b'["' + b"x" * 3_000_000 + b'"]')
    monkeypatch.setattr("viq.extraction.sources.json_rows._MAX_ITEM", 1000)
    assert "Unterminated string" in refusal(path)


def test_files_without_rows_are_refused(refusal, tmp_path):
    path = tmp_path / "a.jsonl"
    for text, reason in [
        ("", "holds no rows"),
        (" \n\n", "holds no rows"),
        ("[]", "holds no rows"),
        ("[1, 2]", "no row can be read; the first is 1, not an object"),
        ('{"a":\n1}', "no row can be read; the first is not JSON (Expecting value: line 2"),
        ("id,image", "is neither a JSON list of rows nor one row a line"),
    ]:
        path.write_text(text)
        assert refusal(path).startswith(f"{path}: {reason}")
    path.write_text(json.dumps([{str(n): n for n in range(1001)}]))
    assert refusal(path) == (
        f"{path}: the rows have more than 1000 different keys, the last is '1000': put them below"
        " one key"
    )


def test_images_lie_beside_the_file_or_elsewhere(write, opened, rows, tmp_path, png):
    (tmp_path / "0.png").write_bytes(png(0))
    (tmp_path / "text").mkdir()
    path = write("text/train.jsonl", [{"images": ["0.png"]}, {"image": None}], lines=True)
    error = f"its image is missing: no file {tmp_path}/text/0.png"
    assert [row.error for row in rows(opened(path))] == [error, None]
    assert [row.images for row in rows(opened(tmp_path / "text", image_root=str(tmp_path)))] == [
        (tmp_path / "0.png",),
        (),
    ]


def test_several_files_are_one_source(write, opened, rows, cells):
    write("part-00.jsonl", [{"n": n} for n in range(3)], lines=True)
    write("part-01.jsonl", [{"n": 3.5, "t": "x"}])
    path = write("part-02.jsonl", [{"n": n} for n in range(4, 7)], lines=True)
    source = opened(path.with_name("part-{00..02}.jsonl"), rows_a_unit=2)
    assert [source.rows(unit) for unit in range(source.units)] == [2, 1, 1, 2, 1]
    found = rows(source)
    assert [row.id for row in found] == [str(n) for n in range(7)]
    assert [cell["n"] for cell in cells(found)] == [0, 1, 2, 3.5, 4, 5, 6]


def test_the_same_file_is_told_from_others(write, opened):
    path = write("a.jsonl", [{"n": n} for n in range(5)], lines=True)
    source = opened(path, rows_a_unit=2)
    again = pickle.loads(pickle.dumps(source))
    assert again.identity() == source.identity() == opened(path, rows_a_unit=2).identity()
    assert [row.id for row in again.read(1)] == ["2", "3"]
    identity = source.identity()
    digest = identity.pop("digest")
    assert identity == {
        "kind": "llava",
        "source": str(path.parent),
        "files": 1,
        "bytes": path.stat().st_size,
        "rows": 5,
        "rows_a_unit": 2,
        "image_root": None,
    }
    path.write_text(path.read_text().replace("4", "7"))  # as long as before
    assert opened(path, rows_a_unit=2).identity()["digest"] != digest
    path.write_text(path.read_text().replace("7", "4"))
    assert opened(path, rows_a_unit=2).identity()["digest"] == digest
    path.unlink()
    with pytest.raises(InputError, match=r"a\.jsonl: cannot be opened: No such file"):
        list(source.read(0))


@LAYOUTS
def test_any_storage_gives_the_same_rows(
    write, opened, rows, content, memory, tmp_path, png, layout
):
    (tmp_path / "pictures").mkdir()
    for n in range(40):
        (tmp_path / "pictures" / f"{n}[1].png").write_bytes(png(n))
    samples = [{"id": n, "image": [f"pictures/{n}[1].png"] * 2} for n in range(40)]
    samples[7]["image"] = ["pictures"]
    write("train.json", samples, **layout)
    here = opened(tmp_path, rows_a_unit=15)
    far = opened(memory(tmp_path), rows_a_unit=15)
    plain, found = content(rows(here)), rows(far)
    assert [row.images for row in found] == [row.images for row in plain]
    assert [row.columns for row in found] == [row.columns for row in plain]
    assert plain[7].error == f"its image is missing: no file {tmp_path}/pictures"
    assert found[7].error == "its image is missing: no such file memory:///set/pictures"
    mixed = opened(tmp_path / "train.json", image_root=memory(tmp_path))
    assert [row.images for row in rows(mixed)] == [row.images for row in plain]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_million_rows_are_planned_with_flat_memory(opened, tmp_path):
    import psutil

    path = tmp_path / "a.jsonl"
    count = 10_000_000
    with path.open("w") as file:
        for start in range(0, count, 1000):
            file.write("".join(f'{{"id":{n}}}\n' for n in range(start, start + 1000)))
    process = psutil.Process()
    before = process.memory_info().rss
    source = opened(path)
    assert process.memory_info().rss - before < 30e6  # a list of their places takes 240
    assert source.units == 10_000
    assert len(pickle.dumps(source)) < 500_000
    assert [row.id for row in source.read(7777)] == [str(n) for n in range(7_777_000, 7_778_000)]
