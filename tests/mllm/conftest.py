"""A tiny language model on disk, and samples for it."""

from pathlib import Path

import pytest
import torch

from viq.external.language_model import tiny_language_model


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory) -> Path:
    """A random two-layer Llama with a tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("lm")
    tiny_language_model(folder)
    return folder


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, whichever ran before."""
    torch.manual_seed(0)
