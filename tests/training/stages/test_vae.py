"""Stages vae and reconstruct: losses, groups, evaluation, export."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

import viq
from viq.data.config import ImageDataConfig
from viq.data.crops import CropBatch
from viq.data.sources import SourceConfig
from viq.errors import InputError
from viq.external.vae import load_vae, small_vae
from viq.model.presets import nano
from viq.training.loop import LoopConfig
from viq.training.optim import OptimConfig, parameter_groups
from viq.training.stage import Inputs
from viq.training.stages import reconstruct, vae

DATA = ImageDataConfig(sources=(SourceConfig(name="any", kind="synthetic"),))
LOOP = LoopConfig(steps=1, dtype="float32")
SMALL = replace(nano(), encoder=replace(nano().encoder, depth=1))


def crops(count=3):
    images = torch.randint(0, 256, (count, 3, 32, 64), dtype=torch.uint8)
    return CropBatch(images=images, samples=("",) * count)


def new_vae_stage():
    return vae.build(vae.VaeConfig(data=DATA, loop=LOOP), Inputs(), crops(2).images)


def new_reconstruct_stage(**changes):
    config = reconstruct.ReconstructConfig(data=DATA, loop=LOOP, network=SMALL, **changes)
    return reconstruct.ReconstructStage(config, small_vae(), crops(2).images)


@pytest.mark.parametrize("new", [new_vae_stage, new_reconstruct_stage])
def test_sums_over_a_batch_are_those_of_its_halves(new):
    torch.manual_seed(0)
    stage, batch = new(), crops(4)
    with torch.no_grad():
        whole = stage(batch).sums
        halves = [
            stage(CropBatch(images=part, samples=("",) * 2)).sums for part in batch.images.split(2)
        ]
    assert whole.keys() == stage.counts(batch).keys()
    assert whole.keys() >= stage.weights.keys()
    for name, value in whole.items():
        torch.testing.assert_close(value, sum(half[name] for half in halves), rtol=1e-4, atol=1e-4)


def test_the_vae_is_one_group_and_all_of_it_trains():
    stage = new_vae_stage()
    (decay, rest) = parameter_groups(stage, OptimConfig())
    total = sum(p.numel() for p in stage.parameters())
    assert {decay["name"], rest["name"]} == {"all"}
    assert sum(p.numel() for group in (decay, rest) for p in group["params"]) == total


def test_the_vaes_evaluation_shows_originals_beside_reconstructions():
    stage = new_vae_stage().eval()
    with torch.no_grad():
        evaluation = stage.evaluate()
    assert evaluation.figures.keys() == {"eval_psnr", "eval_latent_std"}
    assert 0 < evaluation.figures["eval_psnr"] < 20
    assert evaluation.pictures["reconstructions"].width > 2 * 64


def test_the_vae_that_is_exported_loads_and_decodes_the_same(tmp_path):
    stage = new_vae_stage().eval()
    stage.export(tmp_path)
    loaded = load_vae(tmp_path / "vae")
    latents = torch.randn(1, 16, 4, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded.decode(latents), stage.vae.decode(latents))


def test_reconstruct_trains_the_vaes_decoder_and_not_its_encoder():
    stage = new_reconstruct_stage()
    names = {name for name, p in stage.named_parameters() if not p.requires_grad}
    assert names
    assert all(name.startswith("vae.autoencoder.encoder") for name in names)


def test_without_pixels_the_decoder_rests_and_is_left_out():
    stage = new_reconstruct_stage(pixel_weight=0.0)
    assert not any(p.requires_grad for p in stage.vae.parameters())
    assert stage(crops()).sums.keys() == {"latent", "patch", "patch_psnr"}
    assert stage.weights == {"latent": 2.0, "patch": 10.0}


def test_a_share_of_the_crops_is_decoded_and_counted():
    stage = new_reconstruct_stage(pixel_share=0.5)
    counts = stage.counts(crops(4))
    assert (counts["latent"], counts["pixel"]) == (4, 2)
    assert stage.counts(crops(1))["pixel"] == 1


def test_what_reconstruct_exports_is_a_working_tokenizer(tmp_path):
    stage = new_reconstruct_stage().eval()
    with torch.no_grad():
        evaluation = stage.evaluate()
    assert evaluation.figures.keys() == {"eval_patch_psnr", "eval_psnr"}
    assert "reconstructions" in evaluation.pictures
    stage.export(tmp_path)
    tokenizer = viq.load(tmp_path / "tokenizer")
    picture = Image.new("RGB", (50, 40), "red")
    assert tokenizer.decode(tokenizer.encode(picture)).size == (50, 40)
    assert stage.network.encoder.patch_embed.weight.dtype == torch.float32  # as it was


def test_reconstruct_asks_for_an_autoencoder():
    config = reconstruct.ReconstructConfig(data=DATA, loop=LOOP, network=SMALL)
    with pytest.raises(InputError, match="the autoencoder is missing: give --vae"):
        reconstruct.build(config, Inputs(), crops().images)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("new", "lr"), [(new_vae_stage, 3e-3), (new_reconstruct_stage, 1e-3)])
def test_it_overfits_eight_crops(new, lr):
    """Smooth pictures: noise does not fit into the latents of a patch."""
    torch.manual_seed(0)
    coarse = torch.rand(8, 3, 4, 8)
    smooth = torch.nn.functional.interpolate(coarse, (32, 64), mode="bicubic").clamp(0, 1)
    batch = CropBatch(images=(255 * smooth).round().to(torch.uint8), samples=("",) * 8)
    stage = new()
    optimizer = torch.optim.AdamW(parameter_groups(stage, OptimConfig()), lr=lr, weight_decay=0.0)
    errors = []
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / 300)
        sums = stage(batch).sums
        errors.append(sums["pixel"].item())
        total = sum(weight * sums[name] / 8 for name, weight in stage.weights.items())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(stage.parameters(), 1.0)
        optimizer.step()
    assert errors[-1] < 0.03 * errors[0]
