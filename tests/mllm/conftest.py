"""A tiny language model on disk, a model around it that reads nano's codes, and pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from viq.external.language_model import tiny_language_model
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel

ADAPTER = AdapterConfig(rank=4, alpha=8, dropout=0.0)


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


@pytest.fixture(scope="session")
def make_reader(lm_folder):
    """Builds models that read nano's codes, with adapters that do something."""

    def make(**changes):
        config = {"lm": str(lm_folder), "tokenizer": "nano", "adapter": ADAPTER} | changes
        torch.manual_seed(0)
        model = MultimodalModel.build(MultimodalConfig(**config)).eval()
        with torch.no_grad():
            for parameter in model.parameter_groups().get("lm", []):
                parameter.add_(torch.randn_like(parameter) / 20)
        return model

    return make


@pytest.fixture(scope="session")
def reader(make_reader):
    """A model that reads nano's codes; tests leave it as it is."""
    return make_reader()


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Three pictures of several sizes."""
    drawn = []
    for number, (width, height) in enumerate([(64, 32), (40, 70), (96, 64)]):
        y, x = np.mgrid[:height, :width]
        values = np.stack([(3 + number) * x, 5 * y, (x + y) << number], -1) % 256
        drawn.append(Image.fromarray(values.astype(np.uint8)))
    return drawn


@pytest.fixture(scope="session")
def codes(reader, pictures):
    """Their codes."""
    return reader.encode(pictures)


def user(*parts):
    """A conversation of one question; ``None`` stands for an image."""
    content = [{"type": "image"} if p is None else {"type": "text", "text": p} for p in parts]
    return [{"role": "user", "content": content}]


@pytest.fixture(scope="session")
def conversations():
    """No image, one, and three between words; with the numbers of their pictures."""
    return [
        (user("What is 1 + 1?"), []),
        (user(None, "What is it?"), [1]),
        (user("Of ", None, " and ", None, " and this one: ", None, " which?"), [2, 0, 1]),
    ]
