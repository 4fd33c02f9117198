"""The decoder stage on a tiny tokenizer of random weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import viq
from viq.data.config import ImageDataConfig
from viq.data.crops import CropBatch
from viq.errors import InputError, ModelError
from viq.external.features import Features
from viq.image import to_image, to_range
from viq.model.discriminator import DiscriminatorConfig
from viq.training.loop import LoopConfig
from viq.training.stage import Inputs
from viq.training.stages.decoder import DecoderConfig, DecoderStage, build

CONFIG = DecoderConfig(
    data=ImageDataConfig(sources=()),
    loop=LoopConfig(steps=1),
    discriminator=DiscriminatorConfig(width=8),
    repa_width=32,
)
PLAIN = replace(CONFIG, perceptual_weight=0.0, adversarial_weight=0.0, repa_weight=0.0)


class Averages(nn.Module):
    """Stands in for a perceptual network: distances of averages over 4 x 4 pixels."""

    def forward(self, a, b):
        return nn.functional.avg_pool2d(a - b, 4).square().mean((1, 2, 3))


class Squares(Features):
    """Stands in for a feature network: the grid's pixels, averaged by square, as 8 features."""

    width, stride = 8, 4

    def _grid(self, pixels, grid_size):
        pooled = nn.functional.adaptive_avg_pool2d(pixels, grid_size).permute(0, 2, 3, 1)
        return torch.cat([pooled, pooled.square(), pooled[..., :2]], -1)


def crops(count=3, seed=0, size=(32, 48)):
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 3, 4, 6, generator=generator)
    images = nn.functional.interpolate(small, size, mode="bilinear").mul(255).to(torch.uint8)
    return CropBatch(images=images, samples=tuple(map(str, range(count))))


@pytest.fixture
def stage(tiny_tokenizer_folder):
    return make(tiny_tokenizer_folder, CONFIG)


def make(folder, config):
    torch.manual_seed(0)
    tokenizer = viq.load(folder)
    return DecoderStage(
        config,
        tokenizer,
        tokenizer.vae(),
        crops(seed=9).images,
        perceptual=Averages() if config.perceptual_weight else None,
        features=Squares() if config.repa_weight else None,
    ).train()


def total_of(stage, batch):
    sums, counts = stage(batch).sums, stage.counts(batch)
    assert sums.keys() == counts.keys()
    return sum(weight * sums[name] / counts[name] for name, weight in stage.weights.items())


def test_weights_are_the_settings_and_every_one_has_its_sum(stage):
    assert stage.weights == {
        "kl": 2.5e-4,
        "pixel": 1.0,
        "perceptual": 1.0,
        "adversarial": 0.1,
        "discriminator": 1.0,
        "repa": 1.5,
    }
    sums = stage(crops()).sums
    assert set(sums) == {*stage.weights, "pixel_psnr"}
    assert all(value.ndim == 0 and value.isfinite() for value in sums.values())
    assert not sums["pixel_psnr"].requires_grad


def test_groups_hold_all_that_trains_and_no_more(stage):
    groups = {name: list(parameters) for name, parameters in stage.groups().items()}
    assert list(groups) == ["latent_head", "vae", "projector", "discriminator"]
    grouped = [p for parameters in groups.values() for p in parameters]
    trained = [p for p in stage.parameters() if p.requires_grad]
    assert {id(p) for p in grouped} == {id(p) for p in trained}
    assert len(grouped) == len(trained)
    assert set(stage.frozen()) == {"encoder", "head", "embedder", "perceptual", "features"}
    autoencoder = stage.vae.autoencoder
    assert not any(p.requires_grad for p in autoencoder.encoder.parameters())
    assert not any(p.requires_grad for p in autoencoder.quant_conv.parameters())
    assert all(p.requires_grad for p in autoencoder.post_quant_conv.parameters())


def test_one_backward_reaches_all_that_trains(stage):
    total_of(stage, crops()).backward()
    gradients = {n: p.grad for n, p in stage.named_parameters() if p.requires_grad}
    assert all(gradient is not None for gradient in gradients.values())
    # At first the pull of real and of decoded crops on the critic's last bias is equal.
    assert [n for n, g in gradients.items() if not g.any()] in (
        [],
        ["discriminator.layers.11.bias"],
    )


@pytest.mark.parametrize(
    ("setting", "names", "groups"),
    [
        ("kl_weight", {"kl"}, set()),
        ("perceptual_weight", {"perceptual"}, set()),
        ("adversarial_weight", {"adversarial", "discriminator"}, {"discriminator"}),
        ("repa_weight", {"repa"}, {"projector"}),
    ],
)
def test_weight_zero_leaves_a_loss_out_with_its_network(
    tiny_tokenizer_folder, setting, names, groups
):
    full = make(tiny_tokenizer_folder, CONFIG)
    stage = make(tiny_tokenizer_folder, replace(CONFIG, **{setting: 0.0}))
    batch = crops()
    assert set(full(batch).sums) - set(stage(batch).sums) == names
    assert set(full.counts(batch)) - set(stage.counts(batch)) == names
    assert set(full.groups()) - set(stage.groups()) == groups


