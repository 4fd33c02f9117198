"""Where models are found, and how their configs name others."""

import shutil

import pytest

from viq import checkpoint
from viq.errors import ModelError
from viq.mllm.files import bundled_folder, find_folder, reference


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A place of bundled models, with a tokenizer called nano."""
    (tmp_path / "weights" / "nano" / "mllm").mkdir(parents=True)
    (tmp_path / "weights" / "nano" / "config.json").write_text("{}")
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def test_a_bundled_name_is_the_model_beside_the_tokenizer(weights):
    assert bundled_folder("nano") is None
    with pytest.raises(ModelError, match=r"^nano: no language model comes with it yet; name a"):
        find_folder("nano")
    (weights / "nano" / "mllm" / "config.json").write_text("{}")
    assert find_folder("nano") == bundled_folder("nano") == weights / "nano" / "mllm"


def test_a_bundled_name_stays_one_where_a_folder_has_the_same(weights, tmp_path, monkeypatch):
    (tmp_path / "nano").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert reference("nano", tmp_path / "model") == "nano"
    assert reference("other", tmp_path / "model") == str(tmp_path / "other")
    shutil.rmtree(weights / "nano")
    assert reference("nano", tmp_path / "model") == str(tmp_path / "nano")
    (tmp_path / "model" / "lm").mkdir(parents=True)
    assert reference("other:0,2", tmp_path / "model") == f"{tmp_path / 'other'}:0,2"
    assert reference("model/lm:0,2", tmp_path / "model") == "./lm:0,2"


def test_a_model_may_lie_in_a_tokenizers_or_a_runs_folder(tmp_path):
    (tmp_path / "mllm").mkdir()
    assert find_folder(tmp_path) == tmp_path
    (tmp_path / "mllm" / "config.json").write_text("{}")
    assert find_folder(tmp_path) == find_folder(tmp_path / "mllm") == tmp_path / "mllm"
