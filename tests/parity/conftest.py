"""What several parity tests compare with."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def ops(golden):
    """Single operations of the official code, by name."""
    with np.load(golden / "ops.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="session")
def tiny16k(golden):
    """The tokenizer of the official tiny model, converted from its released files."""
    from viq.convert.official import convert_official

    return convert_official(golden / "tiny16k")


@pytest.fixture(scope="session")
def images(golden):
    """The seven images (3, H, W) that the official tiny model was run on."""
    with np.load(golden / "tiny16k" / "inputs.npz") as file:
        return [torch.from_numpy(file[f"image_{index}"]) for index in range(7)]


@pytest.fixture(scope="session")
def expected(golden):
    """What came out, by name and image."""
    with np.load(golden / "tiny16k" / "expected.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}
