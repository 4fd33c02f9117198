from dataclasses import replace

import pytest
import torch

from viq.model.fold import fold
from viq.model.head import QuantizerConfig
from viq.model.layers import gradient_checkpointing
from viq.model.network import Network
from viq.model.packing import Packing
from viq.model.presets import PRESETS, giant, nano, released, so400m
from viq.model.quantizers import CODEBOOKS

PACKING = Packing.of([(2, 3), (1, 1), (3, 2)])


def awake(network):
    """The network with every residual branch at work, as after some training."""
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network


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
    network = awake(Network(with_quantizer(quantizer)))
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


SIMVQ = QuantizerConfig(levels=None, bottleneck=24, limit="l_inf", codebook_size=50)


def test_simvq_trains_one_codebook_for_head_and_embedder():
    network = awake(Network(with_quantizer(SIMVQ)))
    output = network(torch.randn(13, 768), PACKING)
    assert output.latents.shape == (13, 4, 24)
    assert output.codes.max() < 50
    entries = network.head.quantizer.entries(output.codes)
    (output.embedded.sum() + (entries - output.latents).square().sum()).backward()
    assert network.head.quantizer.transform.grad.any()
    assert network.head.project_in.weight.grad.any()
    with torch.no_grad():
        network.head.quantizer.transform.mul_(2)
        embedded = network.embedder(network.head.quantize(output.latents).codes)
        represented = network.head.quantize(output.latents).values
        torch.testing.assert_close(embedded, network.embedder.embed_values(represented))


@pytest.mark.parametrize("code_heads", [1, 4])
@pytest.mark.parametrize("positions", ["rope", "learned", "none"])
def test_every_position_goes_with_one_code_head_and_four(code_heads, positions):
    config = nano()
    head = replace(config.head, code_heads=code_heads, positions=positions)
    embedder = replace(config.embedder, code_heads=code_heads)
    network = awake(Network(replace(config, head=head, embedder=embedder)))
    patches = torch.randn(13, 768)
    output = network(patches, PACKING)
    assert output.codes.shape == (13, code_heads)
    # Whether a patch's code depends on where it is, all else being equal.
    features = torch.randn(1, 256).expand(6, 256)
    latents = network.head(features, Packing.of([(2, 3)]))
    moves = not torch.allclose(latents, latents[:1].expand_as(latents), atol=1e-5)
    assert moves == (positions == "learned")  # equal values attended to give no rotation away
    turned = network.head(output.features.flip(0), Packing.of([(13, 1)])).flip(0)
    straight = network.head(output.features, Packing.of([(13, 1)]))
    assert torch.allclose(turned, straight, atol=1e-4) == (positions == "none")


def test_what_comes_after_the_encoder_starts_as_identity():
    network = Network(nano())
    rows, tokens = torch.randn(13, 256), torch.randn(13, 4, 64)
    rotation = network.head.angles(PACKING, like=tokens)
    for block in (*network.head.blocks, *network.latent_head.blocks):
        assert torch.equal(block(rows, PACKING), rows)
    for block in network.head.code_blocks:
        assert torch.equal(block(tokens, PACKING, rotation), tokens)
    for mlp in network.embedder.residual_mlps:
        assert torch.equal(mlp(rows), rows)
    for block in network.encoder.blocks:
        assert not torch.equal(block(rows, PACKING), rows)


def test_blocks_that_start_as_identity_wake_up():
    """Zero stays zero where two maps in a row are zero; here only the last of a branch is."""
    config = released(64, 1, 128, QuantizerConfig(levels=(8, 8)), attention_heads=4, rope_width=32)
    network = Network(replace(config, latent_head=None, pool=None))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    patches = torch.randn(13, 768)
    for _ in range(2):
        optimizer.zero_grad()
        network(patches, PACKING).embedded.square().mean().backward()
        optimizer.step()
    asleep = [n for n, p in network.named_parameters() if not p.grad.any()]
    assert asleep == []


def test_gradient_checkpointing_changes_no_gradient():
    network = awake(Network(with_quantizer(QuantizerConfig(levels=(8, 8), bottleneck=16))))
    patches, gradients = torch.randn(13, 768), []
    for on in (False, True):
        gradient_checkpointing(network, on)
        network.zero_grad()
        embedded = network(patches, PACKING).embedded
        torch.cat([x.flatten() for x in network.latent_head(embedded, PACKING)]).sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_gradient_checkpointing_runs_blocks_again():
    network, runs = Network(nano()), []
    network.encoder.blocks[2].mlp.fc1.register_forward_hook(lambda *_: runs.append(1))
    for on, expected in ((False, 1), (True, 2)):
        runs.clear()
        gradient_checkpointing(network, on)
        network(torch.randn(13, 768), PACKING).embedded.sum().backward()
        assert len(runs) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folding_gives_the_same_codes_and_features(dtype):
    nested = awake(Network(with_quantizer(QuantizerConfig(levels=(8, 8, 5), bottleneck=32))))
    nested = nested.to(dtype).eval()
    folded = fold(nested)
    assert folded.config == with_quantizer(QuantizerConfig(levels=(8, 8, 5)))
    assert folded.head.reduce is folded.embedder.expand is None
    patches, packing = torch.randn(600, 768, dtype=dtype), Packing.of([(20, 30)])
    with torch.no_grad():
        before, after = nested(patches, packing), folded(patches, packing)
        latents = nested.head.quantizer.bound(before.latents)
        away = ((latents - latents.floor() - 0.5).abs() > 1e-4).all(-1)  # from any edge
        assert away.float().mean() > 0.99
        assert torch.equal(before.codes[away], after.codes[away])
        own, expected = folded.embedder(before.codes), nested.embedder(before.codes)
        assert (own - expected).abs().max() < 1e-6 * expected.abs().max()


def test_only_nested_networks_are_folded():
    for quantizer in (
        QuantizerConfig(levels=(8, 8)),
        SIMVQ,
        QuantizerConfig(levels=None, bottleneck=8),
    ):
        network = Network(with_quantizer(quantizer))
        assert fold(network) is network


def test_levels_and_a_limit_exclude_each_other():
    with pytest.raises(ValueError, match="do not go with limit 'l_inf'"):
        QuantizerConfig(levels=(8, 8), bottleneck=128, limit="l_inf")
    with pytest.raises(ValueError, match="levels, a bottleneck, or both"):
        QuantizerConfig(levels=None)
    with pytest.raises(ValueError, match="codebook_size 9 is SimVQ's; give one of the two"):
        QuantizerConfig(levels=(8, 8), bottleneck=128, codebook_size=9)


def test_head_and_embedder_must_share_a_quantizer():
    config = nano("64k")
    with pytest.raises(ValueError, match="must share a quantizer"):
        replace(config, embedder=nano("2k").embedder)


@pytest.mark.parametrize(
    ("preset", "encoder_millions"), [(giant, 1133 + 25), (so400m, 411 + 20), (nano, 4.66)]
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
