"""One training step: the losses of the official code on the tiny model, and their gradients.

The losses themselves are written out here, from the formulas in the golden manifest.
"""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from viq.convert.official import convert_official, model_rules
from viq.convert.tensors import rename
from viq.image import patchify, prepare
from viq.model.encoder import Encoder
from viq.model.packing import Packing

TEACHER_SIDE = 24  # patches; it sees every image squashed to 384 x 384 pixels
SMALL = 256  # pixels; smaller squares are placeholders in training, without a reconstruction loss


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
    tokenizer = convert_official(golden / "tiny16k")
    for name in ("encoder", "pool", "head", "embedder", "latent_head"):
        tokenizer.part(name).requires_grad_()
    return tokenizer


@pytest.fixture(scope="module")
def teacher_tokens(tokenizer, images, official):
    """Semantic tokens (7, C) of the encoder with another position grid."""
    student = tokenizer.part("encoder")
    settings = {**vars(student.config), "position_side": TEACHER_SIDE}
    teacher = Encoder(type(student.config)(**settings))
    weights = student.state_dict()
    grid = official["teacher_pos_embed"].unflatten(0, (TEACHER_SIDE, TEACHER_SIDE))
    teacher.load_state_dict(weights | {"positions.weight": grid})
    side = TEACHER_SIDE * 16
    patches = [
        patchify(F.interpolate(image[None], (side, side), mode="bilinear")[0], 16)
        for image in images
    ]
    packing = Packing.of([(TEACHER_SIDE, TEACHER_SIDE)] * len(images))
    with torch.no_grad():
        return tokenizer.part("pool")(teacher(torch.cat(patches), packing), packing)


@pytest.fixture(scope="module")
def step(tokenizer, images, teacher_tokens):
    """Losses of one step, after its backward pass."""
    prepared = [prepare(image, tokenizer.config.image) for image in images]
    packing = Packing.of(one.grid_size for one in prepared)
    patches = torch.cat([patchify(one.pixels, 16) for one in prepared])
    head, embedder = tokenizer.part("head"), tokenizer.part("embedder")
    features = tokenizer.part("encoder")(patches, packing)
    embedded = embedder.embed_values(head.represent(head(features, packing)))
    student_tokens = tokenizer.part("pool")(embedded, packing)
    vae_latents = tokenizer.part("latent_head")(embedded, packing)

    distances = 1 - F.cosine_similarity(student_tokens, teacher_tokens)
    reconstruction = []
    autoencoder = tokenizer.vae().autoencoder
    for one, predicted in zip(prepared, vae_latents, strict=True):
        height, width = one.pixels.shape[1:]
        if height == width < SMALL:
            continue
        with torch.no_grad():
            posterior = autoencoder.encode(one.pixels[None, :, None]).latent_dist
        mean, logvar = posterior.mean, posterior.logvar
        squares = (predicted[None, :, None] - mean) ** 2  # (1, L, 1, 2h, 2w)
        nll = (math.log(2 * math.pi) + logvar + squares / logvar.exp()).sum((1, 2, 3)) / 2
        reconstruction.append(squares.mean() + 1e-13 * nll.mean())
    losses = {
        "distances": distances,
        "cls": 10 * distances.mean(),
        "rec": torch.stack(reconstruction).mean(),
    }
    (losses["cls"] + losses["rec"]).backward()
    before_affine = (embedded - embedder.shift) / embedder.scale
    return {
        **{name: loss.detach() for name, loss in losses.items()},
        "student_tokens": student_tokens.detach(),
        "features": packing.split(features.detach()),
        "before_affine": packing.split(before_affine.detach()),
    }


@pytest.fixture(scope="module")
def gradients(tokenizer, step):
    """Gradients by the official names, in this package's shapes."""
    found = {
        f"{part}.{name}": parameter.grad
        for part in ("encoder", "pool", "head", "embedder", "latent_head")
        for name, parameter in tokenizer.part(part).named_parameters()
    }
    rules = model_rules(tokenizer.config.network)
    return {rename(name, rules): gradient for name, gradient in found.items()}


def test_teacher_tokens(teacher_tokens, official):
    torch.testing.assert_close(teacher_tokens, official["teacher_cls"], rtol=0, atol=1e-4)


def test_student_tokens(step, official):
    torch.testing.assert_close(step["student_tokens"], official["student_cls"], rtol=0, atol=1e-4)


def test_losses(step, official):
    total = step["cls"] + step["rec"]
    assert float(step["cls"]) == pytest.approx(float(official["cls_loss_all"]), abs=1e-4)
    assert float(step["rec"]) == pytest.approx(float(official["rec_loss"]), abs=1e-4)
    assert float(total) == pytest.approx(float(official["total_10cls_plus_rec"]), abs=1e-4)
    without_last = float(10 * step["distances"][:-1].mean())
    assert without_last == pytest.approx(float(official["cls_loss_mask_last_off"]), abs=1e-4)


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
