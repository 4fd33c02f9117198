import hashlib
import importlib.util
import pickle

import pytest
from PIL import Image, features
from PIL import __version__ as pillow

from viq.data.synthetic import fonts
from viq.data.synthetic.source import TASKS, SyntheticSource
from viq.errors import InputError


def content(sample):
    pixels = [(image.size, image.tobytes()) for image in sample.images]
    return sample.id, pixels, sample.messages


def test_equal_seeds_give_equal_samples_in_any_order():
    first, second = SyntheticSource(seed=3), SyntheticSource(seed=3)
    forward = {k: content(first[k]) for k in range(40)}
    backward = {k: content(second[k]) for k in reversed(range(40))}
    assert forward == backward


def test_other_seeds_splits_and_numbers_give_other_pixels():
    sources = [SyntheticSource(), SyntheticSource(seed=1), SyntheticSource(split="validation")]
    pixels = {source[k].images[0].tobytes() for source in sources for k in range(10)}
    assert len(pixels) == 30


def test_a_pickled_source_goes_on_with_the_same_samples():
    source = SyntheticSource(("words", "charts"), "validation", seed=5, size=12, name="made up")
    copy = pickle.loads(pickle.dumps(source))
    assert len(copy) == 12
    assert copy.name == "made up"
    assert [content(copy[k]) for k in range(12)] == [content(source[k]) for k in range(12)]


@pytest.mark.skipif(
    (pillow, features.version("freetype2")) != ("13.0.0", "2.14.3"),
    reason="other versions of Pillow and FreeType may draw other pixels",
)
@pytest.mark.parametrize(
    ("task", "digest"),
    [
        ("words", "6c8d0a9161555824"),
        ("passages", "94eaf71f9e1fed94"),
        ("documents", "a1eda55adbf045bc"),
        ("tables", "86164e8090f4324f"),
        ("receipts", "f5feba5c65ddfb6c"),
        ("forms", "836aca2bfc7d886a"),
        ("charts", "ab1c1fb6fea79f9c"),
        ("shapes", "6a3fdca86fabaf87"),
        ("screens", "b509e6b214c64abd"),
        ("pairs", "12ab4139399115a6"),
        ("scraps", "b3d2352fd8493d4e"),
    ],
)
def test_golden_pixels_and_words(task, digest):
    source = SyntheticSource((task,), seed=7)
    found = hashlib.sha256()
    for k in range(4):
        found.update(repr(source[k].messages).encode())
        for image in source[k].images:
            found.update(repr(image.size).encode() + image.tobytes())
    assert found.hexdigest()[:16] == digest


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("task", TASKS)
def test_samples_are_whole_and_their_sizes_vary(task, split):
    source = SyntheticSource((task,), split)
    sizes = []
    for k in range(30):
        sample = source[k]
        assert sample.id == f"synthetic/{task}/{split}/{k}"
        assert len(sample.images) == (2 if task == "pairs" else 1)
        for image in sample.images:
            assert isinstance(image, Image.Image)
            assert image.mode == "RGB"
            assert 24 <= min(image.size) <= max(image.size) <= 1100
            sizes.append(image.size)
        check_messages(sample)
    shapes = [width / height for width, height in sizes]
    assert len(set(sizes)) > 20
    assert max(shapes) > 1.5 * min(shapes)


def check_messages(sample):
    roles = [message["role"] for message in sample.messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert 2 <= len(roles) <= 8
    parts = [part for message in sample.messages for part in message["content"]]
    assert [part["type"] for part in parts].count("image") == len(sample.images)
    first = [part["type"] for part in sample.messages[0]["content"]]
    assert first == ["image"] * len(sample.images) + ["text"]
    for part in parts:
        assert part["type"] == "image" or part["text"].strip()
        assert "{" not in part.get("text", "")  # no place of a wording is left open
    questions = [message["content"][-1]["text"] for message in sample.messages[::2]]
    assert len(set(questions)) == len(questions)


def test_all_families_come_and_pairs_are_rare():
    source = SyntheticSource()
    tasks = [source[k].id.split("/")[1] for k in range(150)]
    counts = {task: tasks.count(task) for task in TASKS}
    assert min(counts.values()) > 0
    assert counts.pop("pairs") < min(counts.values())


def test_only_the_named_tasks_come():
    source = SyntheticSource(("shapes", "tables"))
    assert {source[k].id.split("/")[1] for k in range(20)} == {"shapes", "tables"}


def test_a_loop_over_a_source_ends():
    assert len(list(SyntheticSource(("words",), size=3))) == 3
    with pytest.raises(IndexError, match="no sample -1; there are 3"):
        SyntheticSource(size=3)[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ("chart",)}, "no synthetic task 'chart'; did you mean 'charts'? there are: wor"),
        ({"tasks": ("zzz",)}, "no synthetic task 'zzz'; there are: words, passages"),
        ({"split": "test"}, "no split 'test'; there are: train, validation"),
        ({"size": 0}, "size is 0 and seed 0; at least 1 and 0 are needed"),
        ({"seed": -1}, "size is 1000000 and seed -1; at least 1 and 0 are needed"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(InputError) as error:
        SyntheticSource(**arguments)
    assert str(error.value).startswith(message)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(fonts, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed; run: pip install 'viq\[train\]'$"):
        SyntheticSource()
    monkeypatch.undo()
    assert importlib.util.find_spec("matplotlib")
