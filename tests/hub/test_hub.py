"""To the hub and back: cards, revisions, and transformers' Auto classes by a hub id alone."""

import json
import re

import pytest
from huggingface_hub import ModelCard

PUSH = """
import json, viq
from dataclasses import replace
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel

tokenizer = viq.load(folder)
first = tokenizer.push_to_hub("someone/tiny")
tokenizer.config = replace(
    tokenizer.config, image=replace(tokenizer.config.image, max_pixels=4096)
)
second = tokenizer.push_to_hub(
    "someone/tiny", model_card_kwargs={"license": "mit", "data": "Gradients.", "scores": "24 dB."}
)
config = MultimodalConfig(lm="tiny", tokenizer="someone/tiny", adapter=AdapterConfig(rank=4))
reader = MultimodalModel.build(config)
reader.push_to_hub("someone/reader", full=True, model_card_kwargs={"license": "mit"})
reader.save_pretrained("reader-folder")
old = viq.load("someone/tiny", revision=first.oid)
new = viq.load("someone/tiny")
embedder = viq.load_embedder("someone/tiny", revision=first.oid)
try:
    viq.load("someone/tiny", revision="no-such-one")
except viq.ModelError as error:
    message = str(error)
codes = old.encode(photo)
print(json.dumps({
    "commits": [first.oid, second.oid],
    "fingerprint": tokenizer.fingerprint,
    "codes": [tokenizer.encode(photo).values.tolist(), codes.values.tolist()],
    "max_pixels": [old.config.image.max_pixels, new.config.image.max_pixels],
    "decoded": old.decode(codes).size,
    "width": embedder.config.width,
    "message": message,
}))
"""

AUTO = """
import json, sys
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers import AutoProcessor

assert "viq" not in sys.modules
try:
    AutoConfig.from_pretrained(where, trust_remote_code=False)
except ValueError as error:
    refused = str(error)
assert "viq" not in sys.modules
model = AutoModelForCausalLM.from_pretrained(where, trust_remote_code=True)
assert "viq.mllm" in sys.modules
processor = AutoProcessor.from_pretrained(where, trust_remote_code=True)
config = AutoConfig.from_pretrained(where)  # now it is known
other = AutoModelForImageTextToText.from_pretrained(where)
question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hm?"}]}]
inputs = processor(question, [photo])
answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)
model.save_pretrained("again")
import pathlib
print(json.dumps({
    "refused": refused,
    "kinds": [
        f"{type(one).__module__}.{type(one).__name__}" for one in (model, processor, config, other)
    ],
    "tokens": answer.shape[1] - inputs["input_ids"].shape[1],
    "again": sorted(path.name for path in pathlib.Path("again").iterdir()),
}))
"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    from PIL import Image

    path = tmp_path_factory.mktemp("hub") / "photo.png"
    Image.linear_gradient("L").resize((48, 32)).convert("RGB").save(path)
    return str(path)


@pytest.fixture(scope="module")
def pushed(on_hub, tiny_tokenizer_folder, photo):
    return on_hub(PUSH, folder=str(tiny_tokenizer_folder), photo=photo)


def text_of(hub, repository, file, revision="main"):
    return hub.repositories[repository].at(revision)[file].decode()


def test_a_revision_is_what_was_pushed_then(pushed):
    first, second = pushed["commits"]
    assert first != second
    assert pushed["max_pixels"] == [4_194_304, 4096]
    before, after = pushed["codes"]
    assert before == after
    assert pushed["decoded"] == [48, 32]
    assert pushed["width"] == 64
    assert pushed["message"].startswith("someone/tiny: cannot be fetched from the hub (")


def test_the_tokenizers_card_has_what_was_said_and_loads_it_by_its_id(pushed, hub):
    first, second = (text_of(hub, "someone/tiny", "README.md", c) for c in pushed["commits"])
    assert "Licence of the weights: not stated." in first
    assert "license:" not in first
    assert "Not stated by whoever saved this model." in first
    card = ModelCard(second)
    assert (card.data.license, card.data.library_name) == ("mit", "viq")
    for said in ("Gradients.", "24 dB.", "Licence of the weights: mit.", pushed["fingerprint"]):
        assert said in second
    assert 'tokenizer = viq.load("someone/tiny")' in second
    assert "/tmp" not in second


def test_the_language_models_card_names_its_id_and_its_files_are_there(pushed, hub):
    files = hub.repositories["someone/reader"].at("main")
    assert {"README.md", "config.json", "modeling_viq.py", "lm/config.json"} <= files.keys()
    page = text_of(hub, "someone/reader", "README.md")
    assert 'MultimodalModel.from_pretrained("someone/reader")' in page
    assert "trust_remote_code=True" in page
    assert json.loads(files["config.json"])["auto_map"]["AutoConfig"].startswith("modeling_viq.")
    assert len(files["modeling_viq.py"].decode().splitlines()) <= 12


@pytest.mark.parametrize("kind", ["hub id", pytest.param("folder", marks=pytest.mark.slow)])
def test_auto_classes_load_it_where_viq_is_not_imported(kind, pushed, on_hub, hub, photo, tmp_path):
    where = "someone/reader"
    if kind == "folder":
        for name, data in hub.repositories["someone/reader"].at("main").items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        where = str(tmp_path)
    found = on_hub(AUTO, where=where, photo=photo)
    assert "trust_remote_code=True" in found["refused"]
    assert found["kinds"] == [
        "viq.mllm.model.MultimodalModel",
        "viq.mllm.processor.Processor",
        "viq.mllm.config.MultimodalConfig",
        "viq.mllm.model.MultimodalModel",
    ]
    assert 0 < found["tokens"] <= 4
    assert [name for name in found["again"] if re.search(r"\.py$", name)] == ["modeling_viq.py"]


def test_the_push_names_nothing_that_is_on_this_machine_alone(tiny_tokenizer_folder, tmp_path):
    from viq import ModelError
    from viq.external.language_model import tiny_language_model
    from viq.mllm import MultimodalConfig, MultimodalModel

    tiny_language_model(tmp_path / "lm")
    config = MultimodalConfig(lm=str(tmp_path / "lm"), width=8, adapter=None)
    model = MultimodalModel.build(config)
    with pytest.raises(
        ModelError, match=r"its language model is the folder .*lm, which is on this"
    ):
        model.push_to_hub("someone/other")
    model.config.lm, model.config.tokenizer = "tiny", str(tiny_tokenizer_folder)
    with pytest.raises(ModelError, match=r"its vision tokenizer is the folder .* set config.token"):
        model.push_to_hub("someone/other", full=True)
    with pytest.raises(TypeError, match="call its push_to_hub"):
        model.save_pretrained(tmp_path / "x", push_to_hub=True)
    assert not (tmp_path / "x").exists()
