"""The projector into the language model gives what the official code gave."""

import pytest
import torch

from viq.mllm.projector import projector_from_official
from viq.model.packing import Packing

STATE = "projector/state/"


@pytest.fixture
def projector(ops):
    state = {k.removeprefix(STATE): v for k, v in ops.items() if k.startswith(STATE)}
    return projector_from_official(state, "ops.npz")


def grids(ops, pool):
    prefix = f"projector/{pool}x/"
    names = {name.removeprefix(prefix).split("/")[0] for name in ops if name.startswith(prefix)}
    assert len(names) >= 2
    return sorted(tuple(map(int, name.split("x"))) for name in names)


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_tokens_of_packed_images(ops, projector, pool):
    sizes = grids(ops, pool)
    features, expected = (
        torch.cat([ops[f"projector/{pool}x/{h}x{w}/{kind}"] for h, w in sizes])
        for kind in ("in", "out")
    )
    with torch.no_grad():
        tokens = projector(features, Packing.of(sizes), pool)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_marks_stand_where_they_stood(ops, projector, pool):
    for h, w in grids(ops, pool):
        layout = ops[f"projector/{pool}x/{h}x{w}/layout"]
        with torch.no_grad():
            tokens = projector(ops[f"projector/{pool}x/{h}x{w}/in"], Packing.of([(h, w)]), pool)
        for number, mark in ((0, projector.begin), (2, projector.newline), (3, projector.end)):
            assert torch.equal((tokens == mark).all(-1), layout == number)


def test_gradients(ops, projector):
    features = ops["projector/grad/in"].clone().requires_grad_()
    out = projector(features, Packing.of([(4, 6)]), 2)
    (out * ops["projector/grad/w"]).sum().backward()
    for found, name in (
        (features.grad, "grad_in"),
        (projector.newline.grad, "grad_newline"),
        (projector.scorer.fc1.weight.grad, "grad_pool0"),
    ):
        expected = ops[f"projector/grad/{name}"]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
