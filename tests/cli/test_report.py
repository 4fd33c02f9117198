"""viq report: a page, or Markdown, of evaluations."""

import json
import os

import pytest
from PIL import Image

from viq.evaluation.document import Column, Document, Figure, Table
from viq.evaluation.provenance import Provenance

NAMES = ("codes", "reconstruction")


def save(folder, kind, subject="nano"):
    folder.mkdir(parents=True)
    Image.new("RGB", (30, 20), "teal").save(folder / "curve.png")
    columns = (Column(name="subject"), Column(name="PSNR", unit="dB"))
    Document(
        kind=kind,
        title=f"{kind} of {subject}",
        made=Provenance(
            command=f"viq eval {kind}",
            date="2026-11-22",
            commit=None,
            hardware="A processor",
            threads=1,
            versions={"viq": "0.1.0"},
        ),
        tables=(Table(title="Quality", columns=columns, rows=((subject, 24.0),)),),
        figures=(Figure(file="curve.png", title="Curve", caption="A curve."),),
    ).save(folder)
    return folder


@pytest.fixture
def results(tmp_path):
    for kind in NAMES:
        save(tmp_path / "results" / kind, kind)
    return tmp_path / "results"


def files(folder):
    """All files with their bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_page_is_written_where_it_is_asked_for(viq_command, results, tmp_path):
    before = files(results)
    page = tmp_path / "new" / "folder" / "report.html"
    status, out, err = viq_command("report", results, "--out", page, "--title", "Two & three")
    content = page.read_text("utf-8")
    size = f"{page.stat().st_size:,}"
    assert (status, out) == (0, [f"{page}: 2 evaluations, 2 tables, 2 pictures, {size} bytes"])
    assert [line.rsplit(" in ")[0] for line in err] == ["read 4 files"]
    assert "<h1>Two &amp; three</h1>" in content
    assert content.index('id="reconstruction"') < content.index('id="codes"')
    made = f"viq report {results} --out {page} --title &#x27;Two &amp; three&#x27;"
    assert f"Made by <code>{made}</code>." in content
    assert files(results) == before
    assert os.listdir(page.parent) == ["report.html"]


def test_markdown_has_its_pictures_in_a_folder_of_its_name(viq_command, results, tmp_path):
    path = tmp_path / "docs" / "RESULTS.md"
    status, out, _ = viq_command("report", results, "--markdown", path)
    text = path.read_text("utf-8")
    assert status == 0
    assert out[0].startswith(f"{path}: 2 evaluations, 2 tables, 2 pictures, ")
    names = sorted(os.listdir(tmp_path / "docs" / "RESULTS"))
    assert names == ["codes-curve.png", "reconstruction-curve.png"]
    for name in names:
        assert f"](RESULTS/{name})" in text
        with Image.open(tmp_path / "docs" / "RESULTS" / name) as image:
            assert (image.format, image.size) == ("PNG", (30, 20))
    assert f"Made by `viq report {results} --markdown {path}`." in text
    assert sorted(os.listdir(tmp_path / "docs")) == ["RESULTS", "RESULTS.md"]


def test_both_at_once_twice_are_the_same_bytes(viq_command, results, tmp_path):
    arguments = (
        "report",
        results,
        "--out",
        tmp_path / "o/a.html",
        "--markdown",
        tmp_path / "o/a.md",
    )
    assert viq_command(*arguments).status == 0
    before = files(tmp_path / "o")
    assert len(before) == 4
    assert viq_command(*arguments).status == 0
    assert files(tmp_path / "o") == before


def no_column(content):
    content["tables"][0] |= {"columns": [], "rows": [[]]}


def too_large(content):
    content["tables"][0]["rows"][0][1] = 10**400


def digits(number):
    return lambda content: content["tables"][0]["columns"][1].update(digits=number)


def null(content):
    content["figures"][0]["file"] = "a\0b"


@pytest.mark.parametrize(
    "damage", ["{", "[" * 100_000, no_column, too_large, digits(-1), digits(10**9), null]
)
def test_a_damaged_evaluation_is_named_and_the_others_go_on(damage, viq_command, results, tmp_path):
    path = results / "codes" / "result.json"
    content = json.loads(path.read_text("utf-8"))
    if callable(damage):
        damage(content)
    path.write_text(json.dumps(content) if callable(damage) else damage)
    status, out, err = viq_command("report", results, "--out", tmp_path / "a.html")
    assert status == 1
    assert out[0].startswith(f"{tmp_path / 'a.html'}: 1 evaluation, 1 table, 1 picture, ")
    assert err[0] == (
        f"viq: error: {results / 'codes' / 'result.json'}: not a result of viq eval, or damaged;"
        " repeat its viq eval, or remove the folder"
    )
    assert err[1].endswith(", 1 failed")


def test_a_missing_picture_is_named_and_its_caption_stands_in(viq_command, results, tmp_path):
    (results / "codes" / "curve.png").unlink()
    status, _, err = viq_command(
        "report", results, "--out", tmp_path / "a.html", "--markdown", tmp_path / "a.md"
    )
    assert status == 1
    assert err[0] == f"viq: error: {results / 'codes' / 'curve.png'}: the figure is not there"
    assert "This picture could not be read." in (tmp_path / "a.html").read_text("utf-8")
    assert "(This picture could not be read.)" in (tmp_path / "a.md").read_text("utf-8")
    assert os.listdir(tmp_path / "a") == ["reconstruction-curve.png"]


def test_nothing_is_written_of_no_evaluation(viq_command, results, tmp_path):
    for kind in NAMES:
        (results / kind / "result.json").write_text("{}")
    status, out, err = viq_command("report", results, "--out", tmp_path / "new" / "a.html")
    assert (status, out, len(err)) == (2, [], 3)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "there is nothing to write: give --out FILE.html, --markdown FILE.md, or both"),
        (("--out", "a.pdf"), "a.pdf: the name after --out must end in .html"),
        (("--markdown", "a"), "a: the name after --markdown must end in .md"),
    ],
)
def test_outputs_are_checked_first(arguments, message, viq_command, results):
    assert viq_command("report", results, *arguments) == (2, [], [f"viq: error: {message}"])


def test_a_folder_without_evaluations_is_refused(viq_command, tmp_path):
    outcome = viq_command("report", tmp_path, "--out", tmp_path / "a.html")
    message = f"viq: error: {tmp_path}: no result.json in this folder, so no evaluation"
    assert outcome == (2, [], [message])


def test_no_input_is_overwritten(viq_command, results):
    path = results / "codes" / "result.md"
    before = files(results)
    status, out, err = viq_command("report", results, "--markdown", path)
    assert (status, out) == (2, [])
    assert err == [
        f"viq: error: {path}: is an input and would be overwritten; choose another --out"
    ]
    assert files(results) == before


def test_no_picture_of_an_input_is_overwritten(viq_command, results):
    folder = results / "reconstruction"
    content = json.loads((folder / "result.json").read_text("utf-8"))
    content["figures"][0]["file"] = "all/codes-curve.png"  # where that of codes would go
    (folder / "all").mkdir()
    (folder / "curve.png").rename(folder / "all" / "codes-curve.png")
    (folder / "result.json").write_text(json.dumps(content))
    before = files(results)
    status, _, err = viq_command("report", results, "--markdown", folder / "all.md")
    assert status == 2
    assert err[0].startswith(f"viq: error: {folder / 'all' / 'codes-curve.png'}: is an input and")
    assert files(results) == before


@pytest.mark.parametrize(
    ("flag", "name", "at_fault"),
    [
        ("--out", "codes/result.html", "codes/result.html"),
        ("--markdown", "codes/all.md", "codes/all.md"),
        ("--markdown", "codes.md", "codes/reconstruction-curve.png"),
    ],
)
def test_no_report_is_written_into_an_evaluation(flag, name, at_fault, viq_command, results):
    before = files(results)
    status, out, err = viq_command("report", results, flag, results / name)
    assert (status, out) == (2, [])
    assert err == [
        f"viq: error: {results / at_fault}: is in an evaluation's folder; write the report"
        " elsewhere"
    ]
    assert files(results) == before


def test_pictures_of_another_report_are_named_and_kept(viq_command, results, tmp_path):
    old = tmp_path / "a" / "old.png"
    old.parent.mkdir()
    old.touch()
    status, _, err = viq_command("report", results, "--markdown", tmp_path / "a.md")
    assert status == 0
    assert f"{tmp_path / 'a'}: of another report: old.png" in err
    assert old.exists()


def test_a_page_that_cannot_be_written_is_named(viq_command, results, tmp_path):
    (tmp_path / "a.html").mkdir()
    status, _, err = viq_command("report", results, "--out", tmp_path / "a.html")
    assert status == 2
    assert err[-1] == f"viq: error: {tmp_path / 'a.html'}: cannot be written: Is a directory"


def test_it_can_be_made_again_where_its_own_output_lies(viq_command, results):
    for _ in range(2):
        status, out, _ = viq_command(
            "report", results, "--out", results / "report.html", "--markdown", results / "all.md"
        )
        assert (status, len(out)) == (0, 2)
        assert ": 2 evaluations, " in out[0]
