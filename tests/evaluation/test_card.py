"""What a card says of an evaluation."""

import pytest

from viq.evaluation.card import measured, scores_section
from viq.evaluation.document import Column, Document, Score, Table
from viq.evaluation.provenance import Provenance

MADE = Provenance(
    command="viq eval reconstruction --data photos",
    date="2026-11-22",
    commit="abc1234",
    hardware="A processor x 2",
    threads=1,
    versions={"viq": "0.1.0"},
)
RATE = Column(name="bits per pixel", digits=3)
PSNR = Column(name="PSNR", unit="dB", better="higher")


def score(value):
    return Score(value=value, low=value - 1, high=value + 1, count=9)


QUALITY = Table(
    title="Quality: photos",
    columns=(Column(name="subject"), RATE, PSNR, Column(name="used", better="higher")),
    rows=(("nano", score(2.0), score(25.0), 12), ("JPEG", score(2.0), score(27.0), None)),
    note="Of nine.",
)
CURVE = Table(
    title="Rate and distortion: photos",
    columns=(Column(name="subject"), RATE, PSNR),
    rows=(("nano", score(1.0), score(20.0)),),
)
EXAMPLES = Table(title="Examples", columns=(Column(name="Model"),), rows=(("nano",),))
DOCUMENT = Document(
    kind="reconstruction",
    title="Reconstruction: photos",
    made=MADE,
    tables=(QUALITY, CURVE, EXAMPLES),
    notes=("As they are.",),
)
TASKS = Table(
    title="Understanding",
    columns=tuple(
        Column(name=name, unit=unit)
        for name, unit in (("Model", ""), ("Task", ""), ("Score", "%"), ("No image", "%"))
    ),
    rows=(
        ("nano", "words", score(90.0), score(1.0)),
        ("nano", "lines", None, score(1.0)),
        ("other", "words", score(9.0), None),
    ),
)


def test_tables_of_means_are_shown_with_intervals_and_origin():
    section = scores_section(DOCUMENT)
    assert section.title == "Reconstruction: photos"
    lines = section.text.splitlines()
    assert lines[0] == "As they are."
    assert "| nano | 2.000 [1.000, 3.000] | 25.00 [24.00, 26.00] | 12 |" in lines
    assert "Of nine." in lines
    assert "`viq eval reconstruction --data photos`  " in lines
    assert "Rate and distortion" not in section.text
    assert "Examples" not in section.text


def test_tables_can_be_named():
    text = scores_section(DOCUMENT, titles=["Examples"]).text
    assert "**Examples**" in text
    assert "Quality" not in text
    with pytest.raises(ValueError, match="Reconstruction: photos has no table Nonsense"):
        scores_section(DOCUMENT, titles=["Nonsense", "Examples"])


def test_the_hub_gets_the_qualities_of_the_subject_with_their_rate():
    (found,) = measured(DOCUMENT, "nano")
    assert (found.task, found.metric, found.unit) == ("image-reconstruction", "PSNR", "dB")
    assert found.data == "Quality: photos, 2.000 [1.000, 3.000] bits per pixel"
    assert (found.value, found.interval) == (25.0, (24.0, 26.0))
    assert measured(DOCUMENT, "somebody") == []


def test_of_a_task_the_first_mean_counts():
    document = Document(kind="understanding", title="U", made=MADE, tables=(TASKS,))
    found = [(one.task, one.data, one.metric, one.value) for one in measured(document, "nano")]
    # Where the score is missing, what there is without pictures does not take its place.
    assert found == [("visual-question-answering", "Understanding, words", "Score", 90.0)]
