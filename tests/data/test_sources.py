import io
import json
import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from viq.data.conversation import QUESTIONS, question_for
from viq.data.sources import SourceConfig, open_source
from viq.errors import InputError

IMAGE = {"type": "image"}


def text(value):
    return {"type": "text", "text": value}


def open_at(path, **options):
    return open_source(SourceConfig(name="set", path=str(path), **options))


def turns(*texts):
    return [{"from": "gpt" if n % 2 else "human", "value": value} for n, value in enumerate(texts)]


def spoken(sample):
    """The messages as (role, parts), images as None."""
    return [(m["role"], [part.get("text") for part in m["content"]]) for m in sample.messages]


def size(image):
    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image).size


def error_of(function, *arguments):
    with pytest.raises(InputError) as raised:
        function(*arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# LLaVA's JSON


@pytest.fixture
def llava(tmp_path, png):
    """A folder with two images, and what writes samples beside them."""
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(png(number))

    def write(name, samples, lines=False, indent=None):
        path = tmp_path / name
        if lines:
            path.write_text("\n".join(json.dumps(s, ensure_ascii=False) for s in samples) + "\n")
        else:
            path.write_text(json.dumps(samples, ensure_ascii=False, indent=indent))
        return path

    return write


SAMPLES = [
    {"id": "one", "image": "0.png", "conversations": turns("<image>\nWhat é?", "日本")},
    {"id": 7, "image": ["1.png", "0.png"], "conversations": turns("a <image> b <image>", "c")},
    {"conversations": [{"from": "system", "value": "Be."}, *turns("1 + 1?", "2", "So?", "Yes")]},
]


@pytest.mark.parametrize(
    "options", [{}, {"indent": 2}, {"lines": True}], ids=["list", "indented list", "lines"]
)
@pytest.mark.parametrize("name", ["train.json", "train.jsonl"])
def test_llava_samples_are_read_whatever_the_suffix(llava, tmp_path, name, options):
    source = open_at(llava(name, SAMPLES, **options))
    one, seven, alone = source
    assert (source.name, source.left_out, len(source)) == ("set", 0, 3)
    assert [one.id, seven.id, alone.id] == ["set/one", "set/7", "set/2"]
    assert one.images == (tmp_path / "0.png",)
    assert seven.images == (tmp_path / "1.png", tmp_path / "0.png")
    assert alone.images == ()
    assert one.messages == (
        {"role": "user", "content": (IMAGE, text("\nWhat é?"))},
        {"role": "assistant", "content": (text("日本"),)},
    )
    assert spoken(seven) == [("user", ["a ", None, " b ", None]), ("assistant", ["c"])]
    assert [role for role, _ in spoken(alone)] == ["system", *["user", "assistant"] * 2]


def test_llava_images_may_lie_elsewhere(llava, tmp_path):
    (tmp_path / "text").mkdir()
    source = open_at(llava("text/train.json", SAMPLES), image_root=str(tmp_path))
    assert source[0].images == (tmp_path / "0.png",)


def test_a_byte_order_mark_and_blank_lines_do_no_harm(llava):
    path = llava("a.jsonl", SAMPLES, lines=True)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\n"))
    assert [sample.id for sample in open_at(path)] == ["set/one", "set/7", "set/2"]
    path = llava("b.json", SAMPLES)
    path.write_bytes(b"\xef\xbb\xbf\n " + path.read_bytes())
    assert [sample.id for sample in open_at(path)] == ["set/one", "set/7", "set/2"]


def test_llava_images_alone_need_no_conversations(llava):
    path = llava("a.json", [{"image": "0.png"}, {"image": "1.png", "conversations": 3}])
    source = open_at(path, need_text=False)
    assert [len(sample.images) for sample in source] == [1, 1]
    assert [sample.messages for sample in source] == [(), ()]


def test_llava_rows_are_weighed(llava):
    samples = [{**SAMPLES[0], "id": k, "kind": k} for k in ("photo", "plot", "logo")]
    samples.append({**SAMPLES[0], "id": "none"})
    path = llava("a.json", samples)
    ids = [sample.id for sample in open_at(path, row_weights={"photo": 3, "plot": 0})]
    assert ids == ["set/photo"] * 3 + ["set/logo", "set/none"]
    message = error_of(lambda: open_at(path, row_weights={"a": 2}, weight_column="size"))
    assert message == f"{path}: no sample has 'size'; there are: id, image, conversations, kind"


def test_placeholders_must_be_as_many_as_images(llava):
    path = llava(
        "a.json",
        [
            {"id": "without", "image": "0.png", "conversations": turns("What?", "A")},
            {"id": "more", "image": "0.png", "conversations": turns("<image><image>", "A")},
            {"id": "none", "conversations": turns("<image>", "A")},
            {"id": "in an answer", "image": "0.png", "conversations": turns("?", "<image>")},
            {"id": "right", "image": "0.png", "conversations": turns("<image>", "<image>")},
        ],
    )
    source = open_at(path)
    hint = "write <image> once for each, in what the user says"
    for row, (named, images) in enumerate([(0, 1), (2, 1), (1, 0), (0, 1)]):
        id = ["without", "more", "none", "in an answer"][row]
        assert error_of(source.__getitem__, row) == (
            f"{path}: sample set/{id}: its messages name {named} images but it has {images}; {hint}"
        )
    assert spoken(source[4])[1] == ("assistant", ["<image>"])


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"conversations": []}, "its conversation is [], not a list of turns"),
        ({"conversations": "Hi"}, "its conversation is 'Hi', not a list of turns"),
        ({}, "its conversation is missing, not a list of turns"),
        ({"conversations": ["Hi"]}, "turn 1 is 'Hi', not an object"),
        (
            {"conversations": [{"from": "robot", "value": "x"}]},
            "turn 1 is by 'robot'; there are: system, human, user, gpt, assistant",
        ),
        (
            {"conversations": [{"value": "x"}]},
            "turn 1 is by missing; there are: system, human, user, gpt, assistant",
        ),
        ({"conversations": [{"from": "gpt", "value": 3}]}, "turn 1 holds 3, not text"),
        ({"conversations": turns("a", " ")}, "turn 2 is an empty answer"),
        ({"conversations": turns("a")}, "nothing in its conversation is an answer"),
        ({"image": 3}, "its image is of type int, neither bytes nor a path"),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "turn 1 has a part that is neither text nor image",
        ),
    ],
)
def test_wrong_samples_are_named_when_they_are_asked_for(llava, sample, message):
    path = llava("a.json", [sample, SAMPLES[0]])
    source = open_at(path)
    assert error_of(source.__getitem__, 0) == f"{path}: sample set/0: {message}"
    assert source[1].id == "set/one"


