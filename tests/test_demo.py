"""examples/demo.py, which `make demo` runs."""

import runpy
from pathlib import Path

from PIL import Image

import viq

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"
SAMPLES = sorted((Path(viq.__file__).parent / "samples").glob("*.png"))


def test_the_demo_writes_codes_pictures_and_a_sheet(
    tiny_tokenizer_folder, tmp_path, monkeypatch, capsys
):
    arguments = ["--out", str(tmp_path / "demo"), "--model", str(tiny_tokenizer_folder)]
    monkeypatch.setattr("sys.argv", [str(DEMO), *arguments])
    runpy.run_path(str(DEMO), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["picture", "size", "grid", "codes", "bytes", "bpp", "PSNR", "SSIM"]
    assert [line.split()[0] for line in lines[1 : 1 + len(SAMPLES)]] == [
        path.stem for path in SAMPLES
    ]
    for path in SAMPLES:
        assert viq.Codes.load(tmp_path / f"demo/{path.stem}.viq").code_heads == 4
        with Image.open(path) as original, Image.open(tmp_path / "demo" / path.name) as decoded:
            assert decoded.size == original.size
    with Image.open(tmp_path / "demo/side-by-side.png") as sheet:
        assert sheet.width > 2 * 320
    assert len(SAMPLES) == 6
