"""A language model that sees: from codes, and from pixels through each kind of frozen network."""

import json
import re
from dataclasses import replace
from math import isqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

import viq
from viq.chat import image_tokens
from viq.checkpoint import save_vision_tower
from viq.data.config import TextDataConfig
from viq.data.conversation import question_messages
from viq.data.letters import LETTERS
from viq.data.packing import TextPacking
from viq.data.sample import Sample
from viq.data.sources import SourceConfig, open_source
from viq.errors import FingerprintError, InputError, ModelError
from viq.external.language_model import load_language_model, tiny_language_model
from viq.external.tiling import TilingConfig
from viq.mllm.model import MultimodalModel
from viq.mllm.vision import load_encoder
from viq.model.fold import FoldedEmbedder
from viq.model.head import QuantizerConfig
from viq.model.network import Network
from viq.recipes import RECIPES
from viq.store import CodesInfo, CodeWriter
from viq.training.handover import network_of
from viq.training.launch import launch, with_inputs_of_start
from viq.training.loop import LoopConfig
from viq.training.optim import OptimConfig
from viq.training.stage import Inputs
from viq.training.stages.sft import SftConfig, build

KINDS = ("codes", "quantized", "proximal", "continuous", "foreign")
WORDS = Sample(id="toy/words", images=(), messages=question_messages("Who?", "nobody", 0))


@pytest.fixture(scope="module")
def phase(toys):
    (phase,) = toys.common["data"].phases
    return phase


@pytest.fixture(scope="module")
def config(toys, phase):
    data = TextDataConfig(
        sources=(SourceConfig(name="toy", path="not opened by the stage"),), phases=(phase,)
    )
    return SftConfig(**toys.common | {"data": data}, tiling=TilingConfig(side=32))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A folder with a vision model of random weights: a grid of 4 x 4, or of what is asked for."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(3)
    CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=40,
            patch_size=8,
        )
    ).save_pretrained(folder)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(folder)


@pytest.fixture(scope="module")
def proximal(tmp_path_factory, tiny_tokenizer):
    """A run's folder with a proximal tokenizer."""
    own = tiny_tokenizer.config.network
    quantizer = QuantizerConfig(levels=None, bottleneck=8, limit="l_inf")
    network = replace(
        own,
        head=replace(own.head, quantizer=quantizer),
        embedder=replace(own.embedder, quantizer=quantizer),
        latent_head=None,
    )
    folder = tmp_path_factory.mktemp("proximal")
    torch.manual_seed(4)
    tokenizer = viq.Tokenizer.from_network(Network(network), tiny_tokenizer.config.image)
    tokenizer.save_pretrained(folder / "tokenizer")
    return str(folder)


@pytest.fixture
def make(toys, config, tiny_tokenizer_folder, foreign, proximal):
    """A stage that sees as asked, always from the same random numbers."""

    def start(kind="codes", validation=(), *, inputs=None, **changes):
        torch.manual_seed(0)
        where = {"foreign": foreign, "proximal": proximal}.get(kind, str(tiny_tokenizer_folder))
        inputs = inputs or Inputs(vision=where, lm=toys.lm)
        return build(replace(config, vision=kind, **changes), inputs, validation).eval()

    return start


@pytest.fixture(scope="module")
def coded(samples, tiny_tokenizer):
    """The same samples, whose pictures have been encoded."""
    return [
        replace(sample, images=tuple(tiny_tokenizer.encode(list(sample.images))))
        for sample in samples
    ]


@pytest.fixture
def batch(phase, samples, coded):
    """Samples in one batch, as a stage reads them."""

    def pack(stage, chosen=slice(None), *, extra=()):
        read = coded if stage.config.vision == "codes" else samples
        packing = TextPacking(phase, stage.mllm.tokenizer, stage.image_reader(phase))
        return packing.pack_one([*read[chosen], *extra])

    return pack


@pytest.fixture
def dataset(tmp_path, coded):
    """Writes the encoded samples as a code data set."""

    def write(name="codes", samples=coded):
        (one,) = samples[0].images
        info = CodesInfo(
            fingerprint=one.fingerprint,
            levels=one.levels,
            code_heads=one.code_heads,
            patch_size=one.patch_size,
        )
        rows = pa.table(
            {
                "id": [sample.id for sample in samples],
                "question": ["Which?"] * len(samples),
                "answer": [s.messages[-1]["content"][0]["text"] for s in samples],
            }
        )
        (tmp_path / name / "data").mkdir(parents=True)
        file = tmp_path / name / "data" / "train-00000-of-00001.parquet"
        with CodeWriter(file, info, rows.schema) as writer:
            writer.write(rows, [list(sample.images) for sample in samples])
        return str(tmp_path / name)

    return write