def test_a_missing_image_is_named_when_it_is_asked_for(llava, tmp_path):
    path = llava("a.jsonl", [{**SAMPLES[0], "image": "gone.png"}, SAMPLES[0]], lines=True)
    source = open_at(path)
    assert error_of(source.__getitem__, 0) == (
        f"{path}: sample set/one: its image is missing: no file {tmp_path / 'gone.png'}"
    )
    assert len(source[1].images) == 1


def test_a_damaged_line_is_named_when_it_is_asked_for(llava):
    path = llava("a.jsonl", SAMPLES, lines=True)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], b"", lines[1][:30], b'"text"', b'{"a": "\xff"}']))
    source = open_at(path)
    assert source[0].id == "set/one"
    assert error_of(source.__getitem__, 1).startswith(
        f"{path}: line 3, sample set/1: is not JSON ("
    )
    assert error_of(source.__getitem__, 2) == (
        f"{path}: line 4, sample set/2: is a str, not an object"
    )
    assert "line 5, sample set/3: is not JSON ('utf-8' codec" in error_of(source.__getitem__, 3)


def test_weighing_rows_lets_damaged_lines_wait(llava):
    path = llava("a.jsonl", [{**SAMPLES[0], "kind": "photo"}, SAMPLES[2]], lines=True)
    path.write_bytes(path.read_bytes() + b"{\n")
    source = open_at(path, row_weights={"photo": 2})
    assert [source[n].id for n in range(3)] == ["set/one", "set/one", "set/1"]
    assert "line 3, sample set/2: is not JSON" in error_of(source.__getitem__, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'[\n{"id": 1},\n{"id": 2', "line 3: is not JSON (Expecting ',' delimiter)"),
        (b'[\n{"id": 1}\n{"id": 2}]', "line 3: is not JSON (a comma or the end of the list"),
        (b'[{"id": 1},\n', "line 2: is not JSON (Expecting value)"),
        (b'[{"id": "\xff"}]', "is not UTF-8 ('utf-8' codec can't decode"),
        (b"id,image\n", "is neither a JSON list of samples nor one sample a line"),
        (b"", "holds no samples: 0 rows, 0 without a caption"),
        (b"[]", "holds no samples: 0 rows, 0 without a caption"),
    ],
)
def test_damaged_lists_are_named_when_they_are_opened(tmp_path, data, message):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    assert error_of(open_at, path).startswith(f"{path}: {message}")


