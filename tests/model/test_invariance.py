"""A picture's values before rounding do not depend on its batch or on the threads, bit for bit."""

import random

import pytest
import torch

from viq.model.head import QuantizerConfig
from viq.model.layers import Gelu, Linear
from viq.model.network import Network
from viq.model.packing import Packing
from viq.model.presets import nano, released

GRIDS = [(1, 1), (1, 2), (2, 2), (2, 4), (3, 5), (4, 4), (7, 3), (2, 20), (10, 6), (1, 1), (2, 2)]
ODD = released(  # narrow heads, widths that are no power of two
    96, 2, 360, QuantizerConfig(levels=(8, 8, 5)), position_side=7, rope_width=32
)


@pytest.fixture
def threads():
    """Restores the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def latents_of(network, images, which):
    packing = Packing.of(GRIDS[i] for i in which)
    with torch.no_grad():
        features = network.encoder(torch.cat([images[i] for i in which]), packing)
        return packing.split(network.head(features, packing))


@pytest.mark.parametrize("config", [nano(), ODD], ids=["nano", "odd widths"])
def test_values_before_rounding_are_the_same_alone_and_in_any_batch(config, threads):
    torch.manual_seed(0)
    network = Network(config).eval()
    images = [torch.randn(h * w, 3 * 16 * 16) for h, w in GRIDS]
    alone = [latents_of(network, images, [i])[0] for i in range(len(GRIDS))]
    draw = random.Random(0)
    compared = 0
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for size in (1, 2, 5, len(GRIDS)):
            which = draw.sample(range(len(GRIDS)), size)
            for i, latents in zip(which, latents_of(network, images, which), strict=True):
                assert torch.equal(latents, alone[i]), (count, GRIDS[i])
                compared += 1
    assert compared == 3 * (1 + 2 + 5 + len(GRIDS))


@pytest.mark.parametrize(("width", "out"), [(768, 256), (256, 6), (64, 24), (100, 72)])
def test_a_row_of_a_product_is_the_same_from_one_row_up(width, out, threads):
    torch.manual_seed(0)
    linear, rows = Linear(width, out).requires_grad_(False), torch.randn(600, width)
    whole = linear(rows)
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for number in (1, 2, 3, 5, 11, 64, 255, 256, 257, 600):
            assert torch.equal(linear(rows[:number]), whole[:number]), (count, number)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_gelu_of_a_value_is_the_same_wherever_it_stands(activation, threads):
    gelu, rows = Gelu(activation), torch.randn(700, 135)
    with torch.no_grad():
        whole = gelu(rows)
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for number in (1, 7, 243, 699):
                assert torch.equal(gelu(rows[-number:]), whole[-number:]), (count, number)