def gradients(stage, batch):
    loss = stage(batch).sums["text"]
    loss.backward()
    return float(loss.detach()), {
        n: p.grad for n, p in stage.mllm.projector.named_parameters() if p.grad is not None
    }


# What is seen.


def test_codes_train_exactly_as_the_pictures_that_they_were_made_of(make, batch):
    codes, pixels = make("codes"), make("quantized")
    read, seen = batch(codes), batch(pixels)
    assert read.rows.dtype == torch.int32
    assert read.packing == seen.packing
    assert torch.equal(codes.see(read), pixels.see(seen))
    loss, grads = gradients(codes, read)
    other, others = gradients(pixels, seen)
    assert loss == pytest.approx(other, abs=1e-6)
    assert len(grads) == len(others) == 11
    for name, grad in grads.items():
        torch.testing.assert_close(grad, others[name], rtol=0, atol=1e-6)
        assert grad.any()
    assert loss > 1


def test_codes_are_read_with_no_encoder_in_memory(make, toys):
    stage = make("codes")
    language = sum(p.numel() for p in stage.mllm.parameters())
    frozen = stage.frozen()
    assert sum(p.numel() for p in frozen["vision"].parameters()) == 0
    assert isinstance(frozen["embedder"], FoldedEmbedder)
    assert sum(p.numel() for p in stage.parameters()) == language
    assert sum(p.numel() for p in make("quantized").frozen()["vision"].parameters()) > 0


def test_what_is_folded_is_the_models_own_embedder(make, batch, tiny_tokenizer, coded):
    stage = make("codes")
    expected = torch.cat([tiny_tokenizer.embed(s.images[0]) for s in coded])
    torch.testing.assert_close(stage.see(batch(stage)), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        stage.mllm.embed_codes(batch(stage).rows), expected, rtol=1e-5, atol=1e-6
    )


def test_letters_are_spelled_where_pictures_know_them(make, batch, phase, samples):
    image = samples[0].images[0].copy()
    image.info[LETTERS] = [("f", 9.0, 9.0), ("x", 20.0, 9.0)]
    drawn = [replace(samples[0], images=(image,)), *samples[1:]]
    for kind in ("quantized", "proximal"):
        stage = make(kind, spelling_weight=0.5)
        assert stage.weights == {"text": 1.0, "spelling": 0.5}
        packing = TextPacking(phase, stage.mllm.tokenizer, stage.image_reader(phase))
        packed = packing.pack_one(drawn)
        assert stage.counts(packed)["spelling"] == 2
        sums = stage(packed).sums
        (slope,) = torch.autograd.grad(sums["spelling"], [stage.mllm.projector.proj_in.weight])
        assert slope.any()
    assert set(make("codes")(batch(make("codes"))).sums) == {"text"}


def test_continuous_features_are_the_towers(make, batch, toys, tower, tmp_path, tiny_tokenizer):
    save_vision_tower(tower, tmp_path / "run" / "tower")
    for where in (tmp_path / "run", tmp_path / "run" / "tower"):
        stage = make("continuous", inputs=Inputs(start=str(where), lm=toys.lm))
        one = batch(stage)
        with torch.no_grad():
            expected = tower.encoder(one.pixels, one.packing)
        assert torch.equal(stage.see(one), expected)
    encoder = make("continuous").frozen()["vision"].network.encoder
    own = tiny_tokenizer.part("encoder").state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in encoder.state_dict().items())


def test_proximal_features_are_made_of_latents_on_the_hypercube(make, batch, proximal):
    stage = make("proximal")
    one = batch(stage)
    tokenizer = viq.load(f"{proximal}/tokenizer")
    with torch.no_grad():
        latents = tokenizer._latents(one.pixels, one.packing)
        assert torch.allclose(latents.abs().amax(-1), torch.ones(()))
        expected = tokenizer.part("embedder").embed_values(latents)
    assert torch.equal(stage.see(one), expected)


