"""examples/synthetic.py."""

import runpy
from pathlib import Path

from PIL import Image

EXAMPLE = Path(__file__).parents[3] / "examples" / "synthetic.py"


def test_the_example_draws_a_sheet_of_all_families(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out" / "synthetic.png"
    monkeypatch.setattr("sys.argv", [str(EXAMPLE), "--out", str(out), "--count", "2"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().out == f"{out} shows 2 pictures of each of 11 families.\n"
    with Image.open(out) as sheet:
        assert sheet.width > 2 * 320
        assert len(sheet.convert("L").getcolors()) > 50
