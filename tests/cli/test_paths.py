"""From inputs to outputs: what is found, what is refused."""

import os
from pathlib import Path

import pytest

from viq.cli.paths import find, make_folder, plan, refuse_inputs, whole_file
from viq.errors import InputError

SUFFIXES = (".png", ".jpg")


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """A current folder with some files."""
    names = [
        *("photo.jpg", "photos/b.PNG", "photos/a.jpg", "photos/sub/a.jpg", "photos/notes.txt"),
        *("photos/.hidden.jpg", "photos/.hidden/c.jpg", "odd[1].jpg"),
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(found) -> list[str]:
    return [f"{path.as_posix()} {relative.as_posix()}" for path, relative in found]


def test_a_file_is_found_by_its_name(files):
    assert names(find(["photos/a.jpg"], SUFFIXES)) == ["photos/a.jpg a.jpg"]


def test_a_named_file_counts_whatever_its_suffix(files):
    assert names(find(["photos/notes.txt"], SUFFIXES)) == ["photos/notes.txt notes.txt"]


def test_a_folder_gives_all_pictures_below_it_but_hidden_ones(files):
    assert names(find(["photos"], SUFFIXES)) == [
        "photos/a.jpg a.jpg",
        "photos/b.PNG b.PNG",
        "photos/sub/a.jpg sub/a.jpg",
    ]


def test_a_glob_gives_the_files_that_match(files):
    assert names(find(["photos/*.jpg"], SUFFIXES)) == ["photos/a.jpg a.jpg"]
    assert names(find(["photos/**/*.jpg"], SUFFIXES)) == [
        "photos/a.jpg a.jpg",
        "photos/sub/a.jpg a.jpg",
    ]


def test_a_file_whose_name_looks_like_a_glob_is_found(files):
    assert names(find(["odd[1].jpg"], SUFFIXES)) == ["odd[1].jpg odd[1].jpg"]


def test_a_file_named_twice_is_found_once(files):
    assert len(find(["photo.jpg", "photo.jpg", "photo.j*"], SUFFIXES)) == 1


def test_a_missing_file_among_others_is_left_to_who_reads_it(files):
    assert len(find(["photo.jpg", "missing.jpg"], SUFFIXES)) == 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["missing.jpg", "gone.jpg"], "missing.jpg, gone.jpg: no such file or folder"),
        (["photo.jpg", "*.gif"], "*.gif: no file matches this pattern"),
        (["photo.jpg", ""], "an input is empty text"),
        (["empty"], "empty: no file here ends in .png, .jpg"),
    ],
)
def test_inputs_without_files_are_refused_by_name(inputs, message, files):
    Path("empty").mkdir()
    with pytest.raises(InputError) as caught:
        find(inputs, SUFFIXES)
    assert str(caught.value) == message


def test_outputs_keep_the_folders_structure(files):
    jobs = plan(["photos", "photo.jpg"], "codes", ".viq", SUFFIXES)
    assert [job.target.as_posix() for job in jobs] == [
        "codes/a.viq",
        "codes/b.viq",
        "codes/sub/a.viq",
        "codes/photo.viq",
    ]


def test_only_the_last_suffix_is_replaced(files):
    Path("a.v2.png").touch()
    assert plan(["a.v2.png"], "codes", ".viq", SUFFIXES)[0].target == Path("codes/a.v2.viq")


@pytest.mark.parametrize(
    "inputs",
    [["photos/a.jpg", "photos/sub/a.jpg"], ["photos/**/*.jpg"], ["photos/sub", "photos"]],
)
def test_two_inputs_for_one_output_are_refused(inputs, files):
    with pytest.raises(InputError) as caught:
        plan(inputs, "codes", ".viq", SUFFIXES)
    message = str(caught.value)
    assert str(Path("photos/a.jpg")) in message
    assert str(Path("photos/sub/a.jpg")) in message
    assert f"would both be written to {Path('codes/a.viq')};" in message


def test_one_file_by_two_names_is_one_job(files):
    inputs = ["photo.jpg", files / "photo.jpg", "photos/../photo.jpg"]
    assert len(plan(map(str, inputs), "codes", ".viq", SUFFIXES)) == 1


def test_an_output_that_is_an_input_is_refused(files):
    with pytest.raises(InputError, match=r"photo\.jpg: is an input and would be overwritten"):
        plan(["photo.jpg"], ".", ".jpg", SUFFIXES)


@pytest.mark.skipif(os.name != "posix", reason="of symbolic links")
def test_an_output_that_is_an_input_by_another_name_is_refused(files):
    Path("link.jpg").symlink_to("photo.jpg")
    with pytest.raises(InputError, match=r"link\.jpg: is an input"):
        refuse_inputs([Path("link.jpg")], [Path("photo.jpg")])


def test_a_folder_is_made_with_those_above_it(files):
    make_folder(Path("a/b/c"))
    make_folder(Path("a/b/c"))
    assert Path("a/b/c").is_dir()


def test_a_folder_that_is_a_file_is_refused(files):
    with pytest.raises(InputError, match=r"photo\.jpg: is a file, so it cannot be the folder"):
        make_folder(Path("photo.jpg"))
    with pytest.raises(InputError, match="codes: the folder cannot be made: Not a directory"):
        make_folder(Path("photo.jpg/codes"))


def test_a_folder_that_cannot_be_written_to_is_refused(files, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match="photos: the folder cannot be written to"):
        make_folder(Path("photos"))


def test_a_file_appears_whole_or_not_at_all(files):
    before = sorted(os.listdir())
    with whole_file(Path("new.png")) as temporary:
        temporary.write_bytes(b"all of it")
        assert not Path("new.png").exists()
    assert sorted(os.listdir()) == sorted([*before, "new.png"])
    assert Path("new.png").read_bytes() == b"all of it"


def test_a_file_that_fails_half_way_leaves_nothing(files):
    def write() -> None:
        with whole_file(Path("new.png")) as temporary:
            temporary.write_bytes(b"half of it")
            raise ValueError("too large")

    before = sorted(os.listdir())
    with pytest.raises(InputError, match=r"new\.png: cannot be written: too large"):
        write()
    assert sorted(os.listdir()) == before