@pytest.mark.parametrize("kind", ["quantized", "proximal", "continuous"])
def test_what_leaves_the_run_sees_pictures_as_the_run_did(
    kind, make, batch, samples, tmp_path, tiny_tokenizer_folder, toys
):
    stage = make(kind)
    stage.export(tmp_path)
    model = MultimodalModel.from_pretrained(tmp_path / "mllm")
    assert model.config.sees == ("codes" if kind == "quantized" else kind)
    pictures = [sample.images[0] for sample in samples]
    one = batch(stage)
    found = model.features(pictures)
    for mine, theirs in zip(one.packing.split(stage.see(one)), found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    text = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}]
    inputs = model.processor()(text, [pictures[1]])
    assert "pixel_values" in inputs
    by_pixels = model(**inputs).logits
    del inputs["pixel_values"]
    by_features = model(**inputs, features=found[1]).logits
    torch.testing.assert_close(by_pixels, by_features, rtol=1e-4, atol=1e-5)
    small = model.features(pictures[:1], max_pixels=1024)
    assert len(small[0]) < len(found[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_batch_is_its_samples_one_by_one(kind, make, batch):
    stage = make(kind)
    together = stage(batch(stage, extra=[WORDS]))
    apart = [stage(batch(stage, slice(n, n + 1))) for n in range(8)]
    apart.append(stage(batch(stage, slice(0), extra=[WORDS])))
    alone = torch.stack([losses.sums["text"] for losses in apart]).sum()
    torch.testing.assert_close(together.sums["text"], alone, rtol=1e-5, atol=1e-5)
    whole = batch(stage, extra=[WORDS])
    assert stage.counts(whole) == {"text": float(whole.supervised)}
    assert stage.size(whole) == {"images": 8, "tokens": len(whole.input_ids)}


@pytest.mark.parametrize("kind", KINDS)
def test_text_alone_trains_too(kind, make, batch):
    stage = make(kind, train_embedder=kind == "codes")
    words = batch(stage, slice(0), extra=[WORDS])
    assert words.images == 0
    assert stage.size(words)["images"] == 0
    assert stage.see(words).shape == (0, 32 if kind == "foreign" else 64)
    loss = stage(words).sums["text"]
    loss.backward()
    assert float(loss.detach()) > 0


def test_a_foreign_model_sees_the_whole_and_what_the_tiles_show(make, batch, phase, samples):
    stage = make("foreign")
    one = batch(stage, slice(0, 4))
    assert one.tiles == ((2, 2), (1, 2), (2, 1), (1, 3))
    assert one.rows.shape == (5 + 3 + 3 + 4, 3 * 32 * 32)
    # W, H of 48, 48; 64, 32; 32, 64; 96, 32, on tiles of 4 x 4 patches
    assert one.packing.grid_sizes[::2] == ((4, 4),) * 4
    assert one.packing.grid_sizes[1::2] == ((8, 8), (4, 8), (8, 4), (4, 12))
    seen = one.packing.split(stage.see(one))
    network = stage.vision().network
    wide = np.asarray(samples[1].images[0])  # 64 x 32: fits two tiles as it is
    halves = torch.from_numpy(np.stack([wide[:, :32], wide[:, 32:]])).permute(0, 3, 1, 2)
    left, right = network(halves).unflatten(1, (4, 4))
    torch.testing.assert_close(seen[3].unflatten(0, (4, 8)), torch.cat((left, right), 1))
    squashed = np.asarray(samples[1].images[0].resize((32, 32), Image.Resampling.BICUBIC))
    torch.testing.assert_close(
        seen[2], network(torch.from_numpy(squashed.copy()).permute(2, 0, 1)[None])[0]
    )


def test_edges_of_tiles_that_show_nothing_are_dropped(make, phase, toys):
    stage = make("foreign")
    narrow = Image.effect_noise((10, 60), 90).convert("RGB")
    sample = replace(WORDS, images=(narrow,), messages=question_messages("Which?", "this", 1))
    packing = TextPacking(phase, stage.mllm.tokenizer, stage.image_reader(phase))
    one = packing.pack_one([sample])
    assert one.tiles == ((2, 1),)  # scaled to 11 x 64 pixels, in columns 10 to 21 of 32
    assert one.packing.grid_sizes == ((4, 4), (8, 4))
    one = replace(one, pool=1, packing=type(one.packing).of([(4, 4), (8, 2)]))
    canvas = np.zeros((64, 32, 3), np.uint8)
    canvas[:, 10:21] = np.asarray(narrow.resize((11, 64), Image.Resampling.BICUBIC))
    tiles = torch.from_numpy(canvas).unflatten(0, (2, 32)).permute(0, 3, 1, 2)
    expected = stage.vision().network(tiles).unflatten(1, (4, 4)).flatten(0, 1)[:, 1:3]
    torch.testing.assert_close(one.packing.split(stage.see(one))[1], expected.flatten(0, 1))


def test_without_grids_there_is_the_whole_view_alone(make, batch):
    stage = make("foreign", tiling=TilingConfig(grids=(), side=32))
    one = batch(stage)
    assert one.packing.grid_sizes == ((4, 4),) * 8
    assert one.images == 8
    assert torch.equal(
        stage.see(one), stage.vision().network(one.rows.unflatten(1, (3, 32, 32))).flatten(0, 1)
    )


# What trains.


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({}, {"projector", "lm"}),
        ({"adapter": None}, {"projector"}),
        ({"adapter": None, "train_lm": True}, {"projector", "lm"}),
        ({"train_embedder": True}, {"projector", "lm", "embedder"}),
    ],
)
def test_every_trained_parameter_is_in_one_group_and_gets_a_gradient(changes, groups, make, batch):
    stage = make(**changes)
    assert stage.weights == {"text": 1.0}
    stage(batch(stage)).sums["text"].backward()
    found = {name: list(members) for name, members in stage.groups().items()}
    assert set(found) == {"projector", "lm", "embedder"}  # so that rates can be given by name
    assert {name for name, members in found.items() if members} == groups
    members = [p for group in found.values() for p in group]
    assert len(set(members)) == len(members)
    assert set(members) == {p for p in stage.parameters() if p.requires_grad}
    assert all(p.grad is not None for p in members)
    of_lm = {p for p in stage.mllm.lm.parameters() if p.requires_grad}
    if changes.get("train_lm"):
        assert of_lm == set(stage.mllm.causal_lm.parameters())
        assert all(p.dtype == torch.float32 for p in of_lm)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"answer_tokens": 0}, "answer_tokens is 0; it must be 1 or more"),
        ({"train_lm": True}, "train_lm trains all weights; give --adapter none, too"),
        (
            {"train_embedder": True, "vision": "foreign"},
            "train_embedder is for codes, but vision is foreign; give --vision codes or quantized",
        ),
        (
            {"spelling_weight": 1.0},
            "spelling_weight is for patches of pictures, but vision is codes",
        ),
        ({"fresh": True, "fresh_lm": True}, "fresh_lm keeps the projector; give one"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, says, config):
    with pytest.raises(ValueError, match=says):
        replace(config, **changes)


