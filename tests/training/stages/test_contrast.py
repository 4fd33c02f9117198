"""The contrast stage on a few made-up pairs."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from viq.checkpoint import load_vision_tower
from viq.data.config import PairDataConfig
from viq.data.pairs import PairBatch, PairConfig
from viq.errors import ModelError
from viq.external.features import Features
from viq.model.encoder import Encoder, EncoderConfig, PoolConfig
from viq.model.packing import Packing
from viq.model.text_tower import TextTowerConfig
from viq.training.loop import LoopConfig
from viq.training.stage import Inputs
from viq.training.stages.contrast import (
    ContrastConfig,
    ContrastStage,
    as_bytes,
    build,
    same_pairs,
    sigmoid_loss,
)

WIDTH = 32
CONFIG = ContrastConfig(
    data=PairDataConfig(sources=(), pairs=PairConfig(side=32, batch=8)),
    loop=LoopConfig(steps=1),
    encoder=EncoderConfig(width=WIDTH, depth=2, attention_heads=2, mlp_width=64, position_side=2),
    pool=PoolConfig(width=WIDTH, attention_heads=2, mlp_width=64),
    text_tower=TextTowerConfig(width=16, depth=1, attention_heads=2, mlp_width=32),
)
WORDS = ("a red kite", "two grey cats", "a map of the town", "rain", "an empty street at night")


class Averages(Features):
    """Stands in for a classifier: colours of the grid's cells."""

    width, stride = 3, 4

    def _grid(self, pixels, grid_size):
        return F.adaptive_avg_pool2d(pixels, grid_size).permute(0, 2, 3, 1)


class Lengths(nn.Module):
    """Stands in for a sentence encoder."""

    width = 5

    def forward(self, sentences):
        rows = [[len(s), s.count("a"), s.count("e"), s.count(" "), 1.0] for s in sentences]
        return F.normalize(torch.tensor(rows), dim=-1)


def pairs(count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 4, 4), generator=generator).float()
    captions = tuple(f"{WORDS[i % len(WORDS)]}{'!' * (i // len(WORDS))}" for i in range(count))
    return PairBatch(
        images=F.interpolate(images, (32, 32)).to(torch.uint8),
        captions=captions,
        samples=tuple(f"s{i}" for i in range(count)),
    )


def make(config=CONFIG, validation=None):
    torch.manual_seed(0)
    return ContrastStage(
        config,
        validation or pairs(),
        tokenize=as_bytes,
        sentence=Lengths() if config.text == "sentence" else None,
        features=Averages() if config.features_weight else None,
    ).train()


def test_the_loss_is_siglips():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 4, generator=generator)
    expected = 0.0
    for i in range(4):
        for j in range(4):
            sign = 1 if i == j else -1
            expected -= math.log(1 / (1 + math.exp(-sign * logits[i, j].item())))
    found = sigmoid_loss(logits, torch.eye(4, dtype=torch.bool))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_equal_captions_and_equal_samples_are_no_negatives():
    same = same_pairs(("a", "b", "a", "c"), ("1", "2", "3", "2"))
    assert same.tolist() == [
        [True, False, True, False],
        [False, True, False, True],
        [True, False, True, False],
        [False, True, False, True],
    ]
    logits = torch.zeros(4, 4, requires_grad=True)
    sigmoid_loss(logits, same).backward()
    left_out = same & ~torch.eye(4, dtype=torch.bool)
    assert (logits.grad == 0).equal(left_out)
    assert (logits.grad.diagonal() < 0).all()


def test_it_starts_from_the_papers_scale_and_bias():
    stage = make()
    assert stage.observe(pairs()) == {"scale": pytest.approx(10.0), "bias": -10.0}
    batch = pairs()
    with torch.no_grad():
        found = stage(batch).sums["contrast"].item()
        images = F.normalize(stage.pooled(batch.images.float() / 127.5 - 1), dim=-1)
        logits = 10 * images @ F.normalize(stage.embed(batch.captions), dim=-1).T - 10
    signs = 2 * torch.eye(5) - 1
    assert found == pytest.approx(-F.logsigmoid(signs * logits).sum().item(), rel=1e-5)


