"""One training step of the stages: the official code's losses on the tiny model, and gradients.

It leaves small squares out of the reconstruction loss, which it takes for placeholders, and
shows the teacher images without their padding. Here neither is done, so the step is two batches:
all images, whose teacher tokens are made of unpadded images, and those that count there.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from viq.checkpoint import VisionTower
from viq.convert.official import convert_official, model_rules
from viq.convert.tensors import rename
from viq.data.batch import Batch
from viq.data.config import PhaseConfig, TextDataConfig
from viq.data.sources import SourceConfig
from viq.image import patchify, prepare
from viq.model.encoder import Encoder
from viq.model.packing import Packing
from viq.model.presets import released_shape
from viq.training.handover import network_of
from viq.training.loop import LoopConfig
from viq.training.losses import distillation
from viq.training.stages.proximal import CodesConfig, CodesStage
from viq.training.stages.text_aligned import Company, Teacher

TEACHER_SIDE = 24  # patches; it sees every image squashed to 384 x 384 pixels
SMALL = 256  # pixels; smaller squares are placeholders there


@pytest.fixture(scope="module")
def official(golden):
    with np.load(golden / "tiny16k" / "train.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def gradient_norms(golden):
    manifest = json.loads((golden / "tiny16k" / "manifest.json").read_text())
    return manifest["grad_norms"]


@pytest.fixture(scope="module")
def tokenizer(golden):
    """One of its own, whose parameters get gradients."""
    return convert_official(golden / "tiny16k")


@pytest.fixture(scope="module")
def teacher(tokenizer, official):
    """The tower itself, with another position grid."""
    encoder = tokenizer.part("encoder")
    with torch.device("meta"):
        frozen = Encoder(replace(encoder.config, position_side=TEACHER_SIDE))
    grid = official["teacher_pos_embed"].unflatten(0, (TEACHER_SIDE, TEACHER_SIDE))
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    frozen.load_state_dict(state | {"positions.weight": grid}, assign=True)
    return Teacher(VisionTower(frozen, tokenizer.part("pool")))


@pytest.fixture(scope="module")
def teacher_tokens(teacher, images):
    """Semantic tokens (7, C) of the images without padding."""
    return teacher(images).clone()


class Answers(nn.Module):
    """Stands in for the teacher, which the official code shows other pixels."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens

    def forward(self, images):
        assert len(images) == len(self.tokens)
        return self.tokens


@pytest.fixture(scope="module")
def stage(tokenizer, teacher_tokens, teacher):
    phase = PhaseConfig(
        area=SMALL**2, pool=1, seq_len=1, max_patches=256, weights={"tiny": 1.0}, tokens=1
    )
    data = TextDataConfig(sources=(SourceConfig(name="tiny", kind="synthetic"),), phases=(phase,))
    config = CodesConfig(data=data, loop=LoopConfig(), shape=released_shape(64), text_weight=0.0)
    tower = VisionTower(teacher.encoder, teacher.pool)
    company = Company(teacher=tower, vae=tokenizer.vae())
    stage = CodesStage(config, network_of(tokenizer), set(), company)
    assert stage.weights == {"distil": 10.0, "recon": 1.0}
    stage.teacher = lambda: Answers(teacher_tokens)
    return stage


def batch_of(images, config):
    prepared = [prepare(image, config) for image in images]
    none = torch.zeros(0, dtype=torch.int64)
    patches = torch.cat([patchify(one.pixels, 16) for one in prepared])
    return Batch(
        samples=(),
        rows=patches,  # not rounded to uint8: grey is half a step
        packing=Packing.of(one.grid_size for one in prepared),
        pool=1,
        input_ids=none,
        labels=none,
        lengths=(),
        image_positions=none,
    )


@pytest.fixture(scope="module")
def step(stage, tokenizer, images):
    """Losses of one step, after its backward pass."""
    batch = batch_of(images, tokenizer.config.image)
    distances = stage(batch).sums["distil"] / stage.counts(batch)["distil"]

    def is_counted(image):
        h, w = prepare(image, tokenizer.config.image).grid_size
        return not h == w < SMALL // 16

    teacher, stage.teacher = stage.teacher, None
    counted = batch_of([i for i in images if is_counted(i)], tokenizer.config.image)
    rec = stage(counted).sums["recon"] / stage.counts(counted)["recon"]
    stage.teacher = teacher
    cls = stage.weights["distil"] * distances
    (cls + stage.weights["recon"] * rec).backward()
    with torch.no_grad():
        output = stage.network(batch.pixels, batch.packing)
        students = stage.pool(output.embedded, batch.packing)
        embedder = stage.network.embedder
        before_affine = (output.embedded - embedder.shift) / embedder.scale
    return {
        "cls": cls.detach(),
        "rec": rec.detach(),
        "student_tokens": students,
        "features": batch.packing.split(output.features),
        "before_affine": batch.packing.split(before_affine),
    }


@pytest.fixture(scope="module")
def gradients(stage, tokenizer, step):
    """Gradients by the official names, in this package's shapes."""
    found = {name: parameter.grad for name, parameter in stage.network.named_parameters()}
    rules = model_rules(tokenizer.config.network)
    return {rename(name, rules): gradient for name, gradient in found.items()}


def test_teacher_tokens(teacher_tokens, official):
    torch.testing.assert_close(teacher_tokens, official["teacher_cls"], rtol=0, atol=1e-4)


def test_student_tokens(step, official):
    torch.testing.assert_close(step["student_tokens"], official["student_cls"], rtol=0, atol=1e-4)


def test_losses(step, teacher_tokens, official):
    total = step["cls"] + step["rec"]
    assert float(step["cls"]) == pytest.approx(float(official["cls_loss_all"]), abs=1e-4)
    assert float(step["rec"]) == pytest.approx(float(official["rec_loss"]), abs=1e-4)
    assert float(total) == pytest.approx(float(official["total_10cls_plus_rec"]), abs=1e-4)
    without_last = distillation(step["student_tokens"], teacher_tokens)[:-1].mean()
    expected = float(official["cls_loss_mask_last_off"])
    assert 10 * float(without_last) == pytest.approx(expected, abs=1e-4)


def test_features_are_rebuilt_as_well_as_there(step, official):
    for index, (features, rebuilt) in enumerate(
        zip(step["features"], step["before_affine"], strict=True)
    ):
        target = F.layer_norm(features, features.shape[-1:])
        found = float(F.mse_loss(rebuilt, target))
        assert found == pytest.approx(float(official["feat_rec_loss"][index]), abs=1e-4)


def test_gradients_of_all_small_tensors(gradients, official):
    checked = 0
    for name, expected in official.items():
        if not name.startswith("grad/"):
            continue
        found = gradients[name.removeprefix("grad/")].view_as(expected)
        difference = float((found - expected).abs().max())
        assert difference < 1e-4 * max(1.0, float(expected.abs().max())), name
        checked += 1
    assert checked > 100


def test_every_parameter_gets_a_gradient_as_long_as_there(gradients, gradient_norms):
    assert set(gradient_norms) == set(gradients)
    for name, expected in gradient_norms.items():
        assert float(gradients[name].norm()) == pytest.approx(expected, rel=1e-4), name