# Evaluation and export.


def test_it_answers_and_loads_again(make, coded, samples, tmp_path, batch, tiny_tokenizer_folder):
    stage = make("codes", coded[:2], train_embedder=True)
    with torch.no_grad():
        stage.mllm.embedder.shift += 1  # as if trained
    evaluation = stage.evaluate()
    assert set(evaluation.figures) == {"eval_text", "eval_exact"}
    assert evaluation.text.startswith("| question | right answer | answer |")
    assert evaluation.text.count("\n") == 4
    stage.export(tmp_path / "run")
    loaded = MultimodalModel.from_pretrained(tmp_path / "run" / "mllm")
    assert torch.equal(loaded.embedder.shift, stage.mllm.embedder.shift)
    assert loaded.config.fingerprint == coded[0].images[0].fingerprint
    assert loaded.config.tokenizer == str(tiny_tokenizer_folder)
    assert loaded.encode([samples[0].images[0]])[0] == coded[0].images[0]
    assert make("codes").evaluate().figures == {}


# Starts.


@pytest.fixture
def run(make, tmp_path, toys):
    """The folder of a run of this stage, whose projector has moved."""

    def export(**changes):
        stage = make(**changes)
        with torch.no_grad():
            for parameter in stage.mllm.parameters():
                if parameter.requires_grad:
                    parameter += 0.5
        stage.export(tmp_path / "before")
        return str(tmp_path / "before"), stage.mllm

    return export


