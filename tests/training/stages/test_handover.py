import pytest
import torch
from torch import nn

import viq
from viq.errors import InputError, ModelError
from viq.model.packing import Packing
from viq.training.handover import carry_over, find, has, load_network


def test_parts_are_found_inside_a_run_or_by_their_own_folder(tmp_path):
    part = tmp_path / "run" / "tower"
    part.mkdir(parents=True)
    (part / "config.json").write_text("{}")
    assert find(str(tmp_path / "run"), "tower", "--start", "it") == part
    assert find(str(part), "tower", "--start", "it") == part
    assert has(str(tmp_path / "run"), "tower")
    assert not has(str(tmp_path / "run"), "mllm")
    assert not has(None, "tower")


def test_what_is_missing_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError) as error:
        find(None, "tower", "--start", "the tower")
    assert str(error.value) == (
        "the tower is missing: give --start, a run's folder with tower/ in it, or that folder"
    )
    with pytest.raises(InputError) as error:
        find(str(tmp_path), "vae", "--vae", "the autoencoder")
    assert str(error.value) == (
        f"{tmp_path}: no vae/ and no config.json here; --vae names the autoencoder"
    )


def test_a_saved_tokenizer_becomes_a_network_that_trains(tiny_tokenizer_folder):
    tokenizer = viq.load(tiny_tokenizer_folder)
    network = load_network(tiny_tokenizer_folder)
    for name, tensor in tokenizer.part("head").state_dict().items():
        assert torch.equal(network.head.state_dict()[name], tensor)
    assert network.pool is None
    output = network(torch.randn(4, 768), Packing.of([(2, 2)]))
    output.embedded.sum().backward()
    assert network.encoder.patch_embed.weight.grad.any()


class Both(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body, self.tip = nn.Linear(2, width), nn.Linear(width, 1)


def test_all_that_two_networks_share_is_carried_over():
    start, network = Both(3), Both(3)
    tip = network.tip.weight.clone()
    carried = carry_over(network, start.state_dict(), new=("tip.",))
    assert carried == {"body.weight", "body.bias"}
    assert torch.equal(network.body.weight, start.body.weight)
    assert torch.equal(network.tip.weight, tip)


def test_a_latent_head_may_be_left_behind_but_nothing_else():
    network = Both(3)
    assert carry_over(network, {"latent_head.conv.weight": torch.ones(1)}) == set()
    with pytest.raises(ModelError, match=r"the start has tail.weight, which has no place"):
        carry_over(network, {"tail.weight": torch.ones(1)})


def test_another_shape_is_named_with_both_sizes():
    with pytest.raises(
        ModelError, match=r"the start's body.weight is 4 x 2, this run's is 3 x 2; give both"
    ):
        carry_over(Both(3), Both(4).state_dict())