# Tables


def test_captions_of_a_parquet_file(parquet, png):
    rows = [{"image": {"bytes": png(n), "path": None}, "caption": f" word {n}\n"} for n in range(3)]
    source = open_at(parquet("a.parquet", rows))
    samples = list(source)
    assert [sample.id for sample in samples] == ["set/0", "set/1", "set/2"]
    assert [sample.images for sample in samples] == [(png(n),) for n in range(3)]
    question = question_for("set/1")
    assert question in QUESTIONS
    assert spoken(samples[1]) == [("user", [None, question]), ("assistant", ["word 1"])]


def test_questions_depend_on_the_id_alone_and_differ():
    asked = {question_for(f"set/{n}") for n in range(100)}
    assert asked == set(QUESTIONS)
    assert question_for("set/0") == QUESTIONS[0]


def test_rows_without_a_caption_are_left_out_and_counted(parquet, png, caplog):
    captions = ["a", None, "", " \n", "b"]
    rows = [{"image": png(n), "caption": caption, "id": n} for n, caption in enumerate(captions)]
    path = parquet("a.parquet", rows)
    with caplog.at_level(logging.INFO, "viq"):
        source = open_at(path)
    assert source.left_out == 3
    assert f"{path}: 3 of 5 have no caption and are left out" in caplog.messages
    assert [sample.id for sample in source] == ["set/0", "set/4"]
    everything = open_at(path, need_text=False)
    assert everything.left_out == 0
    assert [(s.id, s.images, s.messages) for s in everything] == [
        (f"set/{n}", (png(n),), ()) for n in range(5)
    ]


def test_rows_come_as_often_as_their_kind_weighs(parquet, png, caplog):
    kinds = ["photo", "flag", None, "photo", "plot", "photo"]
    captions = ["a", "b", "c", "d", "e", None]
    rows = [
        {"image": png(0), "caption": c, "kind": k} for k, c in zip(kinds, captions, strict=True)
    ]
    path = parquet("a.parquet", rows)
    source = open_at(path, row_weights={"photo": 3, "plot": 0, "foto": 2})
    assert [sample.id for sample in source] == [f"set/{n}" for n in (0, 0, 0, 1, 2, 3, 3, 3)]
    assert source.left_out == 1
    assert "no row is of these kinds, which have weights: foto" in caplog.text
    message = error_of(lambda: open_at(path, row_weights={"a": 2}, weight_column="size"))
    assert message == f"{path}: no column 'size'; there are: image, caption, kind"


