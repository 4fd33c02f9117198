"""The report as Markdown."""

import pytest

from viq.evaluation.document import Column, Table
from viq.evaluation.report.collect import collect, load_document
from viq.evaluation.report.markdown import markdown, picture_names


@pytest.fixture
def make():
    """The Markdown of the documents in folders, its pictures in "RESULTS"."""

    def write(*folders, missing=(), title="Evaluation"):
        sections = collect([(folder, load_document(folder)) for folder in folders])
        names = picture_names(sections)
        addresses = {f: f"RESULTS/{name}" for f, name in names.items() if name not in missing}
        return markdown(title, sections, addresses, "Made by `viq report results`.")

    return write


def test_all_of_one_evaluation(save, make):
    assert make(save(notes=("A `note`.",))).split("\n\n") == [
        "# Evaluation",
        "Made by `viq report results`.",
        "## Reconstruction",
        "A `note`.",
        "### Quality",
        "| subject | PSNR (dB) | error (%) |\n| :-- | --: | --: |\n"
        "| nano | 24.00 [23.50, 24.75] | – |\n| JPEG | **25.25** | 3.0 |",
        "13 photos.",
        "### Curve",
        "![PSNR over bits per pixel.](RESULTS/reconstruction-curve.png)",
        "*PSNR over bits per pixel.*",
        "## Sources",
        "1. Reconstruction of nano  \n   `viq eval reconstruction --model nano`  \n"
        "   2026-11-22, commit 2e62485, A processor x 2, 1 thread; viq 0.1.0.\n",
    ]


def test_two_evaluations_stand_side_by_side(save, make):
    parts = make(save("nano", notes=("Only nano.",)), save("giant", psnr=30.0)).split("\n\n")
    assert parts[3:9] == [
        "Only nano. (1)",
        "### Quality",
        "| subject | PSNR (dB) | error (%) |\n| :-- | --: | --: |\n"
        "| nano (1) | 24.00 [23.50, 24.75] | – |\n| JPEG (1, 2) | 25.25 | 3.0 |\n"
        "| giant (2) | **30.00 [29.50, 30.75]** | – |",
        "13 photos.",
        "From [sources 1, 2](#sources).",
        "### Curve",
    ]
    assert parts[9].split("\n") == [
        "| ![PSNR over bits per pixel.](RESULTS/reconstruction-curve.png)"
        " | ![PSNR over bits per pixel.](RESULTS/reconstruction-curve-2.png) |",
        "| --- | --- |",
        "| *Reconstruction of nano (1): PSNR over bits per pixel.*"
        " | *Reconstruction of giant (2): PSNR over bits per pixel.* |",
    ]


def test_a_table_and_figures_of_one_title_share_a_heading(save, make):
    table = Table(title="Curve", columns=(Column(name="a"),), rows=(("x",),))
    text = make(save(tables=(table,)))
    assert text.count("###") == 1
    assert text.index("### Curve") < text.index("| x |") < text.index("![")


def test_many_figures_of_one_title_stand_below_each_other(save, make):
    text = make(*(save(name) for name in "abcd"))
    assert text.count("\n\n![") == 4


def test_the_caption_stands_in_for_a_picture_that_is_not_there(save, make):
    text = make(save(), missing={"reconstruction-curve.png"})
    assert "\n\n(This picture could not be read.)\n\n*PSNR over bits per pixel.*\n\n" in text


def test_names_are_text_and_addresses_have_no_spaces(save, make):
    columns = (Column(name="a|b"), Column(name="c"))
    table = Table(title="<b>T</b> *x*", columns=columns, rows=(("x|y\nz", 1),))
    notes = ("<b> and\n`<i>`", "``a`<u>`` and ` <s>")
    folder = save(
        tables=(table,), notes=notes, title="A\nB [c](d)", caption="<i> ]( |", kind="new kind"
    )
    text = make(folder, title="# <script>")
    assert "\n| x\\|y z | 1 |\n" in text
    assert "\n\n\\<b> and `<i>`\n\n" in text
    assert "\n\n``a`<u>`` and ` \\<s>\n\n" in text
    assert "### &lt;b&gt;T&lt;/b&gt; \\*x\\*\n" in text
    assert "1. A B \\[c\\](d)  \n" in text
    assert "![&lt;i&gt; \\]( |](RESULTS/new-kind-curve.png)" in text
    assert text.startswith("# # &lt;script&gt;\n")


def test_picture_names_differ_and_stay_the_same(save):
    folders = [save("a"), save("A"), save("a", "codes"), save("b", kind="a/b c", folder="b")]
    documents = [(folder, load_document(folder)) for folder in folders]
    names = picture_names(collect(documents))
    assert list(names.values()) == [
        "reconstruction-curve.png",
        "reconstruction-curve-2.png",
        "codes-curve.png",
        "a-b-c-curve.png",
    ]
    assert picture_names(collect(documents)) == names
