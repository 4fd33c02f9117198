"""viq eval reconstruction."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from viq.evaluation.document import Document
from viq.metrics.quality import psnr


@pytest.fixture
def data(save_image, tmp_path):
    """Three pictures."""
    for n, name in enumerate(("a.png", "b.png", "deep/c.png")):
        save_image(tmp_path / "data" / name, 40 + 8 * n, 56)
    return tmp_path / "data"


@pytest.fixture
def evaluate(viq_command, tiny_tokenizer_folder, data, tmp_path):
    """Runs the command without the networks that take long."""

    def run(*arguments, model=True, data=data):
        models = ("--model", tiny_tokenizer_folder) if model else ()
        options = ("--data", data, "--out", tmp_path / "out", "--no-ocr", "--hed", "no")
        return viq_command("eval", "reconstruction", *options, *models, *arguments)

    return run


def test_models_decoded_pictures_and_codecs_stand_in_one_table(
    evaluate, data, tiny_tokenizer, tiny_tokenizer_folder, tmp_path
):
    for path in data.rglob("*.png"):
        target = (tmp_path / "decoded" / path.relative_to(data)).with_suffix(".webp")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(target, quality=50)
    arguments = ("--decoded", f"other={tmp_path / 'decoded'}", "--codec", "jpeg", "--bpp", "6")
    status, out, err = evaluate(*arguments, "--protocol", "native")
    assert status == 0, err
    document = Document.load(tmp_path / "out")
    table = document.tables[0]
    assert table.title == "Quality: data, 3 pictures, native size"
    assert [row[0] for row in table.rows] == [str(tiny_tokenizer_folder), "other", "JPEG at 6 bpp"]
    images = [Image.open(path) for path in sorted(data.rglob("*.png"))]
    expected = [
        psnr(np.asarray(image), np.asarray(tiny_tokenizer.decode(tiny_tokenizer.encode(image))))
        for image in images
    ]
    assert table.rows[0][2].value == pytest.approx(np.mean(expected))
    assert out[0] == table.title
    assert (tmp_path / "out" / "sheet-0.png").is_file()
    assert any(note.startswith("Not measured: rFID (FID needs") for note in document.notes)


def test_dists_is_measured_and_no_path_is_kept(evaluate, tiny_tokenizer_folder, tmp_path):
    from viq.external import perceptual

    (tmp_path / "weights").mkdir()
    torch.manual_seed(0)
    layers = perceptual._vgg16().state_dict()
    names = {f"features.{name}": tensor for name, tensor in layers.items()}
    torch.save(names, tmp_path / "weights" / "vgg.pth")
    weights = {name: torch.rand(1, 1475, 1, 1) for name in ("alpha", "beta")}
    torch.save(weights, tmp_path / "weights" / "weights.pt")
    models = ("--model", f"one={tiny_tokenizer_folder}", "--model", f"two={tiny_tokenizer_folder}")
    arguments = (*models, "--dists", tmp_path / "weights", "--protocol", "native")
    status, _, err = evaluate(*arguments, "--count", 2, model=False)
    assert status == 0, err
    table = Document.load(tmp_path / "out").tables[0]
    place = [column.name for column in table.columns].index("DISTS")
    assert [row[0] for row in table.rows] == ["one", "two"]
    assert table.rows[0][place] == table.rows[1][place]
    assert 0 < table.rows[0][place].value < 1
    assert "(a .viq file has a header of some 340 bytes, too)" in table.note
    settings = (tmp_path / "out" / "settings.json").read_text()
    assert str(tmp_path) not in settings
    assert '"dists": "weights, ' in settings


def test_text_is_read_and_features_are_compared(viq_command, tiny_tokenizer_folder, tmp_path):
    pytest.importorskip("rapidocr_onnxruntime")
    model = ("--model", f"tiny={tiny_tokenizer_folder}")
    options = ("--data", "text", "--count", 1, *model, "--out", tmp_path / "out")
    status, _, err = viq_command("eval", "reconstruction", *options)
    assert status == 0, err
    table, by_height = Document.load(tmp_path / "out").tables[1:3]
    original, tiny = (dict(zip(_names(table), row, strict=True)) for row in table.rows)
    assert original["OCR character error"].value < 10  # of what the reader says of clear letters
    assert tiny["OCR character error"].value > 50  # random weights leave none of them
    assert tiny["pictures with text"] == 1
    assert [row[:2] for row in by_height.rows] == [("tiny", "16 px"), ("original", "16 px")]


def test_edges_and_sets_of_features_are_measured(evaluate, save_image, data, tmp_path, monkeypatch):
    from viq.errors import ModelError
    from viq.evaluation.reconstruction import tables
    from viq.external.features import load_features
    from viq.external.perceptual import HED, load_perceptual

    try:
        load_perceptual(HED)
        load_features("efficientnet-lite0")
    except ModelError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(tables, "LEAST_PICTURES", 3)
    status, _, err = evaluate("--protocol", "256", "--hed", "256")
    assert status == 0, err
    quality, sets = Document.load(tmp_path / "out").tables[:2]
    (row,) = quality.rows
    assert dict(zip(_names(quality), row, strict=True))["hed distance"].value > 0
    (row,) = sets.rows
    assert dict(zip(_names(sets), row, strict=True))["Fréchet distance, efficientnet-lite0"] > 0


def _names(table):
    return [column.name for column in table.columns]


def test_originals_of_one_name_are_refused_beside_decoded_pictures(evaluate, save_image, data):
    save_image(data / "a.jpg")
    status, _, err = evaluate("--decoded", f"other={data / 'deep'}")
    assert status == 2
    assert "--decoded other: a.jpg and a.png would both be 'a' in" in err[0]
    assert evaluate("--protocol", "native").status == 0  # models tell them apart


def test_unreadable_pictures_are_named_and_counted(evaluate, data, tmp_path):
    (data / "broken.png").write_bytes(b"no picture")
    status, out, err = evaluate("--json")
    assert status == 1
    assert sum("broken.png: not an image" in line for line in err) == 1
    assert err[-1].startswith("evaluated 3 files in")
    assert err[-1].endswith(", 1 failed")
    document = json.loads("\n".join(out))
    assert document["data"] == {"failed": 1}
    titles = [table["title"] for table in document["tables"]]
    assert titles[0] == "Quality: data, 3 of 4 pictures, native size"
    assert "Quality: data, 3 of 4 pictures, 256 × 256" in titles
    assert document["tables"][0]["rows"][0][-1] == 3
    left_out = "Left out, for they could not be read: 1 of 4 (broken.png)."
    assert document["tables"][0]["note"].endswith(left_out)
    assert document["title"] == "Reconstruction: data, 3 of 4 pictures"


def test_names_and_folders_that_would_clash_are_refused(
    evaluate, data, tiny_tokenizer_folder, tmp_path
):
    def fails(*arguments):
        status, _, (error,) = evaluate(*arguments, model=False)
        assert status == 2
        return error

    clash = "something else is called so here; give it another name"
    assert f"original: {clash}" in fails("--decoded", f"original={data}")
    model = ("--model", f"JPEG={tiny_tokenizer_folder}")
    assert f"JPEG: {clash}" in fails(*model, "--codec", "jpeg", "--curves")
    for out in (data, data / "new"):  # the last --out counts
        assert "which is read; give another folder" in fails(*model, "--out", out)
    inside = ("--decoded", f"other={tmp_path}", "--out", tmp_path / "out")
    assert "which is read; give another folder" in fails(*inside)
    assert not (data / "new").exists()


def test_damaged_samples_are_said(evaluate, tmp_path):
    assert evaluate("--protocol", "256").status == 0
    for file in (tmp_path / "out" / "samples").glob("*.jsonl"):
        file.write_text(file.read_text().replace('"size"', '"sighs"'))
    status, _, err = evaluate("--protocol", "256")
    assert status == 2
    damaged = "samples of this evaluation are damaged; remove the folder, or give another --out"
    assert f"{tmp_path / 'out'}: {damaged}" in err[-1]


def test_nothing_that_came_back_is_an_error(evaluate):
    status, out, err = evaluate("--codec", "jpeg", "--bpp", "1e-9", model=False)
    assert (status, out) == (2, [])
    assert "nothing came back of any picture: no file is so small" in err[-1]


def test_nothing_readable_is_a_failure_without_a_document(evaluate, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"x")
    status, out, _ = evaluate(data=tmp_path / "bad")
    assert (status, out) == (2, [])
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_finished_evaluation_says_the_same_again(evaluate, tmp_path):
    assert evaluate("--protocol", "256", "--count", "2").status == 0
    files = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert evaluate("--protocol", "256", "--count", "2").status == 0
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == files


def test_another_question_needs_another_folder(evaluate):
    assert evaluate("--protocol", "native").status == 0
    status, _, err = evaluate("--protocol", "256")
    assert status == 2
    assert 'was begun with protocols ["native"], this one has ["256"]' in err[0]


def test_curves_are_added_to_what_is_there(evaluate, tmp_path):
    assert evaluate("--protocol", "native").status == 0
    assert evaluate("--protocol", "native", "--curves").status == 0
    document = Document.load(tmp_path / "out")
    assert document.tables[-1].title == "Rate and distortion: data, 3 pictures, native size"
    assert {"curve-psnr.png", "curve-ssim.png"} <= {figure.file for figure in document.figures}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "there is nothing to evaluate: give --model, --decoded or --codec"),
        (("--codec", "jpeg"), "codecs get the bytes that a model takes: give --model, or --bpp"),
        (("--decoded", "folder"), "--decoded folder: give NAME=FOLDER"),
        (
            ("--bpp", "1", "--model", "nano"),
            "--bpp 1: is for a --codec, more than 0 and at most 24",
        ),
        (("--codec", "jpeg", "--bpp", "-1"), "--bpp -1: is for a --codec, more than 0"),
        (("--codec", "jpeg", "--bpp", "inf"), "--bpp inf: is for a --codec, more than 0"),
        (("--codec", "jpeg", "--bpp", "nan"), "--bpp nan: is for a --codec, more than 0"),
        (("--codec", "jpeg", "--bpp", "1e308"), "--bpp 1e+308: is for a --codec, more than 0"),
        (("--codec", "jpeg", "--bpp", "1", "--codec", "jpeg"), "JPEG at 1 bpp: is evaluated twice"),
        (("--model", "nanoo"), "nanoo: "),
    ],
)
def test_options_that_do_not_fit_are_refused(evaluate, arguments, message):
    status, _, err = evaluate(*arguments, model=False)
    assert status == 2
    assert message in err[0]


def test_text_has_native_size_only(evaluate):
    status, _, err = evaluate("--protocol", "256", data="text")
    assert status == 2
    assert "lines of text would be cut off" in err[0]


def test_lpips_must_be_there_when_it_is_asked_for(evaluate, tmp_path):
    status, _, err = evaluate("--lpips", tmp_path)
    assert status == 2
    assert "no LPIPS here" in err[0]
    status, _, err = evaluate("--dists", tmp_path)
    assert "no DISTS here" in err[0]
    status, _, err = evaluate("--inception", tmp_path / "no.pth")
    assert status == 2
    assert "FID needs" in err[0] or "no.pth" in err[0]


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_gives_the_same(
    viq_command, save_image, tiny_tokenizer_folder, tmp_path
):
    for n in range(12):
        save_image(tmp_path / "data" / f"{n:02d}.png", 200 + n, 180)

    def arguments(out):
        options = ["--data", tmp_path / "data", "--model", tiny_tokenizer_folder]
        options += ["--codec", "webp", "--protocol", "native", "--out", tmp_path / out]
        options += ["--no-ocr", "--hed", "no"]
        return ["eval", "reconstruction", *map(str, options)]

    def lines():
        return [line for path in samples.glob("*-*.jsonl") for line in path.open()]

    samples = tmp_path / "killed" / "samples"
    command = [sys.executable, "-m", "viq.cli.main", *arguments("killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(lines()) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.read_bytes() for path in samples.glob("*.jsonl")}
    assert 2 <= len(lines()) < 24
    for out in ("killed", "whole"):
        assert viq_command(*arguments(out)).status == 0
    for path, content in before.items():
        whole = content[: content.rfind(b"\n") + 1]
        assert path.read_bytes().startswith(whole)  # none is done again
    killed, whole = (Document.load(tmp_path / out) for out in ("killed", "whole"))
    assert killed.tables == whole.tables
    for figure in killed.figures:
        first, second = (tmp_path / out / figure.file for out in ("killed", "whole"))
        assert first.read_bytes() == second.read_bytes()
