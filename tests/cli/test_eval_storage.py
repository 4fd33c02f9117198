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
    assert out[0] == "Storage: data, 1 of 2 pictures"
    assert document.title == out[0]
    left_out = "Left out, for they could not be read: 1 of 2 (b.png)."
    assert all(table.note.endswith(left_out) for table in document.tables)
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


def test_names_and_folders_that_would_clash_are_refused(
    viq_command, save_image, tiny_tokenizer_folder, tmp_path
):
    save_image(tmp_path / "data" / "a.png", 96, 64)

    def fails(name, out):
        model = f"{name}={tiny_tokenizer_folder}"
        options = ("--data", tmp_path / "data", "--model", model, "--out", out)
        status, _, (error,) = viq_command("eval", "storage", *options)
        assert status == 2
        return error

    assert "JPEG: something else is called so here" in fails("JPEG", tmp_path / "out")
    assert "which is read; give another folder" in fails("a", tmp_path / "data")
    assert not (tmp_path / "data" / "samples").exists()


def test_a_damaged_sample_is_said(viq_command, save_image, tiny_tokenizer_folder, tmp_path, small):
    save_image(tmp_path / "data" / "a.png", 96, 64)
    options = ("--data", tmp_path / "data", "--model", tiny_tokenizer_folder)
    options += ("--out", tmp_path / "out")
    assert viq_command("eval", "storage", *options).status == 0
    file = tmp_path / "out" / "samples" / "pictures.jsonl"
    file.write_text(file.read_text().replace('"codes"', '"kodes"'))
    status, _, err = viq_command("eval", "storage", *options)
    assert status == 2
    assert "samples of this evaluation are damaged; remove the folder" in err[-1]


def test_nothing_readable_is_a_failure(viq_command, tiny_tokenizer_folder, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"x")
    options = ("--data", tmp_path / "data", "--model", tiny_tokenizer_folder)
    status, out, _ = viq_command("eval", "storage", *options, "--out", tmp_path / "out")
    assert (status, out) == (2, [])