@pytest.mark.parametrize(
    "changes",
    [{}, {"adapter": None}, {"adapter": None, "train_lm": True}, {"train_embedder": True}],
)
def test_a_start_goes_on(changes, run, make, toys, tiny_tokenizer_folder):
    start, before = run(**changes)
    inputs = Inputs(start=start, vision=str(tiny_tokenizer_folder), lm=toys.lm)
    after = make(inputs=inputs, **changes).mllm
    state = before.state_dict()
    for name, tensor in after.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    fresh = make(inputs=inputs, fresh=True, **changes).mllm
    assert not torch.equal(fresh.projector.begin, after.projector.begin)


def test_a_projector_goes_on_with_another_language_model(
    run, make, toys, tiny_tokenizer_folder, tmp_path
):
    start, before = run(projector="placed")
    tiny_language_model(tmp_path / "other", seed=4)
    inputs = Inputs(start=start, vision=str(tiny_tokenizer_folder), lm=str(tmp_path / "other"))
    after = make(inputs=inputs, fresh_lm=True).mllm
    assert after.projector.config == before.projector.config
    for name, tensor in after.projector.state_dict().items():
        assert torch.equal(tensor, before.projector.state_dict()[name]), name
    names = [name for name in after.state_dict() if "lora_B" in name]
    assert names
    assert not any(after.state_dict()[name].any() for name in names)

    tiny_language_model(tmp_path / "wider", hidden=96)
    with pytest.raises(ModelError, match="the projector does not fit its config"):
        make(inputs=replace(inputs, lm=str(tmp_path / "wider")), fresh_lm=True)


def test_a_projector_trained_alone_is_a_start_for_all_kinds(run, make, toys, tiny_tokenizer_folder):
    start, before = run(adapter=None)
    inputs = Inputs(start=start, vision=str(tiny_tokenizer_folder), lm=toys.lm)
    for changes in ({}, {"adapter": None, "train_lm": True}):
        after = make(inputs=inputs, **changes).mllm
        assert torch.equal(after.projector.begin, before.projector.begin)


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({}, {}),
        ({"adapter": None}, {}),
        ({"adapter": None}, {"adapter": None, "train_lm": True}),
        ({"adapter": None, "train_lm": True}, {"adapter": None, "train_lm": True}),
        ({}, {"fresh": True}),
    ],
)
def test_language_model_and_tokenizer_are_loaded_once(
    changes, after, run, make, toys, tiny_tokenizer_folder, monkeypatch
):
    start, _ = run(**changes)
    loaded = []

    def counting(load, what):
        def counted(*args, **options):
            loaded.append(what)
            return load(*args, **options)

        return counted

    for module in ("viq.mllm.model", "viq.mllm.saving"):
        load = counting(load_language_model, "language model")
        monkeypatch.setattr(f"{module}.load_language_model", load)
    for module in ("viq.mllm.model", "viq.mllm.images", "viq.training.vision"):
        monkeypatch.setattr(f"{module}.load", counting(viq.load, "tokenizer"))
    inputs = Inputs(start=start, vision=str(tiny_tokenizer_folder), lm=toys.lm)
    stage = make(inputs=inputs, **after)
    assert sorted(loaded) == ["language model", "tokenizer"]
    if "train_lm" in after:
        assert all(p.requires_grad for p in stage.mllm.causal_lm.parameters())


def test_a_start_whose_adapters_were_merged_keeps_what_they_learnt(run, make, toys, tmp_path):
    start, before = run()
    before.save_pretrained(f"{start}/mllm", full=True)
    merged = MultimodalModel.from_pretrained(f"{start}/mllm").causal_lm.state_dict()
    inputs = Inputs(start=start, vision=before.config.tokenizer, lm=toys.lm)
    after = make(inputs=inputs).mllm
    name = "model.layers.0.mlp.up_proj.weight"
    found = after.causal_lm.model.layers[0].mlp.up_proj.base_layer.weight
    assert torch.equal(found, merged[name])
    assert not torch.equal(found, load_language_model(toys.lm).model.state_dict()[name])


