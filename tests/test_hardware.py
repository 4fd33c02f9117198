"""Hardware by name."""

import torch

from viq.hardware import hardware


def test_the_processor_has_a_name():
    name = hardware("cpu")
    assert name.strip() == name != ""
    assert hardware(torch.device("cpu")) == name
