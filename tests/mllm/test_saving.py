"""What is written to a folder, and read from it: by our classes and by transformers' own."""

import copy
import json
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    LlamaConfig,
    MistralConfig,
)

from viq import ModelError
from viq.external.language_model import load_language_model
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel, Processor, files

PROCESSOR = [
    "chat_template.jinja",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture(scope="module")
def inputs(reader, conversations, codes):
    text, which = conversations[2]
    return reader.processor()(text, [codes[n] for n in which])


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def edited(folder, **changes):
    """Changes settings in a saved ``config.json``."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_by_default_the_language_model_is_a_reference(reader, inputs, lm_folder, tmp_path):
    reader.save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)  # over itself
    assert files_in(tmp_path) == [
        "README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        *("chat_template.jinja", "config.json", "model.safetensors", "modeling_viq.py"),
        *PROCESSOR[1:],
    ]
    tensors = load_file(tmp_path / "model.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {"projector", "embedder"}
    read = MultimodalModel.from_pretrained(tmp_path)
    assert not read.training
    assert read.config == reader.config
    assert read.config.adapter == AdapterConfig(rank=4, alpha=8, dropout=0.0)
    assert read.config.lm == str(lm_folder)
    assert read.parameter_groups().keys() == {"projector", "lm"}
    assert torch.equal(logits(read, inputs), logits(reader, inputs))
    state, expected = read.state_dict(), reader.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state.items())


@pytest.mark.parametrize("dora", [False, True])
def test_a_full_folder_needs_nothing_else(dora, make_reader, inputs, lm_folder, tmp_path):
    own = tmp_path / "own-lm"
    shutil.copytree(lm_folder, own)
    adapter = AdapterConfig(rank=4, alpha=8, dropout=0.0, dora=dora)
    model = make_reader(lm=str(own), adapter=adapter)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "full", full=True)
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not (tmp_path / "full" / "adapter").exists()
    shutil.rmtree(own)
    (tmp_path / "full").rename(tmp_path / "moved")
    assert json.loads((tmp_path / "moved/config.json").read_text())["lm"] == "./lm"
    read = MultimodalModel.from_pretrained(tmp_path / "moved", lm="/of/no/use")
    assert read.config.adapter is None
    plain = make_reader(adapter=None)
    plain.projector.load_state_dict(model.projector.state_dict())
    expected = logits(model, inputs)
    assert (logits(plain, inputs) - expected).abs().max() > 0.1  # so the adapters count
    torch.testing.assert_close(logits(read, inputs), expected, rtol=0, atol=1e-4)
    # The merged language model is one of transformers' own.
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "moved/lm")
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(lm(ids).logits, logits(read, {"input_ids": ids}))
    read.save_pretrained(tmp_path / "moved")  # a reference inside stays one
    assert MultimodalModel.from_pretrained(tmp_path / "moved").config == read.config


def test_a_language_model_trained_whole_is_saved_whole(make_reader, inputs, tmp_path):
    model = make_reader(adapter=None, train_lm=True)
    model.save_pretrained(tmp_path / "first", max_shard_size="40kB")
    assert len(list((tmp_path / "first/lm").glob("model-*.safetensors"))) > 1
    (tmp_path / "first").rename(tmp_path / "moved")
    read = MultimodalModel.from_pretrained(tmp_path / "moved", lm="/nowhere")
    assert read.config.train_lm
    assert torch.equal(logits(read, inputs), logits(model, inputs))
    assert len(read.parameter_groups()["lm"]) == len(list(read.lm.parameters()))


def test_without_embedder_and_with_one_that_trained(make_reader, lm_folder, inputs, tmp_path):
    config = MultimodalConfig(lm=str(lm_folder), width=12, adapter=None)
    model = MultimodalModel.build(config)
    model.save_pretrained(tmp_path / "features")
    read = MultimodalModel.from_pretrained(tmp_path / "features")
    assert read.embedder is None
    assert torch.equal(read.projector.proj_in.weight, model.projector.proj_in.weight)
    assert not (tmp_path / "features/adapter").exists()
    model = make_reader()
    with torch.no_grad():
        model.embedder.scale.mul_(1.5)
    model.save_pretrained(tmp_path / "codes")
    read = MultimodalModel.from_pretrained(tmp_path / "codes")
    assert torch.equal(logits(read, inputs), logits(model, inputs))


def test_transformers_own_classes_read_it(reader, inputs, conversations, codes, tmp_path):
    reader.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path) == reader.config
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, Processor)
    text, which = conversations[2]
    made = processor(text, [codes[n] for n in which])
    assert all(torch.equal(tensor, inputs[name]) for name, tensor in made.items())
    for kind in (AutoModelForImageTextToText, AutoModelForCausalLM):
        model = kind.from_pretrained(tmp_path)
        assert isinstance(model, MultimodalModel)
        assert torch.equal(logits(model, made), logits(reader, inputs))
    half = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="bfloat16")
    assert half.causal_lm.lm_head.weight.dtype == half.dtype == torch.bfloat16
    exact = logits(reader, inputs)
    assert (logits(half, inputs).float() - exact).abs().mean() < 0.05 * exact.std()
    eager = MultimodalModel.from_pretrained(tmp_path, attn_implementation="eager", dtype="auto")
    assert eager.causal_lm.config._attn_implementation == "eager"
    torch.testing.assert_close(logits(eager, inputs), logits(reader, inputs), rtol=0, atol=1e-4)


def test_a_state_gathered_elsewhere_is_what_is_written(reader, inputs, tmp_path):
    """As distributed trainers save: by one process, from a state that they put together."""
    state = {name: tensor * 1.01 for name, tensor in reader.state_dict().items()}
    reader.save_pretrained(tmp_path / "other", is_main_process=False, state_dict=state)
    assert not (tmp_path / "other").exists()
    reader.save_pretrained(tmp_path, state_dict=state)
    read = MultimodalModel.from_pretrained(tmp_path).state_dict()
    for name in ("projector.begin", "embedder.scale", next(n for n in state if "lora_B" in n)):
        assert torch.equal(read[name], state[name])
    reader.save_pretrained(tmp_path / "full", full=True, state_dict=state)
    lm = load_file(tmp_path / "full/lm/model.safetensors")
    name = "model.embed_tokens.weight"
    assert torch.equal(lm[name], state[f"lm.base_model.model.{name}"])


def test_the_language_model_may_have_moved(reader, inputs, lm_folder, tmp_path):
    reader.save_pretrained(tmp_path)
    edited(tmp_path, lm="/nowhere")
    with pytest.raises(ModelError, match="/nowhere: no such language model"):
        MultimodalModel.from_pretrained(tmp_path)
    read = MultimodalModel.from_pretrained(tmp_path, lm=str(lm_folder))
    assert torch.equal(logits(read, inputs), logits(reader, inputs))


def test_another_language_model_is_refused_with_both_sides(reader, lm_folder, tmp_path):
    reader.save_pretrained(tmp_path / "saved")
    lm, tokenizer = load_language_model(str(lm_folder))
    for kind, name, expected, found in (
        (MistralConfig, "model_type", "llama", "mistral"),
        (LlamaConfig, "hidden_size", 64, 128),
        (LlamaConfig, "num_hidden_layers", 2, 3),
        (LlamaConfig, "vocab_size", 259, 300),
    ):
        config = kind(**lm.config.to_dict() | ({} if name == "model_type" else {name: found}))
        other = tmp_path / name
        AutoModelForCausalLM.from_config(config).save_pretrained(other)
        tokenizer.save_pretrained(other)
        with pytest.raises(ModelError) as error:
            MultimodalModel.from_pretrained(tmp_path / "saved", lm=str(other))
        assert str(error.value) == (
            f"{tmp_path / 'saved'}: its language model has {name} {expected}, but {other} has"
            f" {found}"
        )


@pytest.mark.parametrize("part", ["save_adapters", "files.write_tensors"])
def test_while_parts_are_written_an_older_model_stays_whole(part, reader, tmp_path, monkeypatch):
    other = MultimodalModel(copy.deepcopy(reader.config), load_language_model("tiny"))
    new, old = tmp_path / "new", tmp_path / "old"
    other.save_pretrained(old)
    monkeypatch.setattr(f"viq.mllm.saving.{part}", cut_off)
    for folder in (new, old):
        with pytest.raises(KeyboardInterrupt):
            reader.save_pretrained(folder)
    assert files_in(new) == []
    state = MultimodalModel.from_pretrained(old).state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())


@pytest.mark.parametrize("full", [False, True])
def test_cut_off_while_parts_change_places_there_is_no_model(full, reader, tmp_path, monkeypatch):
    """Rather than one whose parts do not belong together; at whichever part that is."""
    reader.save_pretrained(tmp_path, full=full)
    own, count = files.place, len(list(tmp_path.iterdir()))
    assert count > 5
    for number in range(count):
        moves = iter([own] * number + [cut_off])
        with monkeypatch.context() as patch:
            patch.setattr("viq.mllm.files.place", lambda *paths, moves=moves: next(moves)(*paths))
            with pytest.raises(KeyboardInterrupt):
                reader.save_pretrained(tmp_path, full=full)
        with pytest.raises(ModelError, match=r"no config\.json here"):
            MultimodalModel.from_pretrained(tmp_path)
    reader.save_pretrained(tmp_path, full=full)
    assert MultimodalModel.from_pretrained(tmp_path).config.fingerprint == reader.config.fingerprint
    assert [name for name in files_in(tmp_path) if name.startswith(".")] == []


@pytest.mark.slow
def test_killed_between_two_parts_there_is_no_model(reader, tmp_path):
    reader.save_pretrained(tmp_path)
    code = (
        "import os, signal, sys\n"
        "from viq.mllm import MultimodalModel, files\n"
        "model = MultimodalModel.from_pretrained(sys.argv[1])\n"
        "files.place = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "model.save_pretrained(sys.argv[1])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with pytest.raises(ModelError, match=r"no config\.json here"):
        MultimodalModel.from_pretrained(tmp_path)


def cut_off(*_):
    raise KeyboardInterrupt


def test_damaged_files_are_one_line_each(reader, tmp_path):
    folder = tmp_path / "saved"
    read = MultimodalModel.from_pretrained
    for nowhere in (folder, "nowhere", "a/b/c"):
        with pytest.raises(ModelError, match="no such model: not a folder, and not a hub id"):
            read(nowhere)
    folder.mkdir()
    with pytest.raises(ModelError, match=r"saved: no config\.json here"):
        read(folder)
    reader.save_pretrained(folder)
    whole_config = (folder / "config.json").read_text()
    adapter = folder / "adapter" / "adapter_model.safetensors"
    whole = adapter.read_bytes()
    adapter.unlink()
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: no such file"):
        read(folder)
    adapter.write_bytes(whole[:100])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: cannot be read"):
        read(folder)
    adapter.write_bytes(whole)
    settings = json.loads(whole_config)["adapter"]
    edited(folder, adapter=settings | {"dora": False})
    with pytest.raises(ModelError, match=r"14 tensors missing or left over: .*magnitude"):
        read(folder)
    edited(folder, adapter=settings | {"rank": 8})
    with pytest.raises(ModelError, match=r"the adapters do not fit .*size mismatch"):
        read(folder)
    for wrong, reason in (
        ({"adapter": {"ranks": 4}}, "not a config of this kind"),
        ({"pool": 3}, "pool is 3"),
        ({"width": 13}, "the embedder's features are 256 wide"),
        ({"width": 13, "embedder": None}, "the projector does not fit its config"),
        ({"embedder": None}, "tensors left over: embedder"),
        ({"text_config": None}, r"text_config or width is missing"),
        ({"text_config": {"model_type": "none"}}, "not a config of this kind"),
        ({"format": 1}, "format 1 is not known; this version reads 2"),
        ({"model_type": "llama"}, "a model of type 'llama', not 'viq_multimodal'"),
        ({"model_type": "viq_vision", "format": 1}, "a model of type 'viq_vision', not"),
        ({"network": {}}, "this is a saved tokenizer, not a language model"),
    ):
        (folder / "config.json").write_text(whole_config)
        edited(folder, **wrong)
        with pytest.raises(ModelError, match=reason) as error:
            read(folder)
        assert "\n" not in str(error.value)
    for text in ("{}", "{", "[1]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(ModelError, match="not a config of this kind"):
            read(folder)
    (folder / "config.json").write_text(whole_config)
    tensors = load_file(folder / "model.safetensors")
    del tensors["projector.begin"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"the projector does not fit .*begin"):
        read(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: no such file"):
        read(folder)


def test_a_hub_id_that_cannot_be_had_is_one_line():
    with pytest.raises(ModelError, match="owner/name: cannot be fetched from the hub") as error:
        MultimodalModel.from_pretrained("owner/name", local_files_only=True)
    assert "\n" not in str(error.value)


def test_options_that_mean_nothing_are_refused(reader, tmp_path):
    reader.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="dtype is 'float17', which torch does not know"):
        MultimodalModel.from_pretrained(tmp_path, dtype="float17")
    with pytest.raises(TypeError, match=r"unknown options: device_map; .* \.to\(device\)"):
        MultimodalModel.from_pretrained(tmp_path, device_map="cpu")
    halved = MultimodalModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert halved.dtype == torch.bfloat16
