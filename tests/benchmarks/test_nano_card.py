"""benchmarks/nano: the card of the bundled model, and the counts of its data."""

import json
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard
from nano import card, data
from PIL import Image

from viq.card import load_counts
from viq.evaluation.document import Column, Document, Figure, Score, Table
from viq.evaluation.provenance import Provenance


@pytest.fixture
def make_result(tmp_path):
    """Writes the folder of an evaluation with a table and a picture."""

    def make(name, command, file="sheet-0.png"):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / file)
        made = Provenance(
            command=command, date="2026-11-22", commit=None, hardware="A", threads=1, versions={}
        )
        columns = Column(name="subject"), Column(name="PSNR", unit="dB", better="higher")
        row = "nano", Score(value=25.0, low=24.0, high=26.0, count=9)
        Document(
            kind="reconstruction",
            title=f"Reconstruction: {name}",
            made=made,
            tables=(Table(title="Quality", columns=columns, rows=(row,)),),
            figures=(Figure(file=file, title="A sheet", caption=f"Pictures of {name}."),),
        ).save(folder)
        return folder

    return make


@pytest.fixture
def model(tiny_tokenizer_folder, tmp_path):
    return shutil.copytree(tiny_tokenizer_folder, tmp_path / "model")


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "runs" / "vae"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"stage": "vae"}')
    (folder / "log.jsonl").write_text('{"step": 9, "time": 1.0, "loss": 1.0}\n')
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a script's main with arguments: its status, and what it says on stderr."""

    def run(script, *arguments):
        monkeypatch.setattr("sys.argv", ["script", *(str(a) for a in arguments)])
        return script.main(), capsys.readouterr().err

    return run


def test_the_card_gathers_runs_results_and_pictures(
    command, make_result, model, run_folder, tmp_path
):
    samples = make_result("samples", "viq eval reconstruction --data src/viq/samples --model nano")
    photos = make_result("photos", "viq eval reconstruction --data PHOTOS", "curve-psnr.png")
    sheet = tmp_path / "side-by-side.png"
    Image.new("RGB", (8, 8)).save(sheet)
    options = ["--model", model, "--run", run_folder, "--run", f"again={run_folder}"]
    options += ["--result", samples, "--result", f"other={photos}", "--hardware", "2 cores"]
    options += ["--sheet", sheet, "--shown", photos / "curve-psnr.png"]
    options += ["--failed", samples / "sheet-0.png", "--failures", "Letters blur."]
    assert command(card, *options) == (0, "")
    path = model / "README.md"
    page = path.read_text()
    files = [f"card/{n}" for n in ("side-by-side.png", "photos-curve-psnr.png")]
    files += ["card/samples-sheet-0.png"]
    assert re.findall(r"^!\[.*\]\((.*)\)$", page, re.MULTILINE) == files
    assert all((model / file).is_file() for file in files)
    assert "| vae | – | 2 cores | 9 |" in page
    assert "| again (vae) |" in page
    assert "## Failures\n\nLetters blur.\n" in page
    (result,) = ModelCard.load(path).data.eval_results  # of the other nothing is nano's
    assert (result.metric_type, result.metric_value) == ("psnr", 25.0)
    assert page.count("25.00 [24.00, 26.00]") == 2
    counted = load_counts(card.Path(card.__file__).with_name("data.json"))
    assert [one.rows for one in counted] == [11_824, 301]
    assert all(sum(v.values()) == one.rows for one in counted for v in one.by.values())
    assert f"### {counted[0].name}: 11,824 pictures" in page


def test_only_pictures_that_may_be_copied_are(command, make_result, model, run_folder, tmp_path):
    photos = make_result("photos", "viq eval reconstruction --data PHOTOS")
    none = make_result("none", "viq eval cost")
    for shown, message in (
        (photos / "sheet-0.png", "shows pictures of PHOTOS, not all of which may be copied"),
        (none / "sheet-0.png", "shows pictures of unknown data, not all of which may be copied"),
        (none / "other.png", "is no figure of the evaluation in its folder"),
    ):
        status, err = command(card, "--model", model, "--shown", shown)
        assert (status, err) == (2, f"card.py: error: {shown}: {message}\n")
    sheet = tmp_path / "none.png"
    status, err = command(card, "--model", model, "--sheet", sheet)
    assert (status, err) == (2, f"card.py: error: {sheet}: no such file\n")
    status, err = command(card, "--model", model, "--run", tmp_path / "none")
    assert (status, err.count("\n")) == (2, 1)
    assert not (model / "README.md").exists() or "viq-nano" not in (model / "README.md").read_text()


def test_the_counts_are_made_by_a_script(command, tmp_path):
    for split, licences in (("train", ["MIT", "CC0", "MIT"]), ("validation", ["MIT"])):
        columns = dict.fromkeys(data.COLUMNS, licences)
        pq.write_table(pa.table(columns), tmp_path / f"{split}-00000-of-00001.parquet")
    out = tmp_path / "data.json"
    assert command(data, "--data", tmp_path, "--out", out) == (0, "")
    train, validation = load_counts(out)
    assert (train.name, validation.name) == ("corpus, train", "corpus, validation")
    assert json.loads(out.read_text())[0]["by"]["licence"] == {"MIT": 2, "CC0": 1}
    status, err = command(data, "--data", tmp_path / "none", "--out", out)
    assert (status, err) == (2, "data.py: error: corpus, train: there are no Parquet files\n")
