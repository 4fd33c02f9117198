"""From configs to steps: phases, crops, pairs."""

import json
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from viq.data.config import (
    ImageDataConfig,
    PairDataConfig,
    PhaseConfig,
    TextDataConfig,
    phase_steps,
)
from viq.data.crops import CropConfig
from viq.data.curriculum import (
    held_out,
    image_loader,
    open_sources,
    text_loader,
)
from viq.data.pairs import PairConfig
from viq.data.readers import patch_reader
from viq.data.sources import SourceConfig
from viq.errors import InputError

READER = partial(patch_reader, patch_size=16)
ONE = {"lanes_total": 1, "lanes": range(1)}
TWO = {"lanes_total": 2, "lanes": range(2)}


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer(pad_token="<|pad|>", eos_token="<|im_end|>")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two sources: 9 captioned pictures, one of them damaged, and 7 texts alone."""
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for number in range(9):
        pixels = rng.integers(0, 256, (*rng.integers(20, 90, 2), 3), np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
        (folder / "pictures" / f"{number}.txt").write_text(f"number {number} " * (number + 1))
    (folder / "pictures" / "3.png").write_bytes(b"damaged")
    lines = [
        {
            "id": f"t{number}",
            "conversations": [
                {"from": "human", "value": "Say it."},
                {"from": "gpt", "value": "it " * (3 + 5 * number)},
            ],
        }
        for number in range(7)
    ]
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return (
        SourceConfig(name="pictures", path=str(folder / "pictures"), kind="folder"),
        SourceConfig(name="texts", path=str(folder / "texts.jsonl")),
    )


def phase_of(**changes):
    fields = {
        "area": 64 * 64,
        "pool": 4,
        "seq_len": 256,
        "max_patches": 64,
        "weights": {"pictures": 2.0, "texts": 1.0},
        "tokens": 256 * 6,
    }
    return PhaseConfig(**{**fields, **changes})


@pytest.fixture
def config(sources):
    phases = (phase_of(), phase_of(area=96 * 96, pool=2, seq_len=384, weights={"pictures": 1.0}))
    return TextDataConfig(sources=sources, phases=phases, workers=0, open_packs=2, seed=3)


def saved(data):
    return json.loads(json.dumps(data.state_dict()))


def assert_same(steps, expected):
    assert len(steps) == len(expected) > 0
    for a, b in zip(steps, expected, strict=True):
        assert (a.phase, a.errors) == (b.phase, b.errors)
        for x, y in zip(a.batches, b.batches, strict=True):
            assert (x.samples, x.lengths, x.packing) == (y.samples, y.lengths, y.packing)
            for name in ("rows", "input_ids", "labels", "image_positions"):
                assert torch.equal(getattr(x, name), getattr(y, name))


def test_a_phase_has_the_steps_that_its_budget_fills():
    phase = phase_of(tokens=1000, seq_len=100)
    assert [phase_steps(phase, lanes) for lanes in (1, 2, 3, 4)] == [10, 5, 4, 3]


def test_phases_follow_each_other(config, tokenizer, caplog):
    data = text_loader(config, tokenizer, READER, **TWO)
    assert data.steps == 3 + 2
    with caplog.at_level(logging.INFO, "viq"):
        steps = list(data)
    assert [step.phase for step in steps] == [0, 0, 0, 1, 1]
    for step in steps:
        phase = config.phases[step.phase]
        assert {len(batch.input_ids) for batch in step.batches} == {phase.seq_len}
        assert {batch.pool for batch in step.batches} == {phase.pool}
    later = {id for step in steps[3:] for batch in step.batches for id in batch.samples}
    assert {id.split("/")[0] for id in later} == {"pictures"}
    errors = [step.errors for step in steps]
    assert errors == sorted(errors)
    assert errors[-1] == len(data.errors) >= caplog.text.count("is left out") > 0  # each once
    assert {id for id, _ in data.errors} == {"pictures/3.png"}
    assert caplog.text.count("samples in open packs are left") == 2
    assert list(data) == []


@pytest.mark.parametrize(("at", "workers"), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (2, 2)])
def test_a_run_goes_on_in_the_phase_and_the_packs_where_it_stopped(config, tokenizer, at, workers):
    whole = list(text_loader(config, tokenizer, READER, **TWO))
    config = replace(config, workers=workers)
    stopped = text_loader(config, tokenizer, READER, **TWO)
    steps = iter(stopped)
    assert_same([next(steps) for _ in range(at)], whole[:at])
    state = saved(stopped)
    assert {lane["phase"] for lane in state.values()} == {0 if at <= 3 else 1}
    stopped.close()
    resumed = text_loader(config, tokenizer, READER, **TWO)
    resumed.load_state_dict(state)
    assert saved(resumed) == state
    rest = list(resumed)
    assert len(rest) == 5 - at
    if rest:
        assert_same(rest, whole[at:])


def test_two_processes_see_what_one_with_two_lanes_sees(config, tokenizer):
    whole = list(text_loader(config, tokenizer, READER, **TWO))
    apart = [
        list(text_loader(config, tokenizer, READER, lanes_total=2, lanes=range(n, n + 1)))
        for n in range(2)
    ]
    for step, first, second in zip(whole, *apart, strict=True):
        assert first.errors + second.errors == step.errors
        assert [b.samples for b in first.batches + second.batches] == [
            b.samples for b in step.batches
        ]


def test_phases_shuffle_anew(sources, tokenizer):
    phase = phase_of(weights={"texts": 1.0}, tokens=256 * 8)
    config = TextDataConfig(sources=sources, phases=(phase, phase), workers=0)
    steps = list(text_loader(config, tokenizer, READER, **ONE))
    first, second = ([step.batches[0].samples for step in steps if step.phase == p] for p in (0, 1))
    assert first != second


def test_a_position_beyond_the_phases_is_refused(config, tokenizer):
    state = saved(text_loader(config, tokenizer, READER, **ONE))
    state["0"]["phase"] = 1
    fewer = replace(config, phases=config.phases[:1])
    with pytest.raises(InputError, match=r"is in phase 1 \(from 0\), but this run has 1 phases"):
        text_loader(fewer, tokenizer, READER, **ONE).load_state_dict(state)


def test_weights_of_sources_that_are_not_there_are_refused(sources, tokenizer):
    config = TextDataConfig(
        sources=sources, phases=(phase_of(weights={"pictures": 1.0, "x": 1.0}),)
    )
    with pytest.raises(InputError, match="weights name 'x', but the sources are 'pictures', 'text"):
        text_loader(config, tokenizer, READER, **ONE)


def test_two_sources_of_one_name_are_refused(sources):
    with pytest.raises(InputError, match="texts: two sources have this name"):
        open_sources((sources[1], sources[1]))


def test_crops_come_for_as_many_steps_as_asked(sources):
    crops = CropConfig(sizes=((16, 16),), pixels=1024)
    config = ImageDataConfig(sources=sources[:1], crops=crops, workers=0)
    data = image_loader(config, steps=7, **TWO)
    steps = list(data)
    assert data.steps == len(steps) == 7  # more than an epoch
    assert {batch.images.shape for step in steps for batch in step.batches} == {(4, 3, 16, 16)}
    assert {step.phase for step in steps} == {0}
    other = ImageDataConfig(sources=sources[:1], crops=crops, workers=0, seed=1)
    again = next(iter(image_loader(other, steps=7, **TWO)))
    assert not torch.equal(again.batches[0].images, steps[0].batches[0].images)


def test_pairs_have_images_and_captions(sources):
    config = PairDataConfig(sources=sources[:1], pairs=PairConfig(side=32, batch=3), workers=0)
    (step,) = image_loader(config, steps=1, **ONE)
    (batch,) = step.batches
    assert batch.images.shape == (3, 3, 32, 32)
    for caption, id in zip(batch.captions, batch.samples, strict=True):
        assert caption.startswith(f"number {id.removeprefix('pictures/').removesuffix('.png')}")


def test_sources_without_weights_come_as_often_as_they_have_samples(sources):
    config = ImageDataConfig(sources=sources, workers=0)
    with image_loader(config, steps=1, **ONE) as loader:
        assert set(loader.state_dict()["0"]["samples"].items()) == {("pictures", 9), ("texts", 7)}
    config = ImageDataConfig(sources=sources, weights={"pictures": 2.0}, workers=0)
    with image_loader(config, steps=1, **ONE) as loader:
        assert loader.state_dict()["0"]["samples"] == {"pictures": 9}


def test_the_evaluation_reads_as_many_of_each_source(sources):
    opened = open_sources(sources)
    ids = [sample.id for sample in held_out(opened, 5)]
    assert [id.split("/")[0] for id in ids] == ["pictures"] * 2 + ["texts"] * 3
    assert held_out({}, 5) == []


def test_the_evaluation_reports_what_it_cannot_read(caplog):
    class Damaged:
        name = "damaged"

        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise InputError("is damaged", f"damaged/{index}")

    assert held_out({"damaged": Damaged()}, 5) == []
    assert caplog.text.count("left out of the evaluation: damaged/") == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"area": 0}, "area is 0; it must be a positive integer"),
        ({"tokens": 1e9}, "tokens is 1000000000.0; it must be a positive integer"),
        ({"pool": 3}, "pool is 3; it must be 1, 2 or 4"),
        ({"weights": {}}, "weights is empty; name at least one source"),
        ({"weights": {"a": 0.0}}, r"weights are \{'a': 0.0\}; one must be positive"),
        ({"weights": {"a": -1.0, "b": 1.0}}, "one must be positive, and none negative"),
    ],
)
def test_phases_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        phase_of(**wrong)


def test_configs_that_cannot_be_are_refused(sources):
    with pytest.raises(ValueError, match="phases is empty; there must be at least one"):
        TextDataConfig(sources=sources, phases=())
    with pytest.raises(ValueError, match="workers is -1; it must be 0 or more"):
        ImageDataConfig(sources=sources, workers=-1)
    with pytest.raises(ValueError, match=r"weights are .* none negative"):
        ImageDataConfig(sources=sources, weights={"pictures": -1.0})
    with pytest.raises(ValueError, match=r"weights are .* none negative"):
        PairDataConfig(
            sources=sources, weights={"pictures": 0.0}, pairs=PairConfig(side=8, batch=1)
        )
