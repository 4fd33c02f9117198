"""examples/shallow_lm.py: a language model with few of another one's layers."""

import runpy
from pathlib import Path

import torch

from viq.external.language_model import load_language_model, tiny_language_model

SCRIPT = Path(__file__).parents[1] / "examples" / "shallow_lm.py"


def test_the_layers_that_are_named_are_kept_and_the_whole_loads(tmp_path, monkeypatch, capsys):
    tiny_language_model(tmp_path / "tiny")
    arguments = ["--lm", str(tmp_path / "tiny"), "--layers", "1", "--out", str(tmp_path / "lm")]
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    whole = load_language_model(str(tmp_path / "tiny")).model
    shallow, tokenizer = load_language_model(str(tmp_path / "lm"))
    assert f"{sum(p.numel() for p in shallow.parameters()):,} parameters" in capsys.readouterr().out
    assert len(shallow.model.layers) == shallow.config.num_hidden_layers == 1
    kept, last = shallow.model.layers[0].state_dict(), whole.model.layers[1].state_dict()
    for name, tensor in last.items():
        torch.testing.assert_close(kept[name], tensor.bfloat16())
    chat = [{"role": "user", "content": "Hm?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHm?<|im_end|>\n<|im_start|>assistant\n"