def test_conversations_in_a_table(parquet, png):
    chat = [
        {"role": "user", "content": [{"type": "image", "text": None}, text("What?")]},
        {"role": "assistant", "content": [text("A")]},
    ]
    plain = [{"role": "user", "content": "<image> and?"}, {"role": "assistant", "content": "B"}]
    cases = {
        "parts": {"messages": chat, "images": [png(0)]},
        "strings": {"messages": plain, "images": [{"bytes": png(0), "path": "0.png"}]},
        "json": {"messages": json.dumps(plain), "image": png(0)},
        "llava": {"conversations": turns("<image> and?", "B"), "image": png(0), "text": "unused"},
    }
    for name, row in cases.items():
        sample = open_at(parquet(f"{name}.parquet", [row]))[0]
        assert sample.images == (png(0),)
        parts = [None, "What?"] if name == "parts" else [None, " and?"]
        answer = "A" if name == "parts" else "B"
        assert spoken(sample) == [("user", parts), ("assistant", [answer])]


def test_conversations_need_no_images(parquet):
    rows = [{"conversations": turns("1 + 1?", "2")}]
    assert open_at(parquet("a.parquet", rows))[0].images == ()


def test_wrong_rows_are_named_when_they_are_asked_for(parquet, png):
    rows = [
        {"id": "x", "conversations": turns("What?", "B"), "image": png(0)},
        {"id": "y", "conversations": None, "image": png(0)},
        {"id": "z", "conversations": turns("<image>?", "B"), "image": b""},
    ]
    path = parquet("a.parquet", rows)
    source = open_at(path)
    assert error_of(source.__getitem__, 0).startswith(
        f"{path}: sample set/x: its messages name 0 images but it has 1;"
    )
    assert error_of(source.__getitem__, 1) == (
        f"{path}: sample set/y: its conversation is missing, not a list of turns"
    )
    assert error_of(source.__getitem__, 2) == f"{path}: sample set/z: its image is empty"
    path = parquet("b.parquet", [{"messages": "[", "image": png(0)}])
    assert "sample set/0: its conversation is not JSON (" in error_of(open_at(path).__getitem__, 0)
    path = parquet("c.parquet", [{"caption": "a", "image": None}, {"caption": "a", "image": b"x"}])
    assert error_of(open_at(path).__getitem__, 0) == (
        f"{path}: sample set/0: its caption is of 0 images, not of one"
    )


def test_questions_and_answers_in_a_table(parquet, png):
    rows = [
        {"images": [png(0), png(1)], "question": "Same?", "answer": "No"},
        {"images": [], "question": "1 + 1?", "answer": "2"},
        {"images": [png(0)], "question": "What?", "answer": None},
    ]
    source = open_at(parquet("a.parquet", rows))
    assert (len(source), source.left_out) == (2, 1)
    assert spoken(source[0]) == [("user", [None, None, "Same?"]), ("assistant", ["No"])]
    assert spoken(source[1]) == [("user", ["1 + 1?"]), ("assistant", ["2"])]


def test_images_of_a_table_may_be_files(parquet, png, tmp_path):
    (tmp_path / "here.png").write_bytes(png(0))
    rows = [
        {"image": {"bytes": None, "path": "here.png"}, "caption": "a"},
        {"image": {"bytes": None, "path": "gone.png"}, "caption": "b"},
    ]
    path = parquet("a.parquet", rows)
    source = open_at(path)
    assert source[0].images == (tmp_path / "here.png",)
    assert error_of(source.__getitem__, 1) == (
        f"{path}: sample set/1: its image is missing: no file {tmp_path / 'gone.png'}"
    )


def test_shards_of_a_split_are_read_in_order(parquet, png, tmp_path):
    for split, numbers in (("train", (1, 0)), ("validation", (5,))):
        for n in numbers:
            rows = [{"image": png(n), "text": f"{split} {n}"}]
            parquet(f"data/{split}-0000{n}-of-00002.parquet", rows)
    answers = [spoken(sample)[1][1] for sample in open_at(tmp_path)]
    assert answers == [["train 0"], ["train 1"]]
    assert [spoken(sample)[1][1] for sample in open_at(tmp_path, split="validation")] == [
        ["validation 5"]
    ]
    assert error_of(lambda: open_at(tmp_path, split="test")) == (
        f"{tmp_path}: no test-*.parquet here"
    )


