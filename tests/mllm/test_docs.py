"""docs/LANGUAGE_MODELS.md: its code runs as it stands, but for the language model's name."""

import re
from pathlib import Path

import pytest
import torch

import viq
from viq.cli.main import COMMANDS

DOC = Path(viq.__file__).parents[2] / "docs" / "LANGUAGE_MODELS.md"


@pytest.mark.skipif(not DOC.is_file(), reason="an installed package has no docs")
def test_the_code_runs(lm_folder, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures[2].save("photo.jpg")
    text = DOC.read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = "\n".join(blocks)
    assert code.count("HuggingFaceTB/SmolLM2-135M-Instruct") == 3
    scope: dict = {}
    exec(code.replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(lm_folder)), scope)
    assert scope["logits"].shape[:2] == scope["inputs_embeds"].shape[:2]
    assert torch.isfinite(scope["loss"])
    assert scope["model"].config.adapter is None  # merged, read again
    assert (tmp_path / "mine/adapter").is_dir()
    commands = re.findall(r"^\$ viq (\w+)", text, re.MULTILINE)
    assert commands
    assert set(commands) <= set(COMMANDS)