def test_pixels_are_only_measured_when_their_weight_is_zero(tiny_tokenizer_folder):
    stage = make(tiny_tokenizer_folder, replace(CONFIG, pixel_weight=0.0))
    assert "pixel" not in stage.weights
    assert "pixel_psnr" in stage(crops()).sums


def test_the_critic_gets_no_gradient_from_the_picture_and_the_picture_none_from_the_critic(stage):
    sums = stage(crops()).sums
    critic = list(stage.discriminator.parameters())
    head = list(stage.latent_head.parameters())
    grad = torch.autograd.grad
    assert all(
        g is None for g in grad(sums["adversarial"], critic, retain_graph=True, allow_unused=True)
    )
    assert any(g.any() for g in grad(sums["adversarial"], head, retain_graph=True))
    assert all(
        g is None for g in grad(sums["discriminator"], head, retain_graph=True, allow_unused=True)
    )
    assert any(g.any() for g in grad(sums["discriminator"], critic, retain_graph=True))


def test_the_critics_word_counts_from_a_training_forward_on(tiny_tokenizer_folder):
    stage = make(tiny_tokenizer_folder, replace(CONFIG, adversarial_start=2))
    batch = crops()
    words = []
    for _ in range(3):
        sums = stage(batch).sums
        words.append(sums["adversarial"].item())
        assert sums["discriminator"].item() > 0
    assert words[:2] == [0.0, 0.0]
    assert words[2] != 0.0
    assert int(stage.state_dict()["forwards"]) == 3
    stage.eval()
    stage(batch)
    assert int(stage.forwards) == 3


def test_sums_add_up_over_the_images_of_a_batch(tiny_tokenizer_folder):
    stage = make(tiny_tokenizer_folder, CONFIG).eval()  # no noise
    batch = crops(4)
    halves = [replace(batch, images=batch.images[i : i + 2]) for i in (0, 2)]
    with torch.no_grad():
        whole = stage(batch).sums
        parts = [stage(half).sums for half in halves]
    assert whole
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)


