import shutil
import string

import pytest

from viq.data.synthetic.fonts import MIN_X_HEIGHT, PROSE, find_fonts
from viq.data.synthetic.source import SyntheticSource
from viq.data.synthetic.splits import SPLITS, split_of
from viq.errors import InputError

BUNDLED = {face.name: face for split in SPLITS for face in find_fonts(split).faces}


def test_fonts_of_signs_alone_are_left_out():
    assert len(BUNDLED) > 15
    assert not [name for name in BUNDLED if "Siz" in name or "NonUni" in name]
    assert not {"cmsy10", "cmex10", "cmmi10", "LastResortHE-Regular"} & set(BUNDLED)


def test_tex_fonts_write_prose_but_no_code():
    face = BUNDLED["cmr10"]
    assert face.writes("The end, at last (12/3).")
    assert not face.writes("a_b <c> {d}")
    assert BUNDLED["DejaVuSans"].writes("a_b <c> {d} €5 £6")


def test_every_letter_of_every_font_has_ink_of_its_own():
    for face in BUNDLED.values():
        font = face.at(40)
        shapes = {bytes(font.getmask(letter)) for letter in string.ascii_letters}
        assert len(shapes) >= 50
        assert all(any(bytes(font.getmask(sign))) for sign in PROSE)


def test_no_size_is_too_small_to_be_read():
    for face in BUNDLED.values():
        _, top, _, bottom = face.at(1).getbbox("x", anchor="ls")
        assert bottom - top >= MIN_X_HEIGHT - 1
        assert face.at(30).size == 30


def test_equally_wide_characters_are_recognised():
    assert {name for name, face in BUNDLED.items() if face.mono} == {
        *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
        *("DejaVuSansMono-BoldOblique", "cmtt10"),
    }


def test_fonts_of_a_folder_join_in_their_split(tmp_path):
    for k in range(30):
        shutil.copy(BUNDLED["DejaVuSans"].path, tmp_path / f"own {k}.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    (tmp_path / "notes.txt").write_text("no font")
    for split in SPLITS:
        found = {face.name for face in find_fonts(split, tmp_path).faces}
        own = {f"own {k}" for k in range(30) if split_of(f"own {k}") == split}
        assert own
        assert found == own | {face.name for face in find_fonts(split).faces}
    assert SyntheticSource(("words",), fonts=tmp_path)[0].images


def test_a_copy_of_a_font_does_not_change_its_split(tmp_path):
    for face in BUNDLED.values():
        shutil.copy(face.path, tmp_path)
    for split in SPLITS:
        assert find_fonts(split, tmp_path) == find_fonts(split)


def test_a_folder_without_fonts_is_named(tmp_path):
    with pytest.raises(InputError) as error:
        find_fonts("train", tmp_path / "none")
    assert str(error.value) == f"{tmp_path / 'none'}: no such folder of fonts"
    with pytest.raises(InputError) as error:
        SyntheticSource(fonts=tmp_path)
    assert str(error.value) == f"{tmp_path}: has no .ttf or .otf font that writes English"