def test_a_start_may_see_in_another_way(run, make, toys, tmp_path, samples, tiny_tokenizer_folder):
    """Where features have the same width; what leaves the run says how it sees."""
    start, before = run()
    inputs = Inputs(start=start, vision=str(tiny_tokenizer_folder), lm=toys.lm)
    phase = replace(make().config.data.phases[0], pool=1)
    stage = make("continuous", inputs=inputs, data=replace(make().config.data, phases=(phase,)))
    assert torch.equal(stage.mllm.projector.begin, before.projector.begin)
    stage.export(tmp_path / "after")
    loaded = MultimodalModel.from_pretrained(tmp_path / "after" / "mllm")
    assert (loaded.embedder, loaded.config.embedder, loaded.config.fingerprint) == (None,) * 3
    assert (loaded.config.width, loaded.config.pool) == (64, 1)
    assert (loaded.config.sees, loaded.config.tokenizer) == ("continuous", inputs.vision)
    with pytest.raises(ModelError, match="reads continuous features, no codes"):
        loaded.encode(list(samples[0].images))
    again = make(inputs=replace(inputs, start=str(tmp_path / "after"))).mllm
    assert again.config.fingerprint == before.config.fingerprint
    assert again.encode([samples[0].images[0]]) == before.encode([samples[0].images[0]])


def test_a_start_that_does_not_fit_is_refused_with_both_sides(
    run, make, toys, config, foreign, tiny_tokenizer_folder, tiny_tokenizer, tmp_path
):
    start, _ = run()
    inputs = Inputs(start=start, vision=str(tiny_tokenizer_folder), lm=toys.lm)
    with pytest.raises(ModelError, match=r"has adapters AdapterConfig\(rank=16.* this run None;"):
        make(inputs=inputs, adapter=None)
    with pytest.raises(ModelError, match=r"has features of width 64, this run 32; .* or --fresh"):
        make("foreign", inputs=replace(inputs, vision=foreign))
    other = other_tokenizer(tiny_tokenizer, tmp_path / "other")
    with pytest.raises(ModelError, match=r"has codes of tokenizer .{12}, this run .{12}; give"):
        make(inputs=replace(inputs, vision=other))


def other_tokenizer(tokenizer, folder):
    """The same with other weights, and so another fingerprint."""
    network = network_of(tokenizer)
    other = Network(network.config)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        other.encoder.patch_embed.bias += 1
    viq.Tokenizer.from_network(other, tokenizer.config.image).save_pretrained(folder)
    return str(folder)


def test_missing_inputs_are_named_with_their_flags(make, toys, config):
    with pytest.raises(InputError, match="the tokenizer whose codes are read is missing: give"):
        make(inputs=Inputs(lm=toys.lm))
    with pytest.raises(InputError, match="the tower whose features are read is missing: give"):
        make("continuous", inputs=Inputs(lm=toys.lm))
    with pytest.raises(InputError, match="the vision model is missing: give --vision-model, a"):
        make("foreign", inputs=Inputs(start="nano", lm=toys.lm))
    with pytest.raises(InputError, match="the language model is missing: give --lm"):
        make(inputs=Inputs(start="nano"))
    with pytest.raises(ModelError, match="nanoo: no such model"):
        make(inputs=Inputs(start="nanoo", lm=toys.lm))


def test_a_tower_is_no_tokenizer_and_a_proximal_tokenizer_has_no_codes(
    make, toys, tower_run, proximal, tmp_path
):
    with pytest.raises(ModelError, match=r"no config.json here, so this is not a saved tokenizer"):
        make(inputs=Inputs(start=tower_run, lm=toys.lm))
    make().export(tmp_path)
    with pytest.raises(InputError, match="this is a language model; name the run's folder"):
        make(inputs=Inputs(start=str(tmp_path / "mllm"), lm=toys.lm))
    with pytest.raises(ModelError, match="this tokenizer is proximal: it has no codes yet"):
        make("quantized", inputs=Inputs(start=proximal, lm=toys.lm))
    assert load_encoder(proximal).config.width == 64
    with pytest.raises(ModelError, match="this tokenizer has codes; the proximal one of stage 2-1"):
        make("proximal", inputs=Inputs(start="nano", lm=toys.lm))


def test_pools_that_do_not_divide_the_tiles_are_refused(make):
    with pytest.raises(ValueError, match=r"40 pixels are 5 x 5 .* pools that do: 1. Or give tiles"):
        make("foreign", tiling=TilingConfig())


# Data.