def test_what_is_held_out_never_stands_in_for_a_split(parquet, png, tmp_path):
    parquet("validation-0.parquet", [{"image": png(0), "text": "a"}])
    assert "no train-*.parquet here" in error_of(open_at, tmp_path)
    parquet("part-0.parquet", [{"image": png(0), "text": "b"}])
    assert spoken(open_at(tmp_path)[0])[1][1] == ["b"]
    assert "no test-*.parquet here" in error_of(lambda: open_at(tmp_path, split="test"))


def test_a_folder_may_be_called_after_the_split_and_have_odd_characters(parquet, png, tmp_path):
    parquet("a [1]*/train/x.parquet", [{"image": png(0), "text": "a"}])
    assert len(open_at(tmp_path / "a [1]*")) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": b"x", "label": 1}, "no column of text (messages, conversations, question and"),
        ({"caption": "a", "label": 1}, "no column of images; there are: caption, label"),
        ({"image": b"x", "caption": 1}, "column 'caption' is int64, not text"),
    ],
)
def test_tables_without_what_is_needed_are_errors(parquet, row, message):
    path = parquet("a.parquet", [row])
    assert error_of(open_at, path).startswith(f"{path}: {message}")


def test_tables_of_text_hold_no_images(parquet):
    path = parquet("a.parquet", [{"conversations": turns("a", "b")}])
    message = error_of(lambda: open_at(path, need_text=False))
    assert message == f"{path}: no column of images; there are: conversations"


def test_damaged_tables_are_named(parquet, png, tmp_path):
    parquet("train-0.parquet", [{"image": png(0), "text": "a"}])
    bad = tmp_path / "train-1.parquet"
    bad.write_bytes(b"PAR1 and no more")
    assert error_of(open_at, tmp_path).startswith(f"{bad}: not a readable Parquet file (")
    whole = parquet("whole.parquet", [{"image": bytes(5000), "text": str(n)} for n in range(999)])
    data = bytearray(whole.read_bytes())
    data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)
    whole.write_bytes(data)
    assert error_of(open_at, whole).startswith(f"{whole}: cannot be read as Parquet (")


def test_shards_of_webdataset(shard, png, tmp_path):
    files = {}
    for n in range(3):
        files[f"{n:03}.png"] = png(n)
        files[f"{n:03}.txt"] = f"word {n}".encode()
        files[f"{n:03}.json"] = json.dumps({"kind": "photo" if n else "flag"}).encode()
    path = shard("train-0.tar", files)
    for place in (path, tmp_path):
        source = open_at(place, row_weights={"photo": 2})
        samples = list(source)
        assert [sample.id for sample in samples] == ["set/000", *["set/001"] * 2, *["set/002"] * 2]
        assert samples[1].images == (png(1),)
        assert spoken(samples[1])[1] == ("assistant", ["word 1"])


def test_conversations_in_shards(shard, png):
    fields = {"id": "mine", "conversations": turns("<image>?", "A")}
    path = shard("a.tar", {"0.jpg": png(0), "0.json": json.dumps(fields).encode()})
    sample = open_at(path)[0]
    assert (sample.id, sample.images) == ("set/mine", (png(0),))
    assert spoken(sample) == [("user", [None, "?"]), ("assistant", ["A"])]


def test_damaged_shards_are_named(shard, png, tmp_path):
    bad = tmp_path / "bad.tar"
    bad.write_bytes(b"nonsense" * 200)
    assert error_of(open_at, bad).startswith(f"{bad}: not a readable WebDataset file (")
    path = shard("a.tar", {f"{n}.{s}": bytes(3000) for n in range(9) for s in ("png", "txt")})
    path.write_bytes(path.read_bytes()[:20_000])
    assert error_of(open_at, path).startswith(f"{path}: cannot be read as WebDataset (")


# Folders of images


