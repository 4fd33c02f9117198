from dataclasses import replace

import pytest
import torch

import viq
from viq.checkpoint import save_vision_tower
from viq.errors import InputError, ModelError
from viq.training.handover import load_network
from viq.training.stage import Inputs
from viq.training.stages.proximal import ProximalConfig, ProximalStage, build


@pytest.fixture
def config(toys):
    return ProximalConfig(**toys.common, shape=toys.shape, bottleneck=24)


@pytest.fixture
def stage(toys, config):
    torch.manual_seed(0)
    return ProximalStage(config, toys.tower, toys.company()).eval()


def test_sums_of_a_batch_are_those_of_its_samples(toys, stage, samples):
    batch = toys.batch(samples)
    together, counts = stage(batch).sums, stage.counts(batch)
    assert stage.weights == {"text": 1.0, "distil": 10.0, "recon": 1.0}
    assert set(together) == set(counts) == set(stage.weights)
    apart = [stage(toys.batch([sample])).sums for sample in samples]
    for name, loss in together.items():
        alone = torch.stack([sums[name] for sums in apart]).sum()
        torch.testing.assert_close(loss, alone, rtol=1e-5, atol=1e-5)


def test_features_pass_the_limited_bottleneck(toys, stage, samples):
    batch = toys.batch(samples)
    output = stage.network(batch.pixels, batch.packing)
    assert output.latents.shape == (len(batch.rows), 4, 24)
    torch.testing.assert_close(output.latents.abs().amax(-1), torch.ones(len(batch.rows), 4))
    assert torch.equal(stage.see(batch.pixels, batch.packing).features, output.embedded)
    assert len(stage.network.head.code_blocks) == 0


def test_what_the_tower_had_is_carried_and_the_rest_is_new(toys, stage):
    groups = {name: set(members) for name, members in stage.groups().items()}
    network = stage.network
    assert groups["carried"] == {*network.encoder.parameters(), *network.pool.parameters()}
    parts = (network.head, network.embedder, network.latent_head)
    assert groups["new"] == {p for part in parts for p in part.parameters()}
    for name, tensor in toys.tower.pool.state_dict().items():
        assert torch.equal(tensor, network.pool.state_dict()[name])
    assert groups["lm"]
    assert groups["projector"] == set(stage.mllm.projector.parameters())


@pytest.mark.parametrize("limit", ["none", "l2", "l_inf", "tanh"])
@pytest.mark.parametrize("code_heads", [1, 4])
def test_every_limit_and_number_of_code_heads_trains(toys, config, samples, limit, code_heads):
    shape = replace(toys.shape, code_heads=code_heads)
    config = replace(config, limit=limit, shape=shape, text_weight=0.0)
    stage = ProximalStage(config, toys.tower, toys.company())
    losses = stage(toys.batch(samples[:3]))
    torch.stack(list(losses.sums.values())).sum().backward()
    assert stage.network.head.project_in.weight.grad.any()


@pytest.mark.parametrize("target", ["vae", "pixels", "none"])
def test_every_target_of_the_reconstruction(toys, config, samples, target):
    vae = toys.vae if target == "vae" else None
    batch = toys.batch(samples)
    company = toys.company(vae=vae, validation=batch)
    stage = ProximalStage(replace(config, target=target, text_weight=0.0), toys.tower, company)
    sums, evaluation = stage(batch).sums, stage.eval().evaluate()
    if target == "none":
        assert set(sums) == {"distil"}
        assert stage.latent_head is None
        assert not evaluation.pictures
        return
    features = stage.see(batch.pixels, batch.packing).features
    predicted = stage.latent_head(features, batch.packing)
    for image, size in zip(predicted, batch.packing, strict=True):
        side = 2 if target == "vae" else 16
        assert image.shape == (4 if target == "vae" else 3, side * size[0], side * size[1])
    assert float(sums["recon"].detach()) > 0
    assert "eval_psnr" in evaluation.figures
    picture = evaluation.pictures["reconstruction"]
    assert picture.width > picture.height / 8


def test_a_target_without_its_autoencoder_is_refused(toys, config):
    with pytest.raises(ValueError, match="target 'vae' and the autoencoder do not go together"):
        ProximalStage(config, toys.tower, toys.company(vae=None))
    with pytest.raises(ValueError, match="target 'pixels' and the autoencoder"):
        ProximalStage(replace(config, target="pixels"), toys.tower, toys.company())


def test_the_target_is_the_vaes_mean_of_each_padded_image(toys, stage, samples):
    batch = toys.batch(samples)
    assert len(set(batch.packing.grid_sizes)) > 1
    rows = batch.packing.split(batch.pixels)
    expected, predicted = (
        [],
        stage.latent_head(stage.see(batch.pixels, batch.packing).features, batch.packing),
    )
    for one, (h, w), latents in zip(rows, batch.packing, predicted, strict=True):
        pixels = one.view(h, w, 3, 16, 16).permute(2, 0, 3, 1, 4).reshape(1, 3, 16 * h, 16 * w)
        mean = toys.vae.autoencoder.encode(pixels).latent_dist.mean[0]
        expected.append((latents - mean).square().mean())
    torch.testing.assert_close(stage(batch).sums["recon"], torch.stack(expected).sum())