def test_sources_of_the_wrong_kind_are_refused_at_once(
    make, config, dataset, coded, tmp_path, tiny_tokenizer
):
    def reading(source):
        return replace(config.data, sources=(source,))

    codes = dataset()
    make("codes", data=reading(SourceConfig(name="toy", path=codes)))
    for kind in KINDS[1:]:
        with pytest.raises(InputError, match=f"has codes, but --vision {kind} reads pictures"):
            make(kind, data=reading(SourceConfig(name="toy", path=codes)))
    synthetic = SourceConfig(name="toy", kind="synthetic")
    with pytest.raises(InputError, match="toy: has pictures, but --vision codes reads codes"):
        make("codes", data=reading(synthetic))
    with pytest.raises(InputError, match="has pictures, but --vision codes reads codes"):
        make("codes", data=replace(config.data, validation=(synthetic,)))
    other = [
        replace(s, images=tuple(replace(one, fingerprint="f" * 64) for one in s.images))
        for s in coded
    ]
    with pytest.raises(FingerprintError) as error:
        make("codes", data=reading(SourceConfig(name="toy", path=dataset("other", other))))
    assert "f" * 12 in str(error.value)
    assert tiny_tokenizer.fingerprint[:12] in str(error.value)


def test_a_run_does_not_begin_when_no_image_can_be_read(make, samples, coded):
    stage = make("codes")
    stage.begin([])
    stage.begin([WORDS, samples[0], coded[1]])
    with pytest.raises(InputError, match="toy/1: is a picture, but codes are read here; extract"):
        stage.begin([WORDS, samples[0], samples[1]])
    with pytest.raises(InputError, match="toy/0: is codes already, but pictures are read here"):
        make("quantized").begin([coded[0]])


def test_a_run_does_not_begin_when_nothing_fits_into_a_phase(make, config, phase, samples, coded):
    """As where codes were extracted without --max-pixels."""

    def beginning(phases, read, kind="codes"):
        make(kind, data=replace(config.data, phases=phases)).begin(read)

    small = replace(phase, area=32**2, max_patches=8)
    beginning((phase, small), [WORDS, *coded[:2]])  # 4 x 4 patches, and 2 x 4
    with pytest.raises(InputError) as error:
        beginning((phase, replace(small, max_patches=7)), [WORDS, *coded[:2]])
    assert str(error.value) == (
        "toy/1: its images have 8 patches, but max_patches is 7; raise that, or take smaller"
        " images (viq extract --max-pixels 1024)"
    )
    short = replace(phase, area=32**2, seq_len=8)
    with pytest.raises(
        InputError, match=r"use a longer one \(seq_len\), or .* --max-pixels 1024\)$"
    ):
        beginning((short,), coded[:1])
    with pytest.raises(InputError, match=r"use a longer one \(seq_len\), or smaller images$"):
        beginning((replace(phase, seq_len=8),), samples[:1], "quantized")


@pytest.mark.parametrize("name", ["debug", "nano", "so400m", "giant"])
def test_documented_extractions_go_with_the_recipes(name):
    (phase,) = RECIPES[name].stages["sft"]().data.phases
    side = isqrt(phase.area) // 16
    assert side**2 <= phase.max_patches
    assert image_tokens((side, side), phase.pool) < phase.seq_len / 2  # the rest is for words
    doc = Path(viq.__file__).parents[2] / "docs" / "TRAINING.md"
    if not doc.is_file():
        pytest.skip("an installed package has no docs")
    text = doc.read_text("utf-8")
    extractions = [line for line in text.splitlines() if line.startswith("$ viq extract")]
    assert all("--max-pixels" in line for line in extractions)
    assert any(f"--max-pixels {phase.area} " in line for line in extractions)
    (row,) = [line for line in text.splitlines() if re.match(rf"\|.*`{name}`.* x .*\|", line)]
    assert f"| {phase.area} (" in row
    assert row.endswith(f"| {phase.max_patches}, {phase.seq_len} |")


def test_of_a_code_data_set_one_file_is_read_before_the_source_is_opened(make, config, dataset):
    codes = dataset()
    Path(codes, "data", "train-00001-of-00002.parquet").write_bytes(b"none")
    source = SourceConfig(name="toy", path=codes)
    make("codes", data=replace(config.data, sources=(source,)))
    with pytest.raises(InputError, match=r"00001-of-00002.parquet: cannot be read, or is damaged"):
        open_source(source)


