from dataclasses import replace

import torch

from viq.model.encoder import Encoder
from viq.model.packing import Packing
from viq.model.presets import nano

PACKING = Packing.of([(2, 3), (1, 1)])


def test_a_skip_adds_a_map_of_the_pixels_which_is_nothing_at_first():
    config = replace(nano().encoder, depth=1)
    torch.manual_seed(0)
    with_skip = Encoder(replace(config, skip=True))
    without = Encoder(replace(config, skip=False))
    missing = without.load_state_dict(with_skip.state_dict(), strict=False)
    assert missing.unexpected_keys == ["skip.weight", "skip.bias"]
    patches = torch.randn(7, 768)
    features = without(patches, PACKING)
    assert torch.equal(with_skip(patches, PACKING), features)
    torch.nn.init.normal_(with_skip.skip.weight, std=0.1)
    expected = features + patches @ with_skip.skip.weight.T
    torch.testing.assert_close(with_skip(patches, PACKING), expected, atol=1e-4, rtol=1e-4)
