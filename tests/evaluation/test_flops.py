"""What is counted from shapes is what torch counts as the real networks run.

In float64, where no rows are filled up with zeros; attention by the kernel that writes all scores.
"""

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from viq.evaluation import flops
from viq.external.vae import Vae, small_vae
from viq.model.head import QuantizerConfig
from viq.model.latent_head import LatentHead, LatentHeadConfig
from viq.model.network import Network
from viq.model.packing import Packing
from viq.model.presets import nano, released

GRIDS = [(10, 20), (10, 10)]
LENGTHS = [200, 100]
QUANTIZERS = {
    "direct": QuantizerConfig(levels=(8, 8, 5)),
    "nested": QuantizerConfig(levels=(8, 8, 5), bottleneck=20),
    "proximal": QuantizerConfig(levels=None, bottleneck=20, limit="l_inf"),
    "SimVQ": QuantizerConfig(levels=None, bottleneck=20, limit="l_inf", codebook_size=600),
}


def small(quantizer):
    return released(64, 2, 96, quantizer, attention_heads=4, rope_width=32)


def counted(function, *arguments):
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", ["nano", *QUANTIZERS])
def test_each_part_of_a_network_costs_what_torch_counts(kind):
    config = nano() if kind == "nano" else small(QUANTIZERS[kind])
    network, packing = Network(config).double().eval(), Packing.of(GRIDS)
    patches = torch.randn(sum(LENGTHS), 3 * 16 * 16, dtype=torch.float64)
    features = torch.randn(sum(LENGTHS), config.encoder.width, dtype=torch.float64)
    head, embedder, quantizer = network.head, network.embedder, config.head.quantizer
    tokens = sum(LENGTHS) * config.head.code_heads
    latents = head(features, packing).detach()

    assert flops.encoder(config.encoder, LENGTHS).both == counted(network.encoder, patches, packing)
    assert flops.head(config.head, LENGTHS).both == counted(head, features, packing)
    assert flops.latent_head(config.latent_head, LENGTHS).both == counted(
        network.latent_head, features, packing
    )
    if head.quantizer is None:
        inputs = (embedder.embed_values, latents)
    else:
        inputs = (embedder, head.quantize(latents).codes)
        assert flops.rounding(quantizer, tokens).both == counted(head.quantize, latents)
    assert flops.embedder(config.embedder, sum(LENGTHS)).both == counted(*inputs)


def test_a_latent_head_with_a_variance_convolves_twice_as_much():
    config = LatentHeadConfig(width=64, attention_heads=2, mlp_width=96, depth=1, variance=True)
    features = torch.randn(sum(LENGTHS), 64, dtype=torch.float64)
    real = counted(LatentHead(config).double(), features, Packing.of(GRIDS))
    assert flops.latent_head(config, LENGTHS).both == real


def tiny_kl():
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
    )


def tiny_qwen():
    return AutoencoderKLQwenImage(base_dim=8, z_dim=16, dim_mult=[1, 2, 2, 2], num_res_blocks=1)


@pytest.mark.parametrize(
    "make",
    [small_vae, lambda: Vae(tiny_kl()), lambda: Vae(tiny_qwen())],
    ids=["AutoencoderDC", "AutoencoderKL", "AutoencoderKLQwenImage"],
)
def test_a_vae_s_decoder_costs_what_torch_counts_as_it_decodes(make):
    vae = make().eval()
    real = counted(vae.decode, torch.randn(1, 16, 6, 8))
    assert flops.vae_decoder(vae, (16, 6, 8)).both == real > 0


def test_codes_of_fsq_are_rounded_without_a_product():
    assert flops.rounding(QUANTIZERS["direct"], 1000) == flops.Flops(0, 0)