def test_a_run_resumes_bitwise_from_a_code_data_set(
    config, dataset, toys, tiny_tokenizer_folder, tmp_path
):
    codes = Path(dataset())
    source = SourceConfig(name="toy", path=f"DATA/{codes.name}")
    held_out = SourceConfig(name="toy", path="HELD_OUT")
    data = replace(
        config.data,
        sources=(source,),
        validation=(held_out,),
        validation_samples=2,
        workers=0,
        phases=(replace(config.data.phases[0], tokens=4 * 256),),
    )
    optim = OptimConfig(lr=1e-3, schedule="constant", warmup=0.0)
    loop = LoopConfig(optim=optim, dtype="float32", save_steps=2, log_steps=1, eval_steps=100)
    adapter = replace(toys.adapter, dropout=0.1)
    config = replace(config, data=data, loop=loop, adapter=adapter, train_embedder=True)
    inputs = Inputs(
        start=str(tiny_tokenizer_folder), data=str(codes.parent), held_out=str(codes), lm=toys.lm
    )

    launch("sft", config, inputs, tmp_path / "whole", resume=False)
    half = replace(config, loop=replace(loop, steps=2))
    launch("sft", half, inputs, tmp_path / "cut", resume=False)
    launch("sft", config, inputs, tmp_path / "cut", resume=True)

    ends = [load_file(tmp_path / run / "mllm" / "model.safetensors") for run in ("whole", "cut")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    adapters = [
        load_file(tmp_path / run / "mllm" / "adapter" / "adapter_model.safetensors")
        for run in ("whole", "cut")
    ]
    assert all(torch.equal(tensor, adapters[1][name]) for name, tensor in adapters[0].items())
    shift = viq.load(tiny_tokenizer_folder).part("embedder").shift
    assert not torch.equal(ends[0]["embedder.shift"], shift)
    assert list((tmp_path / "whole" / "samples").glob("*.md"))

    # The next run is told by this one what it sees with.
    following = with_inputs_of_start(Inputs(start=str(tmp_path / "whole")))
    assert following.vision == str(tiny_tokenizer_folder)
    assert (following.data, following.held_out) == (str(codes.parent), str(codes))
    launch("sft", half, replace(following, held_out=None), tmp_path / "next", resume=False)
    assert not list((tmp_path / "next" / "samples").glob("*.md"))


def test_a_run_of_an_older_version_may_lack_inputs_but_must_be_a_run(tmp_path):
    (tmp_path / "run.json").write_text('{"inputs": {"data": "corpus", "lm": "tiny"}}')
    found = with_inputs_of_start(Inputs(start=str(tmp_path), lm="other"))
    assert found == Inputs(start=str(tmp_path), data="corpus", lm="other")
    (tmp_path / "run.json").write_text('{"inputs": 3}')
    with pytest.raises(InputError, match="not a run's own file"):
        with_inputs_of_start(Inputs(start=str(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_eight_samples_are_learnt_by_heart(kind, make, batch, samples, coded, overfit):
    stage = make(kind, coded if kind == "codes" else samples)
    figures = overfit(stage, batch(stage), 300, 3e-3).figures
    assert figures["eval_text"] < 0.05
    assert figures["eval_exact"] == 1


def test_activations_can_be_computed_again(make, batch):
    losses = {}
    for again in (False, True):
        stage = make()
        if again:
            stage.gradient_checkpointing()
        stage.train()
        losses[again] = gradients(stage, batch(stage))
    assert losses[True][0] == pytest.approx(losses[False][0], abs=1e-6)
    for name, grad in losses[True][1].items():
        torch.testing.assert_close(grad, losses[False][1][name], rtol=1e-5, atol=1e-6)


def test_a_dino_of_other_tiles_trains_too(make, toys, tmp_path, batch):
    folder = tmp_path / "dino"
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(image_size=28, patch_size=14, **sizes)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    stage = make(
        "foreign",
        inputs=Inputs(vision=str(folder), lm=toys.lm),
        tiling=TilingConfig(side=56),
        layer=None,
    )
    stage(batch(stage, slice(0, 2))).sums["text"].backward()
    assert stage.mllm.projector.proj_in.weight.grad.any()
