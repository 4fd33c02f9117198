"""What tables say of a model, and what tells it from others."""

from dataclasses import replace

import pytest
import torch

from viq.errors import InputError
from viq.evaluation.samples import Samples
from viq.evaluation.understanding.models import (
    check_same,
    common_limit,
    describe,
    fingerprint,
    limit_note,
    model_table,
)
from viq.evaluation.understanding.results import seen_part
from viq.evaluation.understanding.synthetic import SYNTHETIC
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel
from viq.mllm.vision import load_features
from viq.tokenizer import load


def of_codes(folder) -> MultimodalModel:
    torch.manual_seed(0)
    config = MultimodalConfig(lm="tiny", tokenizer=str(folder), adapter=AdapterConfig(rank=4))
    return MultimodalModel.build(config)


def of_features(folder) -> MultimodalModel:
    torch.manual_seed(0)
    model = MultimodalModel.build(MultimodalConfig(lm="tiny", width=64, adapter=None))
    model.read_features_of(str(folder), load_features("continuous", str(folder)))
    return model


def change(model: MultimodalModel) -> None:
    with torch.no_grad():
        next(model.projector.parameters()).flatten()[0] += 1


def test_a_fingerprint_is_of_weights_and_of_what_a_model_sees_with(tiny_tokenizer_folder):
    model = of_codes(tiny_tokenizer_folder)
    first = fingerprint(model)
    assert first == fingerprint(of_codes(tiny_tokenizer_folder))
    for name, value in (
        ("fingerprint", "another"),
        ("pool", 4),
        ("image", replace(model.config.image, max_pixels=4096)),
    ):
        other = of_codes(tiny_tokenizer_folder)
        setattr(other.config, name, value)
        assert fingerprint(other) != first, name
    change(model)
    assert fingerprint(model) != first


def test_a_fingerprint_is_of_the_network_that_makes_the_features(tiny_tokenizer_folder, tmp_path):
    folder = tmp_path / "tokenizer"
    tokenizer = load(str(tiny_tokenizer_folder))
    tokenizer.save_pretrained(folder)
    model = of_features(folder)
    first = fingerprint(model)
    assert first == fingerprint(of_features(folder))
    with torch.no_grad():
        next(tokenizer.part("encoder").parameters()).flatten()[0] += 1
    tokenizer.save_pretrained(folder)
    assert fingerprint(model) != first


def test_the_rate_is_that_of_codes_or_of_features(tiny_tokenizer_folder):
    codes, features = of_codes(tiny_tokenizer_folder), of_features(tiny_tokenizer_folder)
    found, other = describe(codes), describe(features)
    heads = codes.config.embedder.code_heads
    assert (found["sees"], found["width"]) == ("codes", 64)
    assert found["bits_per_pixel"] == 16 * heads / 256
    assert (other["sees"], other["bits_per_pixel"]) == ("continuous", 64 * 16 / 256)
    assert found["lm"].startswith("tiny (0.")
    features.config.image = None
    assert (describe(features)["bits_per_pixel"], describe(features)["max_pixels"]) == (None, None)


@pytest.fixture
def samples(tmp_path):
    with Samples.open(tmp_path, {}) as samples:
        yield samples


def note(samples, name, *, limit, bits=0.25):
    found = {"fingerprint": name, "sees": "codes", "width": 8, "lm": "x (1.0 M)"}
    samples.add("models", {name: found | {"bits_per_pixel": bits, "max_pixels": limit}})


def test_a_model_stays_what_it_was(samples):
    check_same(samples, "a", {"fingerprint": "1"}, "where")
    check_same(samples, "a", {"fingerprint": "1"}, "where")
    with pytest.raises(InputError, match=r"^where: this model has changed since the evaluation"):
        check_same(samples, "a", {"fingerprint": "2"}, "where")


def test_the_least_limit_of_pixels_is_that_of_all(samples):
    for name, limit in (("a", 4000), ("b", 1000), ("c", 4000), ("d", None)):
        note(samples, name, limit=limit)
    assert common_limit(samples, ["a", "b", "c", "d"]) == 1000
    assert common_limit(samples, ["a", "c", "d"]) is None
    assert limit_note(samples, ["a", "c"]) is None
    assert limit_note(samples, ["a", "b", "d"]) == (
        "Pictures of more than 1,000 pixels were scaled down for all models, as they have different"
        " limits (a 4,000, b 1,000) and are to see the same."
    )


def test_a_row_says_what_a_model_sees_and_reads(samples):
    note(samples, "a", limit=1)
    note(samples, "b", limit=1, bits=None)
    task = SYNTHETIC[0]
    records = {
        "0": {"place": 0, "pictures": 1, "picture_tokens": 10},
        "1": {"place": 1, "pictures": 2, "picture_tokens": 35},
        "2": {"place": 2},
    }
    samples.add(seen_part("a", task.name), records)
    assert model_table(samples, ["a", "b"], [task]).rows == (
        ("a", "codes", 8, 0.25, 15.0, "x (1.0 M)"),
        ("b", "codes", 8, None, None, "x (1.0 M)"),
    )