def test_captions_beside_images(tmp_path, png):
    (tmp_path / "in").mkdir()
    for n, name in enumerate(("a.png", "b.png", "c.PNG", "d.png", "in/e.png")):
        (tmp_path / name).write_bytes(png(n))
    (tmp_path / "a.txt").write_text(" an A\n")
    (tmp_path / "c.txt").write_text("")
    (tmp_path / "d.txt").write_text(" \n")
    (tmp_path / "in/e.txt").write_text("é")
    source = open_at(tmp_path)
    assert (len(source), source.left_out) == (3, 2)
    assert (source[0].id, source[0].images) == ("set/a.png", (tmp_path / "a.png",))
    assert spoken(source[0]) == [
        ("user", [None, question_for("set/a.png")]),
        ("assistant", ["an A"]),
    ]
    assert error_of(source.__getitem__, 1) == (
        f"{tmp_path}: sample set/d.png: its caption is blank: {tmp_path / 'd.txt'}"
    )
    assert spoken(source[2])[1] == ("assistant", ["é"])
    (tmp_path / "a.txt").write_bytes(b"\xff")
    assert "sample set/a.png: its caption cannot be read (" in error_of(source.__getitem__, 0)
    images = open_at(tmp_path, need_text=False)
    assert [(s.id, s.messages) for s in images] == [
        (f"set/{name}", ()) for name in ("a.png", "b.png", "c.PNG", "d.png", "in/e.png")
    ]


@pytest.mark.parametrize("name", ["metadata.jsonl", "captions.jsonl"])
def test_captions_in_a_list(tmp_path, png, name):
    for n in range(4):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    lines = [
        {"file_name": "2.png", "text": "two", "kind": "photo"},
        {"file_name": "0.png", "caption": "zero"},
        {"file_name": "1.png", "text": None},
        {"file_name": "gone.png", "text": "gone"},
    ]
    (tmp_path / name).write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    source = open_at(tmp_path, row_weights={"photo": 2})
    assert source.left_out == 2
    assert [sample.id for sample in map(source.__getitem__, range(3))] == [
        *["set/2.png"] * 2,
        "set/0.png",
    ]
    assert spoken(source[0])[1] == ("assistant", ["two"])
    assert error_of(source.__getitem__, 3) == (
        f"{tmp_path}: sample set/gone.png: its image is missing: no file {tmp_path / 'gone.png'}"
    )
    assert len(open_at(tmp_path, need_text=False)) == 5
    assert error_of(lambda: open_at(tmp_path, row_weights={"a": 1}, weight_column="size")) == (
        f"{tmp_path}: no column 'size'; there are: file_name, text, kind"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"file_name"', "line 2: is not JSON ("),
        (b'{"text": "a"}', "line 2: is not an object with a 'file_name'"),
        (b'["a"]', "line 2: is not an object with a 'file_name'"),
        (b'{"file_name": "a.png", "text": 3}', "line 2: its caption is not text"),
    ],
)
def test_a_damaged_list_of_captions_names_the_line(tmp_path, line, message):
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(b"\n" + line)
    assert error_of(open_at, tmp_path).startswith(f"{path}: {message}")


def test_folders_have_splits_as_folders(tmp_path, png):
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        (tmp_path / split / f"{split}.png").write_bytes(png(0))
    for split in ("train", "validation"):
        source = open_at(tmp_path, split=split, need_text=False)
        assert [sample.id for sample in source] == [f"set/{split}.png"]
    message = error_of(lambda: open_at(tmp_path, split="test", need_text=False))
    assert message == (
        f"{tmp_path}: no folder 'test' in it; of splits there are: train, validation"
    )
    (tmp_path / "train" / "train.png").unlink()
    (tmp_path / "train").rmdir()
    assert "no folder 'train' in it" in error_of(open_at, tmp_path)


