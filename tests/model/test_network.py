from dataclasses import replace

import pytest
import torch

from viq.model.head import QuantizerConfig
from viq.model.network import Network
from viq.model.packing import Packing
from viq.model.presets import PRESETS, giant, nano, so400m
from viq.model.quantizers import CODEBOOKS

PACKING = Packing.of([(2, 3), (1, 1), (3, 2)])


def with_quantizer(quantizer):
    config = nano()
    return replace(
        config,
        encoder=replace(config.encoder, depth=1),
        head=replace(config.head, quantizer=quantizer),
        embedder=replace(config.embedder, quantizer=quantizer),
    )


@pytest.mark.parametrize(
    ("quantizer", "latent_width"),
    [
        (QuantizerConfig(levels=CODEBOOKS["16k"]), 5),
        (QuantizerConfig(levels=CODEBOOKS["64k"], bottleneck=128), 6),
        (QuantizerConfig(levels=None, bottleneck=128, limit="l_inf"), 128),
        (QuantizerConfig(levels=None, bottleneck=32, limit="tanh"), 32),
    ],
    ids=["direct", "nested", "proximal", "tanh"],
)
def test_every_kind_of_quantizer_runs_and_trains(quantizer, latent_width):
    network = Network(with_quantizer(quantizer))
    output = network(torch.randn(13, 768), PACKING)
    assert output.latents.shape == (13, 4, latent_width)
    assert output.embedded.shape == output.features.shape == (13, 256)
    vae_latents = network.latent_head(output.embedded, PACKING)
    assert [tuple(x.shape) for x in vae_latents] == [(16, 4, 6), (16, 2, 2), (16, 6, 4)]
    torch.cat([x.flatten() for x in vae_latents]).sum().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_proximal_latents_lie_on_the_hypercube_and_have_no_codes():
    head = Network(with_quantizer(QuantizerConfig(levels=None, bottleneck=64, limit="l_inf"))).head
    latents = head(torch.randn(13, 256), PACKING)
    torch.testing.assert_close(latents.abs().amax(-1), torch.ones(13, 4))
    with pytest.raises(ValueError, match="proximal head has no levels"):
        head.quantize(latents)


def test_codes_embed_to_what_training_saw():
    network = Network(nano()).eval()
    with torch.no_grad():
        output = network(torch.randn(13, 768), PACKING)
        codes = network.head.quantize(output.latents).codes
        torch.testing.assert_close(network.embedder(codes), output.embedded, atol=1e-5, rtol=1e-5)


def test_levels_and_a_limit_exclude_each_other():
    with pytest.raises(ValueError, match="do not go with limit 'l_inf'"):
        QuantizerConfig(levels=(8, 8), bottleneck=128, limit="l_inf")
    with pytest.raises(ValueError, match="levels, a bottleneck, or both"):
        QuantizerConfig(levels=None)


def test_head_and_embedder_must_share_a_quantizer():
    config = nano("64k")
    with pytest.raises(ValueError, match="must share a quantizer"):
        replace(config, embedder=nano("2k").embedder)


@pytest.mark.parametrize(
    ("preset", "encoder_millions"), [(giant, 1133 + 25), (so400m, 411 + 20), (nano, 5.2)]
)
def test_presets_have_the_parameters_that_were_counted(preset, encoder_millions):
    with torch.device("meta"):
        network = Network(preset())
    millions = sum(p.numel() for p in network.encoder.parameters()) / 1e6
    assert millions == pytest.approx(encoder_millions, rel=0.01)


def test_the_giant_head_has_the_released_parameters():
    with torch.device("meta"):
        network = Network(giant("16k"))
    parts = (network.head, network.embedder)
    millions = sum(p.numel() for part in parts for p in part.parameters()) / 1e6
    assert millions == pytest.approx(277.0, abs=0.1)
    assert network.head.config.rope_width == 256


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_every_codebook(name):
    for codebook, levels in CODEBOOKS.items():
        assert PRESETS[name](codebook).head.quantizer.levels == levels
