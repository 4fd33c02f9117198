"""viq eval storage."""

import pytest
from PIL import Image

from viq.evaluation import storage
from viq.evaluation.document import Document


@pytest.fixture
def small(monkeypatch):
    """The large picture is a small one, which takes less long."""

    def large(self, names):
        image = self.pictures.read(names[0]).image
        return image.resize((192, 128), Image.Resampling.LANCZOS), 24

    monkeypatch.setattr(storage.Storage, "large", large)


def test_a_table_and_pictures_are_written(
    viq_command, save_image, tiny_tokenizer_folder, tmp_path, small
):
    save_image(tmp_path / "data" / "a.png", 96, 64)
    (tmp_path / "data" / "b.png").write_bytes(b"no picture")
    options = ("--data", tmp_path / "data", "--model", tiny_tokenizer_folder)
    status, out, err = viq_command("eval", "storage", *options, "--out", tmp_path / "out")
    assert status == 1
    assert "b.png: not an image" in err[0]
    document = Document.load(tmp_path / "out")
    assert document.kind == "storage"
    assert out[0] == "Storage: data, 2 pictures"
    assert [row[1] for row in document.tables[0].rows] == ["96 × 64", "all sizes", storage.PAPER]
    names = [row[0] for row in document.tables[1].rows[:5]]
    model = str(tiny_tokenizer_folder)
    assert names == [
        model,
        *(f"{c} as large as {model}" for c in ("JPEG", "WebP", "AVIF", "JPEG-XL")),
    ]
    before = (tmp_path / "out" / "result.json").read_bytes()
    viq_command("eval", "storage", *options, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "result.json").read_bytes() == before


def test_pictures_above_the_limit_are_scaled_down_before_anything_is_measured(
    viq_command, save_image, tiny_tokenizer_folder, tmp_path, small
):
    save_image(tmp_path / "data" / "a.png", 384, 256)
    options = ("--data", tmp_path / "data", "--model", f"tiny={tiny_tokenizer_folder}")
    options += ("--out", tmp_path / "out", "--max-pixels")
    status, _, err = viq_command("eval", "storage", *options, 96 * 64)
    assert status == 0, err
    table = Document.load(tmp_path / "out").tables[0]
    row = dict(zip([column.name for column in table.columns], table.rows[0], strict=True))
    assert (row["model"], row["size"], row["raw"]) == ("tiny", "96 × 64", 96 * 64 * 3)
    assert row["raw / codes"] == 96
    settings = (tmp_path / "out" / "settings.json").read_text()
    assert str(tmp_path) not in settings
    status, _, err = viq_command("eval", "storage", *options, 100)
    assert (status, err[0].partition(" is")[0]) == (2, "viq: error: --max-pixels 100: max_pixels")


def test_nothing_readable_is_a_failure(viq_command, tiny_tokenizer_folder, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"x")
    options = ("--data", tmp_path / "data", "--model", tiny_tokenizer_folder)
    status, out, _ = viq_command("eval", "storage", *options, "--out", tmp_path / "out")
    assert (status, out) == (2, [])