def test_folders_without_captions_are_errors_where_text_is_needed(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png(0))
    assert error_of(open_at, tmp_path) == (
        f"{tmp_path}: holds no samples: 1 rows, 1 without a caption"
    )
    message = error_of(lambda: open_at(tmp_path, row_weights={"a": 1}))
    assert message == (
        f"{tmp_path}: no column 'kind'; there are: none, since there is no list of captions"
    )
    assert "is a file, not a folder of images" in error_of(
        lambda: open_at(tmp_path / "a.png", kind="folder")
    )


# All of them


def test_a_folder_may_hold_conversations(llava, tmp_path):
    llava("train.jsonl", SAMPLES, lines=True)
    assert len(open_at(tmp_path)) == 3
    assert error_of(lambda: open_at(tmp_path, kind="llava", split="test")) == (
        f"{tmp_path}: no test.json or test.jsonl here"
    )


def test_what_is_not_there_or_unknown_is_named(tmp_path):
    gone = tmp_path / "gone"
    assert error_of(open_at, gone) == f"{gone}: no such file or folder"
    assert error_of(open_at, tmp_path) == (
        f"{tmp_path}: has no Parquet files, shards, images or train.jsonl"
    )
    (tmp_path / "a.csv").touch()
    assert error_of(open_at, tmp_path / "a.csv") == (
        f"{tmp_path / 'a.csv'}: unknown kind of file; there are: .json, .jsonl, .parquet, .tar"
    )
    config = SourceConfig(name="set", kind="parquet")
    assert error_of(open_source, config) == "set: a source of kind parquet needs a path"


def test_configs_are_checked():
    with pytest.raises(ValueError, match=r"^a source needs a name\.$"):
        SourceConfig(name="")
    with pytest.raises(ValueError, match=r"^row weights of source a are negative: \['x'\]\.$"):
        SourceConfig(name="a", row_weights={"x": -1, "y": 1})


def test_samples_outside_are_index_errors(llava):
    source = open_at(llava("a.json", SAMPLES))
    with pytest.raises(IndexError):
        source[3]


def test_synthetic_samples_come_from_their_config():
    pytest.importorskip("matplotlib")
    config = SourceConfig(name="drawn", kind="synthetic", tasks=("shapes",), size=5, seed=3)
    source = open_source(config)
    assert (source.name, len(source)) == ("drawn", 5)
    assert source[0].id.startswith("drawn/shapes/train/")
    other = open_source(SourceConfig(name="drawn", kind="synthetic", tasks=("shapes",), seed=4))
    first, second = (np.asarray(s[0].images[0]) for s in (source, other))
    assert first.shape != second.shape or not np.array_equal(first, second)


ANOTHER = """
import pickle, sys
sources = pickle.load(open(sys.argv[1], "rb"))
read = [[(s.id, s.images, s.messages) for s in source] for source in sources]
sys.stdout.buffer.write(pickle.dumps(read))
"""


def _read_all(sources):
    return [[(s.id, s.images, s.messages) for s in source] for source in sources]


def test_sources_give_the_same_in_another_process(llava, parquet, shard, png, tmp_path):
    rows = [{"image": png(n), "caption": f"{n}"} for n in range(4)]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(0))
    (folder / "a.txt").write_text("a")
    paths = [
        llava("a.jsonl", SAMPLES, lines=True),
        parquet("a.parquet", rows),
        shard("a.tar", {"0.png": png(0), "0.txt": b"a"}),
        folder,
    ]
    sources = [open_at(path) for path in paths]
    here = _read_all(sources)
    assert [len(samples) for samples in here] == [3, 4, 1, 1]
    assert _read_all(pickle.loads(pickle.dumps(sources))) == here
    (tmp_path / "sources").write_bytes(pickle.dumps(sources))
    command = [sys.executable, "-c", ANOTHER, str(tmp_path / "sources")]
    elsewhere = subprocess.run(command, check=True, capture_output=True, timeout=100).stdout
    assert pickle.loads(elsewhere) == here


def test_samples_are_not_in_what_is_sent_to_processes(parquet):
    rows = [{"image": bytes(10_000), "caption": "a"} for _ in range(100)]
    assert len(pickle.dumps(open_at(parquet("a.parquet", rows)))) < 10_000