def test_a_built_stage_is_exported_and_loads(toys, config, samples, tower_run, tmp_path):
    toys.vae.save(tmp_path / "vae")
    inputs = Inputs(start=tower_run, teacher=tower_run, lm=toys.lm, vae=str(tmp_path / "vae"))
    stage = build(config, inputs, samples[:2])
    assert set(stage.evaluate().figures) == {
        "eval_text", "eval_distil", "eval_recon", "eval_psnr", "eval_exact",
    }  # fmt: skip
    stage.export(tmp_path / "run")
    assert (tmp_path / "run" / "mllm" / "config.json").is_file()
    tokenizer = viq.load(tmp_path / "run" / "tokenizer")
    assert tokenizer.config.image.pad_multiple == 32
    assert tokenizer.latents(samples[0].images[0]).shape == (16, 4, 24)
    with pytest.raises(ModelError, match="proximal: it has latents but no codes"):
        tokenizer.encode(samples[0].images[0])
    network = load_network(tmp_path / "run" / "tokenizer")
    for name, tensor in stage.network.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])
    assert all(p.requires_grad for p in network.parameters())


def test_missing_inputs_are_named_with_their_flags(toys, config, tower_run):
    config = replace(config, text_weight=0.0)
    with pytest.raises(InputError, match=r"the teacher, .* is missing: give --teacher") as error:
        build(config, Inputs(start=tower_run), [])
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"the autoencoder .* is missing: give --vae"):
        build(config, Inputs(start=tower_run, teacher=tower_run), [])
    config = replace(config, distil_weight=0.0, recon_weight=0.0)
    with pytest.raises(ValueError, match="every loss is off"):
        build(config, Inputs(start=tower_run), [])


def test_the_language_model_goes_on_from_the_starts(toys, config, tmp_path):
    mllm = toys.mllm()
    torch.nn.init.ones_(mllm.projector.newline)
    mllm.save_pretrained(tmp_path / "mllm")
    save_vision_tower(toys.tower, tmp_path / "tower")
    config = replace(config, distil_weight=0.0, target="none")
    stage = build(config, Inputs(start=str(tmp_path)), [])
    assert torch.equal(stage.mllm.projector.newline, torch.ones(64))
    config = replace(config, adapter=replace(toys.adapter, rank=8))
    with pytest.raises(ModelError, match="give both stages the same adapter"):
        build(config, Inputs(start=str(tmp_path)), [])


@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(toys, config, samples, overfit):
    torch.manual_seed(0)
    batch = toys.batch(samples)
    stage = ProximalStage(config, toys.tower, toys.company(validation=batch))
    before = float(stage(batch).sums["recon"].detach()) / 8
    figures = overfit(stage, batch, 400, 3e-3).figures
    assert figures["eval_text"] < 0.05
    assert figures["eval_exact"] == 1
    assert figures["eval_distil"] < 0.02
    assert figures["eval_recon"] < 0.05 * before


def test_pixels_of_patches_are_regressed_beside_latents(toys, config, samples):
    stage = ProximalStage(replace(config, patch_weight=10.0), toys.tower, toys.company())
    batch = toys.batch(samples)
    squares = batch.packing.split(batch.pixels.square().mean(1))
    expected = sum(one.mean() for one in squares)  # the map is zero at first
    torch.testing.assert_close(stage(batch).sums["patch"].float(), expected.float())
    assert {id(p) for p in stage.to_patches.parameters()} <= {id(p) for p in stage.groups()["new"]}


def test_pixels_of_patches_need_a_latent_head(config):
    with pytest.raises(ValueError, match="patch_weight needs a latent head"):
        replace(config, patch_weight=1.0, target="none")


def test_a_skip_is_laid_along_the_pixels_of_the_first_samples(toys, config, samples):
    stage = ProximalStage(replace(config, skip=3), toys.tower, toys.company())
    encoder, batch = stage.network.encoder, toys.batch(samples)
    features = toys.tower.encoder(batch.pixels, batch.packing)
    assert torch.equal(encoder(batch.pixels, batch.packing), features)  # nothing yet
    stage.begin(samples)
    assert torch.linalg.matrix_rank(encoder.skip.weight) == 3
    laid = encoder.skip.weight.clone()
    again = ProximalStage(
        replace(config, skip=3), toys.tower._replace(encoder=encoder), toys.company()
    )
    again.begin(samples)  # the start's own goes on
    assert torch.equal(again.network.encoder.skip.weight, laid)


def test_a_skip_needs_samples(toys, config):
    stage = ProximalStage(replace(config, skip=3), toys.tower, toys.company())
    with pytest.raises(InputError, match=r"3 directions .* have 0 patches; give --skip 0"):
        stage.begin([])
    with pytest.raises(ValueError, match="skip is -1"):
        replace(config, skip=-1)
    with pytest.raises(ModelError, match="skip is 999, but pixels and features have no more than"):
        ProximalStage(replace(config, skip=999), toys.tower, toys.company())
