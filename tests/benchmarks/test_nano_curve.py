"""benchmarks/nano/curve.py: quality against compute, from logs."""

import json

import pytest
from nano import curve
from PIL import Image

from viq.errors import InputError


@pytest.fixture
def run(tmp_path):
    """A run of 40 steps at 2 s each, with a pause of an hour, evaluated at its end."""
    folder = tmp_path / "one"
    folder.mkdir()
    lines = [
        {
            "step": step,
            "time": 2.0 * step + 3600 * (step > 20),
            "loss": 1.0,
            "text": 4.0 - step / 40,
        }
        for step in range(10, 50, 10)
    ]
    lines.append({"step": 40, "time": 9999.0, "eval_text": 3.5})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_hours_leave_pauses_out(run):
    found = curve.read(run, "text")
    assert found.hours == pytest.approx(40 * 2 / 3600)
    assert found.trained[1] == [3.75, 3.5, 3.25, 3.0]
    assert found.held_out == ([pytest.approx(80 / 3600)], [3.5])


def test_a_picture_of_the_panels_is_drawn(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "curve.png"
    words = ["curve.py", "--panel", "Text", "text", str(run), str(run), "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    assert curve.main() == 0
    assert Image.open(out).width == 900
    monkeypatch.setattr("sys.argv", [*words[:3], "patch", str(run), "--out", str(out)])
    assert curve.main() == 2
    assert capsys.readouterr().err == f"curve.py: error: {run / 'log.jsonl'}: has no 'patch'\n"


def test_a_log_of_one_line_says_no_time(run):
    log = run / "log.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="too few lines"):
        curve.read(run, "text")


def test_a_running_median_keeps_single_jumps_out():
    assert curve.smooth([1.0] * 9 + [50.0] + [1.0] * 9) == [1.0] * 19