@pytest.mark.parametrize("text", ["own", "sentence"])
@pytest.mark.parametrize("features_weight", [0.0, 0.5])
def test_groups_hold_all_that_trains_and_all_of_it_learns(text, features_weight):
    stage = make(replace(CONFIG, text=text, features_weight=features_weight))
    batch = pairs()
    sums, counts = stage(batch).sums, stage.counts(batch)
    assert sums.keys() == counts.keys() == stage.weights.keys()
    assert counts["contrast"] == stage.size(batch)["images"] == 5
    sum(stage.weights[name] * value for name, value in sums.items()).backward()
    groups = {name: list(parameters) for name, parameters in stage.groups().items()}
    assert list(groups) == ["vision", "text", *(["features"] if features_weight else [])]
    grouped = [id(p) for parameters in groups.values() for p in parameters]
    assert sorted(grouped) == sorted(id(p) for p in stage.parameters() if p.requires_grad)
    frozen = {"sentence"} if text == "sentence" else set()
    assert set(stage.frozen()) == frozen | ({"features"} if features_weight else set())
    assert [n for n, p in stage.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_checkpointing_gives_the_same_gradients():
    gradients = []
    for on in (False, True):
        stage = make()
        if on:
            stage.gradient_checkpointing()
        stage(pairs()).sums["contrast"].backward()
        gradients.append([p.grad for p in stage.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_features_are_those_of_the_grid_averaged():
    stage = make(replace(CONFIG, features_weight=0.5, features_grid=8))
    batch = pairs()
    pixels = batch.images.float() / 127.5 - 1
    with torch.no_grad():
        predicted = stage.to_features(stage.pooled(pixels))
        distance = 1 - F.cosine_similarity(predicted, pixels.mean((2, 3)))
        torch.testing.assert_close(stage(batch).sums["features"], distance.sum())


def test_recall_counts_own_captions_and_shared_ones_once():
    batch = pairs(5)
    batch = replace(batch, captions=("a", "b", "a", "c", "b"))
    stage = make(validation=batch)
    vectors = {"a": [1.0, 0, 0], "b": [0, 1.0, 0], "c": [0, 0, 1.0]}
    stage.embed = lambda captions: torch.tensor([vectors[c] for c in captions])
    # right, right, wrong, wrong, right
    tokens = torch.tensor([[1, 0.5, 0], [0, 1, 0.5], [0, 1, 0.5], [0, 1, 0.5], [0.5, 1, 0]])
    given = iter([tokens])
    stage.pooled = lambda images: next(given, tokens)
    evaluation = stage.eval().evaluate()
    assert evaluation.figures["eval_recall_1"] == pytest.approx(3 / 5)
    assert evaluation.figures["eval_chance_1"] == pytest.approx(1 / 3)
    assert evaluation.figures["eval_recall_5"] == evaluation.figures["eval_chance_5"] == 1.0
    assert evaluation.figures["eval_contrast"] > 0
    assert evaluation.pictures["pairs"].height > 5 * 32


def test_evaluation_takes_batches_as_large_as_training():
    config = replace(CONFIG, data=PairDataConfig(sources=(), pairs=PairConfig(side=32, batch=2)))
    stage, batch = make(config, pairs(4)), pairs(4)
    parts = [
        PairBatch(
            images=batch.images[i : i + 2],
            captions=batch.captions[i : i + 2],
            samples=batch.samples[i : i + 2],
        )
        for i in (0, 2)
    ]
    with torch.no_grad():
        expected = sum(stage(part).sums["contrast"].item() for part in parts) / 4
        assert stage.evaluate().figures["eval_contrast"] == pytest.approx(expected, rel=1e-5)


def test_it_exports_a_tower_that_gives_the_same_tokens(tmp_path):
    stage = make().eval()
    stage.export(tmp_path)
    tower = load_vision_tower(tmp_path / "tower")
    assert tower.encoder.config.position_side == 2
    patches = torch.randn(8, 768, generator=torch.Generator().manual_seed(0))
    packing = Packing.of([(2, 2)] * 2)
    with torch.no_grad():
        expected = stage.pool(stage.encoder(patches, packing), packing)
        assert torch.equal(tower.pool(tower.encoder(patches, packing), packing), expected)


def test_build_reads_bytes_unless_told_otherwise():
    stage = build(CONFIG, Inputs(), pairs())
    assert stage.tokenize(("é",)) == [[195, 169]]
    with pytest.raises(ModelError, match=r"no-such-folder: no config\.json of transformers here"):
        build(replace(CONFIG, tokenizer="no-such-folder"), Inputs(), pairs())
    with pytest.raises(ModelError, match=r"no config\.json of transformers here; name a folder"):
        build(replace(CONFIG, text="sentence", sentence="no-such-folder"), Inputs(), pairs())
    with pytest.raises(ModelError, match=r"no config\.json of transformers here; name a folder"):
        build(replace(CONFIG, features_weight=1.0, features="no-such"), Inputs(), pairs())


def test_a_tokenizer_must_fit_the_vocabulary(tmp_path):
    from transformers import BertConfig, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "cats"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertConfig().save_pretrained(tmp_path)
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = replace(CONFIG, tokenizer=str(tmp_path))
    stage = build(config, Inputs(), pairs())
    assert stage.tokenize(("rain", "cats rain")) == [[2, 5, 3], [2, 6, 5, 3]]
    narrow = replace(CONFIG.text_tower, vocabulary=4)
    with pytest.raises(ModelError, match="has 7 tokens, but the text tower's vocabulary is 4"):
        build(replace(config, text_tower=narrow), Inputs(), pairs())


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="positions are for 48 pixels a side, but images have 32"):
        replace(CONFIG, encoder=replace(CONFIG.encoder, position_side=3))
    with pytest.raises(ValueError, match="of one width, but they have 32 and 64"):
        replace(CONFIG, pool=replace(CONFIG.pool, width=64))
    with pytest.raises(ValueError, match="text_tower must say its shape"):
        replace(CONFIG, text_tower=None)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("text", ["own", "sentence"])
def test_it_overfits_eight_pairs(text):
    batch = pairs(8)
    stage = make(replace(CONFIG, text=text, features_weight=0.5), batch)
    optimizer = torch.optim.AdamW(stage.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(200):
        sums = stage(batch).sums
        total = sum(weight * sums[name] / 8 for name, weight in stage.weights.items())
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(stage.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        figures = stage.eval().evaluate().figures
    assert figures["eval_recall_1"] == 1.0
    assert figures["eval_chance_1"] == 1 / 8
    assert figures["eval_features"] < 0.05


def test_it_goes_on_from_an_encoder_with_another_grid():
    start = Encoder(replace(CONFIG.encoder, position_side=5))
    stage = ContrastStage(CONFIG, pairs(), tokenize=as_bytes, start=start)
    assert stage.encoder.config == CONFIG.encoder
    torch.testing.assert_close(stage.encoder.patch_embed.weight, start.patch_embed.weight)
    assert stage.encoder.patch_embed.weight is not start.patch_embed.weight


def test_a_start_of_another_shape_is_refused():
    start = Encoder(replace(CONFIG.encoder, depth=1))
    with pytest.raises(ModelError, match="the start's encoder is"):
        ContrastStage(CONFIG, pairs(), tokenize=as_bytes, start=start)
