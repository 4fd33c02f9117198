import math

import pytest
import torch

from viq.model.packing import Packing
from viq.training.letters import ALPHABET, FRAMES, LetterReader

WIDTH = 32
PACKING = Packing.of([(2, 3), (1, 4), (2, 2)])


@pytest.fixture
def reader():
    torch.manual_seed(0)
    return LetterReader(WIDTH)


@pytest.fixture
def features():
    torch.manual_seed(1)
    return torch.randn(PACKING.offsets[-1], WIDTH)


def test_each_column_has_its_frames_and_each_frame_adds_up_to_one(reader, features):
    logs = reader(features[:6], (2, 3))
    assert logs.shape == (3 * FRAMES, len(ALPHABET) + 2)
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(3 * FRAMES))


def test_the_loss_of_a_letter_is_that_of_all_ways_to_write_it(reader, features):
    """One letter in T frames: any run of it between blanks."""
    logs = reader(features[6:10], (1, 4)).double()
    letter, frames = ALPHABET.index("g") + 2, len(logs)
    ways = [
        sum(logs[t, letter if first <= t <= last else 0] for t in range(frames))
        for first in range(frames)
        for last in range(first, frames)
    ]
    expected = -torch.logsumexp(torch.stack(ways), 0)
    found = reader.loss(features, PACKING, (None, "g", None))
    torch.testing.assert_close(found.double(), expected)


def test_each_line_counts_once_whatever_its_length(reader, features):
    both = reader.loss(features, PACKING, ("abc", None, "Z"))
    alone = [
        reader.loss(features, PACKING, lines) for lines in (("abc", None, None), (None, None, "Z"))
    ]
    torch.testing.assert_close(both, sum(alone))


def test_without_lines_there_is_no_loss_and_nothing_to_be_right(reader, features):
    lines = (None, None, None)
    assert reader.loss(features, PACKING, lines) == 0
    assert math.isnan(reader.exact(features, PACKING, lines))


def test_a_line_too_long_for_its_picture_is_no_loss(reader, features):
    assert reader.loss(features, PACKING, ("x" * 100, None, None)) == 0


def test_lines_are_learnt_and_read_exactly(reader, features):
    lines = ("To be", "£5 ☃", "llama")  # with a letter of no alphabet, and doubled ones
    optimizer = torch.optim.Adam(reader.parameters(), lr=0.02)
    assert reader.exact(features, PACKING, lines) == 0
    for _ in range(150):
        optimizer.zero_grad()
        reader.loss(features, PACKING, lines).backward()
        optimizer.step()
    assert reader.exact(features, PACKING, lines) == 1
    assert reader.exact(features, PACKING, ("To be", "£5 ☃", "lama")) == pytest.approx(2 / 3)
