"""Files that are whole or not there."""

import json
from pathlib import Path

import pytest

from viq.evaluation.files import encoded, whole_file, whole_text


def test_a_file_appears_when_it_is_written(tmp_path):
    path = tmp_path / "plot.png"
    with whole_file(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".png")
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("plot.png", b"new")]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_what_stops_half_way_leaves_the_old_file_and_no_other(stop, tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")

    def write():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise stop

    with pytest.raises(stop):
        write()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
        ("result.json", "old")
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "result.json"

    def write():
        with whole_file(path) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_text("x")

    with pytest.raises(OSError, match="No space") as error:
        write()
    assert (error.value.filename, error.value.strerror) == (
        str(path),
        "cannot be written: No space left on device; free some and repeat the command",
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_names_the_file(tmp_path):
    path = tmp_path / "no" / "result.json"
    with pytest.raises(FileNotFoundError) as error:
        whole_text(path, "x")
    assert error.value.filename == str(path)
    assert error.value.strerror == "cannot be written: No such file or directory"


def test_another_file_that_is_missed_while_writing_is_named_itself(tmp_path):
    with pytest.raises(FileNotFoundError) as error, whole_file(tmp_path / "a.png"):
        (tmp_path / "input.png").read_bytes()
    assert error.value.filename == str(tmp_path / "input.png")


def test_text_is_utf_8_with_its_own_line_ends(tmp_path):
    whole_text(tmp_path / "a.md", "µ\n\u2028\r\n")
    assert (tmp_path / "a.md").read_bytes() == "µ\n\u2028\r\n".encode()


def test_a_name_that_is_no_text_is_the_same_again_by_json():
    name = b"photo-\xff.png".decode("utf-8", "surrogateescape")
    content = encoded(json.dumps({"name": name}, ensure_ascii=False))
    assert json.loads(content.decode("utf-8")) == {"name": name}