def test_checkpointing_gives_the_same_gradients(tiny_tokenizer_folder):
    gradients = []
    for on in (False, True):
        stage = make(tiny_tokenizer_folder, PLAIN).eval()  # no noise
        if on:
            stage.gradient_checkpointing()
        total_of(stage, crops()).backward()
        gradients.append([p.grad for p in stage.latent_head.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_training_samples_and_evaluation_takes_the_mean(tiny_tokenizer_folder):
    stage = make(tiny_tokenizer_folder, PLAIN)
    batch = crops()
    assert stage(batch).sums["pixel"] != stage(batch).sums["pixel"]
    stage.eval()
    assert stage(batch).sums["pixel"] == stage(batch).sums["pixel"]


def test_kl_is_that_of_a_gaussian_to_the_standard_one(tiny_tokenizer_folder):
    stage = make(tiny_tokenizer_folder, PLAIN).eval()
    batch = crops()
    posteriors, original = [], stage.latent_head.to_posteriors

    def spy(*inputs):
        posteriors.extend(original(*inputs))
        return posteriors

    stage.latent_head.to_posteriors = spy
    with torch.no_grad():
        found = stage(batch).sums["kl"]
    normal = torch.distributions.Normal
    nats = [
        torch.distributions.kl_divergence(
            normal(p.mean, torch.exp(p.log_variance / 2)), normal(0.0, 1.0)
        ).sum()
        for p in posteriors
    ]
    torch.testing.assert_close(found, sum(nats) / (2 * 3))  # patches of an image
    assert posteriors[0].log_variance.mean().item() == pytest.approx(CONFIG.log_variance)


def test_at_the_start_it_decodes_what_the_tokenizer_does(tiny_tokenizer_folder):
    stage = make(tiny_tokenizer_folder, PLAIN).eval()
    tokenizer = viq.load(tiny_tokenizer_folder)
    pixels = crops(1).images.float().div(127.5).sub(1)
    with torch.no_grad():
        found = to_image(stage.reconstruct(pixels)[0])
    assert found.tobytes() == tokenizer.decode(tokenizer.encode(pixels[0])).tobytes()


def test_it_exports_a_tokenizer_of_the_same_codes(tiny_tokenizer_folder, tmp_path):
    stage = make(tiny_tokenizer_folder, CONFIG)
    optimizer = torch.optim.SGD([p for p in stage.parameters() if p.requires_grad], lr=1e-2)
    total_of(stage, crops()).backward()
    optimizer.step()
    stage.eval().export(tmp_path)
    before, after = viq.load(tiny_tokenizer_folder), viq.load(tmp_path / "tokenizer")
    assert after.fingerprint == before.fingerprint
    assert after.config.network.latent_head.variance
    pixels = crops(1).images.float().div(127.5).sub(1)
    codes = after.encode(pixels[0])
    assert (codes.values == before.encode(pixels[0]).values).all()
    decoded = after.decode(before.encode(pixels[0]))
    assert decoded.tobytes() != before.decode(codes).tobytes()
    with torch.no_grad():
        assert decoded.tobytes() == to_image(stage.reconstruct(pixels)[0]).tobytes()


def test_evaluation_says_quality_and_rate_and_shows_crops(stage):
    with torch.no_grad():
        evaluation = stage.eval().evaluate()
    assert set(evaluation.figures) == {"eval_psnr", "eval_ssim", "eval_hed", "eval_bpp"}
    assert evaluation.figures["eval_bpp"] == 4 * 16 / 256
    assert 0 < evaluation.figures["eval_psnr"] < 40
    assert evaluation.pictures["crops"].height > 3 * 32


def test_build_starts_from_a_run_or_a_saved_tokenizer(tiny_tokenizer_folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "tokenizer").symlink_to(tiny_tokenizer_folder)
    images = crops().images
    for start in (run, tiny_tokenizer_folder):
        stage = build(PLAIN, Inputs(start=str(start)), images)
        assert stage.perceptual is None
        assert stage.latent_head.config.variance
    vae = build(PLAIN, Inputs(start=str(run), vae=str(tiny_tokenizer_folder / "vae")), images).vae
    assert any(p.requires_grad for p in vae.parameters())


def test_a_decoder_run_can_be_the_start_of_another(tiny_tokenizer_folder, tmp_path):
    make(tiny_tokenizer_folder, PLAIN).export(tmp_path)
    stage = build(PLAIN, Inputs(start=str(tmp_path)), crops().images)
    assert stage.latent_head.conv.out_channels == 2 * 16 * 4


def test_what_does_not_fit_is_named(tiny_tokenizer_folder, tmp_path):
    images = crops().images
    with pytest.raises(InputError, match="the tokenizer to decode is missing: give --start"):
        build(PLAIN, Inputs(), images)
    from diffusers import AutoencoderKL

    AutoencoderKL(latent_channels=4, norm_num_groups=1, block_out_channels=(4,)).save_pretrained(
        tmp_path / "vae"
    )
    with pytest.raises(
        ModelError, match="VAE has 4 latent channels, but the latent head predicts 16"
    ):
        build(PLAIN, Inputs(start=str(tiny_tokenizer_folder), vae=str(tmp_path / "vae")), images)


def test_a_proximal_tokenizer_has_nothing_to_decode(tiny_tokenizer, tmp_path):
    from viq import Tokenizer
    from viq.model.head import QuantizerConfig
    from viq.model.network import Network

    quantizer = QuantizerConfig(levels=None, bottleneck=8, limit="l_inf")
    config = tiny_tokenizer.config.network
    network = Network(
        replace(
            config,
            head=replace(config.head, quantizer=quantizer),
            embedder=replace(config.embedder, quantizer=quantizer),
        )
    )
    Tokenizer.from_network(network, tiny_tokenizer.config.image).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is proximal: it has no codes to decode"):
        build(PLAIN, Inputs(start=str(tmp_path)), crops().images)


def test_autocast_does_not_change_the_codes_that_are_decoded(tiny_tokenizer_folder):
    stage, images = make(tiny_tokenizer_folder, PLAIN), to_range(crops().images)
    expected, _ = stage._embed(images)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = stage._embed(images)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["dc", "qwen"])
def test_other_autoencoders_train_as_well(tiny_tokenizer_folder, kind):
    import diffusers

    from viq.external.vae import Vae, small_vae

    vae = small_vae()
    if kind == "qwen":
        vae = Vae(diffusers.AutoencoderKLQwenImage(base_dim=4, z_dim=16, num_res_blocks=1))
    torch.manual_seed(0)
    stage = DecoderStage(PLAIN, viq.load(tiny_tokenizer_folder), vae, crops().images).train()
    total_of(stage, crops()).backward()
    parameters = list(stage.groups()["vae"])
    assert parameters
    assert all(p.grad is not None for p in parameters)
    assert not any(p.requires_grad for p in vae.autoencoder.encoder.parameters())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_overfits_eight_crops(tiny_tokenizer_folder):
    stage = make(tiny_tokenizer_folder, replace(CONFIG, adversarial_weight=0.01))
    batch = crops(8)
    parameters = [p for p in stage.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.0)
    figures = []
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / 400)
        sums = stage(batch).sums
        figures.append({k: v.item() / 8 for k, v in sums.items()})
        total = sum(weight * sums[name] / 8 for name, weight in stage.weights.items())
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    assert figures[-1]["pixel"] < 0.05 * figures[0]["pixel"]
    assert figures[-1]["repa"] < 0.5 * figures[0]["repa"]
